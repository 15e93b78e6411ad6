package main

import (
	"context"
	"runtime"
)

const dropFloor = "XDP_DROP"

// dropper attaches a program that drops, and does nothing.
type dropper struct{ task task }

func (d *dropper) tally() (tally, error) { return tally{}, nil }

func (d *dropper) run(ready func(), stop <-chan struct{}) error {
	runtime.LockOSThread()
	attached, err := attach(d.task.Ifindex, verdict(xdpDrop))
	if err != nil {
		return err
	}
	ready()
	<-stop
	return attached.Close()
}

// drops measures how many packets a second the kernel half can refuse, next to
// a program that refuses all without looking.
func (b *bench) drops(ctx context.Context) error {
	t := table{
		Title:   "Drops in the kernel",
		Columns: []string{"inner frames", "receiver", "Mpps", "spread"},
		Note:    "Packets that the program dropped, from what the generator sent. By a policy of 10 rules, whose default is to drop: the verdict falls before the strip.",
	}
	rates := map[string]sample{}
	contenders := b.wanted([]task{{Receiver: dropFloor}, {Receiver: droppingPipeline}})
	for range b.plan.rounds {
		for _, c := range contenders {
			out, err := b.rig.measure(ctx, c, offer{Load: load64, Warm: b.plan.warm, Window: b.plan.window})
			if err != nil {
				return err
			}
			arrived := float64(out.Sent.Frames - out.Sent.DeviceDropped)
			rates[c.Receiver] = append(rates[c.Receiver], arrived/out.Sent.Elapsed.Seconds())
		}
	}
	for _, c := range contenders {
		r := rates[c.Receiver]
		t.row(load64.Title, c.Receiver, mega(r.median()), scaled(r, 1e-6).spread("%.2f"))
	}
	if of := rates[droppingPipeline].over(rates[dropFloor]); len(of) > 0 {
		b.report.figure("kernel_drop_over_floor", of.median())
	}
	b.report.add(t)
	return nil
}
