package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/policy"
)

type decapCommand struct {
	Files []string `arg:"" help:"Capture files, pcap or pcapng; - for standard input."`
	feedFlags
	writeFlags
	flowFlags
	JSON bool `name:"json" help:"Print the ledger as JSON."`
}

// Run reads the files one after the other as one capture.
func (d *decapCommand) Run(ctx context.Context, e env) error {
	c := collector.Default()
	c.Version, c.Input = version(), e.stdin
	if len(d.Collector) == 0 {
		c.Settings.AnyDestination = 1 // a file has no interface whose addresses would say it
	}
	d.writeFlags.apply(&c)
	if err := d.feedFlags.apply(ctx, &c); err != nil {
		return err
	}
	if d.Policy == "" {
		c.Policy.Loops = policy.LoopKeep // reading a file feeds no mirror
	}
	if err := d.flowFlags.apply(&c, &d.writeFlags, e); err != nil {
		return err
	}
	c.Log = slog.New(slog.NewTextHandler(e.stderr, nil))
	offline, err := collector.NewOffline(c, d.Files)
	if err != nil {
		return err
	}
	if e.tty {
		offline.Progress = progress(e)
	}
	err = offline.Run(ctx)
	if e.tty {
		fmt.Fprint(e.stderr, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	snapshot := offline.Snapshot()
	out := e.stdout
	if d.Write == "-" || d.FlowsJSON == "-" {
		out = e.stderr
	}
	return printLedger(out, &snapshot, d.JSON)
}

// progress draws one line that is rewritten in place.
func progress(e env) func(collector.Progress) {
	start := time.Now()
	return func(p collector.Progress) {
		rate := float64(p.Packets) / time.Since(start).Seconds() / 1e6
		if p.Size > 0 {
			fmt.Fprintf(e.stderr, "\r\x1b[K%s  %3.0f %%  %d packets  %.1f Mpps", p.File, 100*float64(p.Read)/float64(p.Size), p.Packets, rate)
			return
		}
		fmt.Fprintf(e.stderr, "\r\x1b[K%s  %d MiB  %d packets  %.1f Mpps", p.File, p.Read>>20, p.Packets, rate)
	}
}
