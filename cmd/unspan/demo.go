package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/traffic"
)

type demoCommand struct {
	Write    string        `short:"w" default:"demo.pcapng" placeholder:"FILE" help:"Where the capture goes (${default})."`
	Duration time.Duration `default:"5s" help:"How long to mirror (${default})."`
	Rate     string        `default:"20kpps" placeholder:"RATE" help:"How fast (${default})."`
}

// demoPolicy has no filter: the demo needs nothing that is not in this program.
const demoPolicy = `rules:
  - name: one-ipv6-flow-in-four
    exporter: 2001:db8::/32
    action: keep
    sample: {one_in: 4, by: flow}
  - name: headers-only
    session: 300
    action: keep
    snap: 128
`

// Run makes a small network, mirrors traffic in it and collects it.
func (d *demoCommand) Run(ctx context.Context, e env) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo makes network namespaces and loads a BPF program: run it as root: sudo unspan demo")
	}
	rate, err := mirror.ParseRate(d.Rate)
	if err != nil {
		return err
	}
	l, err := lab.Open(lab.Config{MirrorPass: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	fmt.Fprintf(e.stdout, "Two network namespaces and a cable between them: exporter %s, collector %s.\n"+
		"The exporter mirrors %s of traffic in five sessions: ERSPAN I, II and III, and GRE over IPv4 and IPv6.\n"+
		"The collector has a policy, which its kernel half carries out:\n\n%s\n",
		l.Mirror.IPv4, l.Collector.IPv4, d.Duration, demoPolicy)

	config := collector.Default()
	config.Interface, config.Version = l.Collector.Link, version()
	config.Write, config.Store.Path = true, d.Write
	if config.Policy, err = policy.Read(ctx, "the demo's policy", []byte(demoPolicy)); err != nil {
		return err
	}
	live, err := collector.New(config)
	if err != nil {
		return err
	}
	if err := d.collect(ctx, e, l, live, rate); err != nil {
		return err
	}
	snapshot, err := live.Snapshot()
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout)
	if err := printLedger(e.stdout, &snapshot, false); err != nil {
		return err
	}
	path, err := filepath.Abs(d.Write)
	if err != nil {
		return fmt.Errorf("naming the capture: %w", err)
	}
	fmt.Fprintf(e.stdout, "\nThe packets that were inside are in %s. Nothing else is left. Next:\n"+
		"  tshark -r %s -q -z io,phs     what was in the mirror\n"+
		"  unspan run -i IF -w FILE      the same on an interface of yours\n", path, d.Write)
	return nil
}

// collect runs the collector, and the exporter while it is ready, with a line
// that says how it goes.
func (d *demoCommand) collect(ctx context.Context, e env, l *lab.Lab, live *collector.Live, rate mirror.Rate) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, done := context.WithCancel(ctx)
	group.Go(func() error {
		return l.Collector.Do(func() error { return live.Run(ctx) })
	})
	group.Go(func() error {
		defer done()
		if err := awaitReady(ctx, live); err != nil {
			return err
		}
		return l.Mirror.Do(func() error { return d.send(ctx, l, rate) })
	})
	group.Go(func() error {
		watch(ctx, e, live)
		return nil
	})
	return group.Wait()
}

func awaitReady(ctx context.Context, live *collector.Live) error {
	for tick := time.NewTicker(5 * time.Millisecond); live.Ready() != nil; {
		select {
		case <-ctx.Done():
			return nil // whoever ended it says why
		case <-tick.C:
		}
	}
	return nil
}

// send mirrors as a small network would: every session copies its part of the
// same traffic, and one of them loses a packet now and then on the way.
func (d *demoCommand) send(ctx context.Context, l *lab.Lab, rate mirror.Rate) error {
	config := mirror.Default()
	config.Interface, config.Rate, config.Loop = l.Mirror.Link, rate, true
	sessions := demoSessions(l)
	frames := traffic.Frames(traffic.Mix(traffic.Default()))
	for i, s := range sessions {
		part := frames[i*len(frames)/len(sessions) : (i+1)*len(frames)/len(sessions)]
		config.Feeds = append(config.Feeds, mirror.Feed{Session: s, Frames: part})
	}
	sender, err := mirror.New(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Duration)
	defer cancel()
	return errors.Join(sender.Run(ctx), sender.Close())
}

func demoSessions(l *lab.Lab) []mirror.Session {
	make := func(encap bpf.Encap, id uint16, from, to netip.Addr) mirror.Session {
		s := mirror.DefaultSession(encap)
		s.ID, s.Source, s.Destination = id, from, to
		s.SourceMAC, s.DestinationMAC = l.Mirror.MAC, l.Collector.MAC
		return s
	}
	one := make(bpf.EncapERSPAN1, 0, l.Mirror.IPv4, l.Collector.IPv4)
	two := make(bpf.EncapERSPAN2, 100, l.Mirror.IPv4, l.Collector.IPv4)
	two.Tags = mirror.TagsStripped // and they are put back
	three := make(bpf.EncapERSPAN3, 300, l.Mirror.IPv4, l.Collector.IPv4)
	three.Platform, three.LoseEvery = 3, 500
	gre := make(bpf.EncapGRE, 0, l.Mirror.IPv4, l.Collector.IPv4)
	gre.Keyed, gre.Key = true, 0x2000000
	six := make(bpf.EncapGRE, 0, l.Mirror.IPv6, l.Collector.IPv6)
	return []mirror.Session{one, two, three, gre, six}
}

// watch prints how it goes: on a terminal one line that is rewritten, else a
// line a second.
func watch(ctx context.Context, e env, live *collector.Live) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			if e.tty {
				io.WriteString(e.stderr, "\r\x1b[K")
			}
			return
		case <-tick.C:
		}
		s, err := live.Snapshot()
		if err != nil {
			continue // not ready yet, or already over
		}
		before = watchLine(e, &s, before)
	}
}

func watchLine(e env, s *ledger.Snapshot, before uint64) uint64 {
	var lost uint64
	for i := range s.Feeds {
		lost += s.Feeds[i].State.Sequence.Lost
	}
	now := s.Output.Written
	start, end := "", "\n"
	if e.tty {
		start, end = "\r\x1b[K", ""
	}
	fmt.Fprintf(e.stderr, "%s%4.0f s  %d feeds  %7d packets/s  %9d written  %d lost on the way here%s",
		start, s.Elapsed.Seconds(), len(s.Feeds), now-before, now, lost, end)
	return now
}
