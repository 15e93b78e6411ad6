package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/mirror"
)

// offline measures decapsulating a capture file.
func (b *bench) offline(ctx context.Context) error {
	in := filepath.Join(b.rig.directory, "million.pcap")
	if err := b.writeCapture(in, b.plan.offlinePackets); err != nil {
		return fmt.Errorf("making the capture: %w", err)
	}
	defer os.Remove(in)
	out := filepath.Join(b.rig.directory, "out")
	text, err := json.Marshal([2]string{in, out})
	if err != nil {
		return err
	}
	_, overhead, err := wrapped(bpf.EncapERSPAN2)
	if err != nil {
		return err
	}
	const ours, shark, editor = "unspan decap", "tshark -q -z io,stat,0 (dissects, writes nothing)", "editcap -L -C (cuts so many bytes off, looks at none)"
	contenders := []struct {
		name    string
		command []string
	}{
		{ours, []string{b.rig.self, "-decap", string(text)}},
		{shark, []string{"tshark", "-n", "-r", in, "-q", "-z", "io,stat,0"}},
		{editor, []string{"editcap", "-L", "-C", fmt.Sprint(overhead.overhead), in, out}},
	}
	rates := map[string]sample{}
	for round := range b.plan.offlineRounds {
		for _, c := range contenders {
			if c.name == shark && round > 0 {
				continue // it takes a minute
			}
			if _, err := exec.LookPath(c.command[0]); err != nil {
				b.report.absent(c.name, c.command[0]+" is not installed")
				continue
			}
			start := time.Now()
			if text, err := exec.CommandContext(ctx, c.command[0], c.command[1:]...).CombinedOutput(); err != nil {
				return errors.Join(ctx.Err(), fmt.Errorf("%s: %w: %s", c.name, err, text))
			}
			rates[c.name] = append(rates[c.name], float64(b.plan.offlinePackets)/time.Since(start).Seconds())
			if err := os.RemoveAll(out); err != nil {
				return err
			}
		}
	}
	t := table{Title: "Offline", Columns: []string{"program", "Mpps", "spread"},
		Note: fmt.Sprintf("A pcap file of %d ERSPAN II packets of 64 inner bytes in memory, read once from beginning to end by a new process.", b.plan.offlinePackets)}
	for _, c := range contenders {
		if r := rates[c.name]; len(r) > 0 {
			t.row(c.name, fmt.Sprintf("%.3f", r.median()/1e6), scaled(r, 1e-6).spread("%.3f"))
		}
	}
	b.report.add(t)
	b.report.figure("decap_offline_mpps", rates[ours].median()/1e6)
	if of := rates[ours].over(rates[shark]); len(of) > 0 {
		b.report.figure("decap_vs_tshark", of.median())
	}
	return nil
}

// writeCapture writes a capture of n wrapped packets.
func (b *bench) writeCapture(path string, n int) (err error) {
	s := mirror.DefaultSession(bpf.EncapERSPAN2)
	s.SourceMAC, s.DestinationMAC = b.rig.lab.Mirror.MAC, b.rig.lab.Collector.MAC
	s.Source, s.Destination, s.MTU = exporterAddress, collectorAddress, cableMTU
	w, err := mirror.NewWrapper(s)
	if err != nil {
		return err
	}
	c, err := openCapture(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	frames := load64.frames()
	start := time.Now().Truncate(time.Second)
	var packet []byte
	for i := range n {
		at := start.Add(time.Duration(i) * time.Microsecond)
		packet, err = w.Wrap(packet[:0], frames[i%len(frames)], mirror.Stamp{Number: uint32(i), Time: uint64(at.UnixNano())})
		if err != nil {
			return err
		}
		if err := c.write(at, packet); err != nil {
			return err
		}
	}
	return nil
}

// decapsulate is what unspan decap does, in a process of its own.
func decapsulate(ctx context.Context, text string) error {
	var files [2]string
	if err := json.Unmarshal([]byte(text), &files); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	c := collector.Default()
	c.Settings.AnyDestination = 1
	c.Write, c.Store.Path, c.Version = true, files[1], "bench"
	o, err := collector.NewOffline(c, files[:1])
	if err != nil {
		return err
	}
	if err := o.Run(ctx); err != nil {
		return err
	}
	s := o.Snapshot()
	return s.Check()
}
