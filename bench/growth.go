package main

import (
	"context"
	"fmt"
)

// point is one measurement of a series: the whole way under some load.
type point struct {
	label   string
	load    load
	workers int
}

// series is how the whole way's rate depends on one thing, all else equal.
type series struct {
	name   string
	what   string // x is
	points []point
}

const frameSize = "frame size"

// feedRate is the packets a second of a feed that fills 10 Gbit/s with inner
// frames of so many bytes.
func feedRate(inner float64) float64 {
	const (
		overhead = 14 + 20 + 8 + 8 // Ethernet, IPv4, GRE with sequence, ERSPAN II
		wire     = 8 + 4 + 12      // preamble, check sequence, gap
	)
	return 10e9 / 8 / (inner + overhead + wire)
}

func (b *bench) growthSeries() []series {
	size := series{name: frameSize, what: "inner bytes"}
	for _, n := range []int{64, 128, 256, 512, 1024, 1400} {
		l := load{Title: fmt.Sprintf("%d bytes", n), Sizes: []int{n}}
		size.points = append(size.points, point{fmt.Sprint(n), l, 1})
	}
	feeds := series{name: "feeds", what: "feeds"}
	for _, n := range []int{1, 16, 256, 4096} {
		l := load{Title: fmt.Sprintf("%d feeds", n), Sizes: load64.Sizes, Flows: 2048, Feeds: n}
		feeds.points = append(feeds.points, point{fmt.Sprint(n), l, 1})
	}
	flows := series{name: "flows", what: "inner flows"}
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		l := load{Title: fmt.Sprintf("%d flows", n), Sizes: load64.Sizes, Flows: n}
		flows.points = append(flows.points, point{fmt.Sprint(n), l, 1})
	}
	workers := series{name: "workers", what: "workers, all on one CPU"}
	for _, n := range []int{1, 2, 4} {
		l := load{Title: fmt.Sprintf("%d workers", n), Sizes: load64.Sizes}
		workers.points = append(workers.points, point{fmt.Sprint(n), l, n})
	}
	return []series{size, feeds, flows, workers}
}

// growth measures the whole way with more of one thing at a time.
func (b *bench) growth(ctx context.Context) error {
	t := table{
		Title:   "Growth of the whole way",
		Columns: []string{"of", "number", "Mpps", "spread", "ns per packet", "CPU ns per packet", "lost %"},
		Note:    "64 inner bytes where nothing else is said, offered as fast as the generator goes. Nanoseconds per packet are the time from one delivered packet to the next, generator included; CPU nanoseconds are those of the receiver and its softirq. The table of frames that the generator copies from grows with flows, so that series shows the generator's cache misses too.",
	}
	cores := table{
		Title:   "Cores for a mirror feed of 10 Gbit/s",
		Columns: []string{"inner bytes", "Mpps of the feed", "kernel ns", "worker ns", "cores receiving", "cores working"},
		Note:    "Reckoned from the nanoseconds measured above: the feed is ERSPAN II at 10 Gbit/s on the wire, with preamble, check sequence and gap. Kernel is softirq: veth in place of a NIC's driver, XDP, the copy to the socket. Worker is its whole CPU time, naps and waking included.",
	}
	picture := chart{Name: "growth", Title: "The whole way, with more of one thing at a time", Unit: "Mpps"}
	for _, s := range b.growthSeries() {
		rates, costs, losses := make([]sample, len(s.points)), make([]sample, len(s.points)), make([]sample, len(s.points))
		kernel := make([]sample, len(s.points))
		for range b.plan.growthRounds {
			for i, p := range s.points {
				work := b.pipeline()
				work.Workers = p.workers
				out, err := b.rig.measure(ctx, work, offer{Load: p.load, Warm: b.plan.warm, Window: b.plan.window})
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], out.rate())
				costs[i] = append(costs[i], out.per(out.CPU))
				kernel[i] = append(kernel[i], out.per(out.Softirq))
				losses[i] = append(losses[i], 100*out.loss())
			}
		}
		for i, p := range s.points {
			r := rates[i]
			if s.name == frameSize {
				rate := feedRate(p.load.mean())
				ns, all := kernel[i].median(), costs[i].median()
				cores.row(p.label, mega(rate), fmt.Sprintf("%.0f", ns), fmt.Sprintf("%.0f", all-ns),
					fmt.Sprintf("%.1f", rate*ns/1e9), fmt.Sprintf("%.1f", rate*(all-ns)/1e9))
			}
			picture.add(s.what, p.label, r.median()/1e6)
			t.row(s.name, p.label, mega(r.median()), scaled(r, 1e-6).spread("%.2f"),
				fmt.Sprintf("%.0f", 1e9/max(r.median(), 1)), fmt.Sprintf("%.0f", costs[i].median()), fmt.Sprintf("%.3f", losses[i].median()))
		}
	}
	b.report.add(t)
	b.report.add(cores)
	b.report.draw(picture)
	return nil
}
