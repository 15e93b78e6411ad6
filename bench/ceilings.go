package main

import (
	"context"
	"fmt"
	"time"
)

// circulations are the numbers of frames that the loops are tried with: few are
// hot, many are deep.
var circulations = []int{256, 512, 1024, 2048}

// ceilings measures what AF_XDP can give on this cable, and how much of that
// the whole way reaches: one after the other, round by round.
func (b *bench) ceilings(ctx context.Context) error {
	rates := table{
		Title: "Ceilings and the whole way, offered as fast as the generator goes",
		Columns: []string{"inner frames", "receiver", "Mpps", "spread", "Gbit/s inner", "lost %",
			"of the reading loop", "spread"},
		Note: "Delivered packets, median of the rounds. Quotients are taken round by round. One feed, ERSPAN II, veth native, AF_XDP copy mode; generator and NAPI on CPU 0, receiver on CPU 1.",
	}
	picture := chart{Name: "ceilings", Title: rates.Title, Unit: "Mpps"}
	for _, l := range b.plan.loads {
		if err := b.ceiling(ctx, l, &rates, &picture); err != nil {
			return err
		}
	}
	b.report.add(rates)
	b.report.draw(picture)
	return nil
}

func (b *bench) ceiling(ctx context.Context, l load, rates *table, picture *chart) error {
	contenders := b.wanted([]task{{Receiver: bareLoop}, {Receiver: readingLoop}, b.pipeline()})
	o := offer{Load: l, Warm: b.plan.warm, Window: b.plan.window}
	for i, t := range contenders {
		if t.Receiver == pipeline {
			continue
		}
		n, err := b.bestCirculation(ctx, t, o)
		if err != nil {
			return err
		}
		contenders[i].Frames = n
	}
	rate, loss := map[string]sample{}, map[string]sample{}
	for range b.plan.rounds {
		for _, t := range contenders {
			out, err := b.rig.measure(ctx, t, o)
			if err != nil {
				return err
			}
			rate[t.Receiver] = append(rate[t.Receiver], out.rate())
			loss[t.Receiver] = append(loss[t.Receiver], out.loss())
		}
	}
	for _, t := range contenders {
		name, r := t.Receiver, rate[t.Receiver]
		if t.Frames > 0 {
			name = fmt.Sprintf("%s, %d frames", name, t.Frames)
		}
		of := r.over(rate[readingLoop])
		picture.add(l.Title, t.Receiver, r.median()/1e6)
		rates.row(l.Title, name,
			mega(r.median()), scaled(r, 1e-6).spread("%.2f"),
			fmt.Sprintf("%.1f", r.median()*l.mean()*8/1e9),
			fmt.Sprintf("%.3f", 100*loss[t.Receiver].median()),
			fmt.Sprintf("%.2f", of.median()), of.spread("%.2f"))
	}
	for name, ceiling := range map[string]string{"pipeline_over_ceiling_": readingLoop, "pipeline_over_bare_": bareLoop} {
		if of := rate[pipeline].over(rate[ceiling]); len(of) > 0 {
			b.report.figure(name+l.Name, of.median())
		}
	}
	return nil
}

// pipeline is the whole way with one worker, into files in memory.
func (b *bench) pipeline() task {
	return task{Receiver: pipeline, Directory: b.rig.directory, Workers: 1, Frames: b.frames, Profile: b.profile}
}

// bestCirculation tries a loop with each number of frames, shortly.
func (b *bench) bestCirculation(ctx context.Context, t task, o offer) (best int, err error) {
	o.Warm, o.Window = 100*time.Millisecond, 300*time.Millisecond
	highest := 0.0
	for _, t.Frames = range circulations {
		out, err := b.rig.measure(ctx, t, o)
		if err != nil {
			return 0, err
		}
		if rate := out.rate(); rate > highest {
			best, highest = t.Frames, rate
		}
	}
	return best, nil
}

func mega(v float64) string { return fmt.Sprintf("%.2f", v/1e6) }

func scaled(s sample, factor float64) sample {
	r := make(sample, len(s))
	for i, v := range s {
		r[i] = v * factor
	}
	return r
}
