package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/store"
)

// lever is one thing that the whole way could do otherwise.
type lever struct {
	name   string
	config func(*collector.Config) // nil: as it is
	napi   napi                    // of the collector's link
	places int                     // GOMAXPROCS; 0: as it comes
	loose  bool                    // the receiver may run on every CPU
}

// leversPerBase is how many levers are held against one run as it is.
const leversPerBase = 3

// asItIs is what the levers are held against.
const asItIs = "as it is"

// levers are pulled one at a time.
var levers = []lever{
	{name: asItIs},
	{name: "no naps: every sleep ends with a packet's wake-up", config: func(c *collector.Config) { c.Sockets.Nap = 0 }},
	{name: "naps of 200 µs", config: func(c *collector.Config) { c.Sockets.Nap = 200 * time.Microsecond }},
	{name: "busy polling, interrupts deferred", config: busyPoll, napi: napi{deferrals: 2, flush: 200 * time.Microsecond}},
	{name: "interrupts deferred for 50 µs", napi: napi{deferrals: 2, flush: 50 * time.Microsecond}},
	{name: "threaded NAPI", napi: napi{threaded: true}},
	{name: "512 frames circulate", config: circulate(512)},
	{name: "all frames circulate", config: circulate(collector.Default().Sockets.Frames)},
	{name: "plain pages", config: func(c *collector.Config) { c.Sockets.HugePages = false }},
	{name: "16 frames a batch", config: func(c *collector.Config) { c.Batch = 16 }},
	{name: "256 frames a batch", config: func(c *collector.Config) { c.Batch = 256 }},
	{name: "files not made in advance", config: func(c *collector.Config) { c.Store.Prepare = 0 }},
	{name: "a thread that writes", config: func(c *collector.Config) { c.Store.Writer = store.Thread }},
	{name: "chunks of 64 KiB", config: func(c *collector.Config) { c.Store.Chunk = 64 << 10 }},
	{name: "chunks of 4 MiB", config: func(c *collector.Config) { c.Store.Chunk = 4 << 20 }},
	{name: "GOMAXPROCS 1", places: 1},
	{name: "not bound to a CPU", loose: true},
	{name: "no flows", config: func(c *collector.Config) { c.Flows = nil }},
	{name: "nothing written", config: func(c *collector.Config) { c.Write = false }},
}

func busyPoll(c *collector.Config) {
	c.Sockets.BusyPoll, c.Sockets.BusyPollBudget = 20*time.Microsecond, 64
}

func circulate(frames int) func(*collector.Config) {
	return func(c *collector.Config) {
		c.Sockets.CirculationMin, c.Sockets.CirculationMax = frames, frames
	}
}

func leverNamed(name string) (lever, error) {
	for _, l := range levers {
		if l.name == name {
			return l, nil
		}
	}
	return lever{}, fmt.Errorf("lever %q: there is none of this name", name)
}

// leverage measures the whole way with each lever pulled, next to the whole way
// as it is: quotients are of neighbours, or nearly so, in the same round.
func (b *bench) leverage(ctx context.Context) error {
	t := table{
		Title: "Levers: the whole way with one thing changed",
		Columns: []string{"inner frames", "lever", "Mpps", "of as it is", "spread", "CPU ns per packet",
			"of as it is", "spread", "lost %"},
		Note: "Offered as fast as the generator goes. Every lever is divided by the whole way as it is, which is measured anew after every third; generator and NAPI on CPU 0, worker on CPU 1 unless it is not bound.",
	}
	for _, l := range []load{load64, load1400} {
		if !slices.ContainsFunc(b.plan.loads, func(p load) bool { return p.Name == l.Name }) {
			continue
		}
		if err := b.pull(ctx, l, &t); err != nil {
			return err
		}
	}
	b.report.add(t)
	return nil
}

func (b *bench) pull(ctx context.Context, l load, t *table) error {
	type found struct{ rate, cost, loss, rates, costs sample }
	all := make([]found, len(levers))
	o := offer{Load: l, Warm: b.plan.warm / 2, Window: b.plan.window}
	run := func(name string) (outcome, error) {
		work := b.pipeline()
		work.Lever = name
		return b.rig.measure(ctx, work, o)
	}
	for range b.plan.leverRounds {
		var base outcome
		for i, one := range levers {
			if i%leversPerBase == 0 {
				var err error
				if base, err = run(asItIs); err != nil {
					return err
				}
			}
			got := base
			if one.name != asItIs {
				var err error
				if got, err = run(one.name); err != nil {
					return err
				}
			}
			f := &all[i]
			f.rate, f.cost, f.loss = append(f.rate, got.rate()), append(f.cost, got.per(got.CPU)), append(f.loss, 100*got.loss())
			f.rates, f.costs = append(f.rates, base.rate()), append(f.costs, base.per(base.CPU))
		}
	}
	for i, one := range levers {
		f := &all[i]
		rate, cost := f.rate.over(f.rates), f.cost.over(f.costs)
		t.row(l.Title, one.name, mega(f.rate.median()), fmt.Sprintf("%.2f", rate.median()), rate.spread("%.2f"),
			fmt.Sprintf("%.0f", f.cost.median()), fmt.Sprintf("%.2f", cost.median()), cost.spread("%.2f"),
			fmt.Sprintf("%.3f", f.loss.median()))
	}
	return nil
}
