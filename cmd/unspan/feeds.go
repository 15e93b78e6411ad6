package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/metrics"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/view"
)

// feedFlags say which feeds are taken and what is done with their frames; the
// same for run and decap.
type feedFlags struct {
	Accept        string         `default:"${accept}" placeholder:"LIST" help:"Encapsulations to take: erspan1, erspan2, erspan3, gre, gre:PROTOCOL, gre-ip, vxlan[:PORT], geneve[:PORT], rspan:VLAN, native (${default})."`
	Collector     []netip.Addr   `placeholder:"ADDR" help:"Addresses that mirror sessions send to. run: those of the interface unless given; decap: any."`
	Exporter      []netip.Prefix `placeholder:"PREFIX" help:"Take feeds from these exporters only."`
	DropStrangers bool           `help:"Drop the feeds of other exporters; else the host gets them."`
	Policy        string         `placeholder:"FILE" type:"existingfile" help:"Policy file: what is kept, dropped, sampled and cut. run: SIGHUP and unspan policy apply replace it."`
	RestoreVLAN   frame.Restore  `name:"restore-vlan" default:"auto" placeholder:"WHEN" help:"Put the 802.1Q tag back: auto (where the sender took it out), never, always."`
	FCS           frame.FCS      `name:"fcs" default:"auto" placeholder:"WHAT" help:"Trailing frame check sequence: auto (detected per feed, stripped), strip, keep, none."`
	Timestamps    clock.Mode     `default:"auto" placeholder:"CLOCK" help:"Whose clock: receive, sender, or auto (the sender's where it is known to be good)."`
	MaxFeeds      int            `default:"4096" hidden:"" help:"Size of the feed table."`
}

// writeFlags say where packets go.
type writeFlags struct {
	Write          string        `short:"w" placeholder:"PATH" help:"Write pcapng to a file, a directory, or - for standard output."`
	RotateSize     size          `placeholder:"SIZE" help:"Begin a new file after this many bytes (K, M, G)."`
	RotateInterval time.Duration `placeholder:"TIME" help:"Begin a new file every interval (60s, 1h)."`
	Prepare        int           `placeholder:"N" help:"Make N files of --rotate-size in advance, where files lie in memory (tmpfs): writing then waits for no memory."`
	Keep           int           `placeholder:"N" help:"Keep the newest N files, remove older ones of this capture."`
}

func (f *feedFlags) apply(ctx context.Context, c *collector.Config) (err error) {
	if err := bpf.Accept(&c.Settings, f.Accept); err != nil {
		return err
	}
	c.Collectors = f.Collector
	if f.Policy != "" {
		c.Policy, err = policy.ReadFile(ctx, f.Policy)
		if err != nil {
			return err
		}
	}
	if err := f.admission(c.Policy); err != nil {
		return err
	}
	c.Timestamps = f.Timestamps
	c.Frame = frame.Config{RestoreVLAN: f.RestoreVLAN, FCS: f.FCS}
	c.MaxFeeds = f.MaxFeeds
	return nil
}

// admission adds to a policy what the command line says of exporters.
func (f *feedFlags) admission(p *policy.Policy) error {
	if len(f.Exporter) == 0 && !f.DropStrangers {
		return nil
	}
	if p.Exporters != nil {
		return errors.New("the policy lists exporters, and so do --exporter and --drop-strangers: keep one of the two")
	}
	p.DropStrangers = f.DropStrangers
	if len(f.Exporter) > 0 {
		p.Exporters = f.Exporter
	}
	return nil
}

func (f *writeFlags) apply(c *collector.Config) {
	c.Write = f.Write != ""
	c.Store.Path = f.Write
	c.Store.RotateSize = int64(f.RotateSize)
	c.Store.RotateInterval = f.RotateInterval
	c.Store.Keep = f.Keep
	c.Store.Prepare = f.Prepare
}

func defaults() kong.Vars {
	return kong.Vars{"accept": bpf.DefaultAccept, "listen": metrics.DefaultListen, "control": control.Path(placeholder),
		"groups": view.Groups(), "orders": view.Orders()}
}

// size is a number of bytes as people write it.
type size int64

// UnmarshalText reads 1500, 64K, 100M or 2G; powers of 1024, as tcpdump and
// coreutils mean them.
func (s *size) UnmarshalText(text []byte) error {
	number := strings.TrimRight(string(text), "KMGT")
	n, err := strconv.ParseInt(number, 10, 64)
	shift, ok := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[string(text[len(number):])]
	if err != nil || !ok || n < 0 || n > 1<<62>>shift {
		return fmt.Errorf("%q is not a size: write 1500, 64K, 100M or 2G", text)
	}
	*s = size(n << shift)
	return nil
}
