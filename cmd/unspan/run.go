package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/metrics"
	"github.com/unspan/unspan/userspace/web"
	"github.com/unspan/unspan/userspace/xsk"
)

type runCommand struct {
	Config configFile `short:"c" type:"existingfile" placeholder:"FILE" help:"Read flags from a YAML file."`

	Interface string `short:"i" required:"" placeholder:"IF" help:"Interface the mirror feeds arrive on."`
	feedFlags
	writeFlags
	flowFlags

	AnyDestination bool          `help:"Take feeds to any address, and listen promiscuously: for taps."`
	Duration       time.Duration `placeholder:"TIME" help:"Stop after this time."`
	Count          uint64        `placeholder:"N" help:"Stop after N inner frames."`
	Workers        int           `default:"1" placeholder:"N" help:"Workers per receive queue (${default})."`
	Mode           loader.Mode   `default:"auto" enum:"auto,native,generic" help:"Where XDP runs: auto, native (in the driver), generic (in the stack)."`
	Copy           bool          `help:"Copy frames into the receive buffers even where the driver can do without."`
	ZeroCopy       string        `enum:"auto,always,never" default:"auto" help:"Zero-copy receive: auto, always (fail without), never."`
	Listen         string        `default:"${listen}" placeholder:"ADDR" help:"Serve the web page, metrics and health on this address; empty: nowhere (${default})."`
	WebConfig      string        `placeholder:"FILE" type:"existingfile" help:"TLS and users for --listen, in the form of Prometheus exporter-toolkit."`
	JSON           bool          `name:"json" help:"Print the ledger as JSON."`

	Control        string `default:"${control}" placeholder:"PATH" help:"Socket on which sessions, stats and policy ask; empty: none (${default})."`
	KeepPrivileges bool   `help:"Go on with all privileges when everything is set up, instead of dropping them."`
}

func (r *runCommand) collector(ctx context.Context, e env) (collector.Config, error) {
	c := collector.Default()
	c.Interface, c.Version = r.Interface, version()
	c.Duration, c.Count, c.Workers, c.Mode = r.Duration, r.Count, r.Workers, r.Mode
	if r.AnyDestination {
		c.Settings.AnyDestination = 1
	}
	switch {
	case r.Copy && r.ZeroCopy == "always":
		return c, errors.New("--copy and --zero-copy always exclude each other")
	case r.Copy || r.ZeroCopy == "never":
		c.Sockets.Mode = xsk.Copy
	case r.ZeroCopy == "always":
		c.Sockets.Mode = xsk.ZeroCopy
	}
	r.writeFlags.apply(&c)
	if err := r.flowFlags.apply(&c, &r.writeFlags, e); err != nil {
		return c, err
	}
	return c, r.feedFlags.apply(ctx, &c)
}

// Run collects until it is told to stop, and then says what became of every packet.
func (r *runCommand) Run(ctx context.Context, e env) error {
	config, err := r.collector(ctx, e)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(e.stderr, nil))
	config.Log, config.Store.Log = log, log
	if config.Privileges, err = r.guard(log); err != nil {
		return err
	}
	live, err := collector.New(config)
	if err != nil {
		return err
	}
	if r.FlowsJSON == "-" {
		signal.Ignore(unix.SIGPIPE) // who reads the flows may go, the capture goes on
	}
	group, ctx := errgroup.WithContext(ctx)
	source := &policySource{file: r.Policy, apply: r.applyPolicy(live, log)}
	ctx, done := source.hangup(ctx, log)
	servers, err := r.servers(live, source, log)
	if err != nil {
		done()
		return err
	}
	for _, s := range servers {
		group.Go(func() error { return s.Run(ctx) })
	}
	group.Go(func() error {
		defer done()
		return live.Run(ctx)
	})
	err = group.Wait()
	if !live.Started() {
		return err
	}
	snapshot, readErr := live.Snapshot()
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	out := e.stdout
	if r.Write == "-" || r.FlowsJSON == "-" {
		out = e.stderr
	}
	return errors.Join(err, printLedger(out, &snapshot, r.JSON))
}

// server answers questions while packets are collected.
type server interface {
	Run(context.Context) error
	Close() error
}

// servers are those that the command line asks for, their addresses taken.
func (r *runCommand) servers(live *collector.Live, source *policySource, log *slog.Logger) (all []server, err error) {
	if path := controlPath(r.Control, r.Interface); path != "" {
		s, err := control.Open(control.Config{
			Path: path, Ledger: live.Snapshot, Log: log,
			ShowPolicy: func(w io.Writer, asJSON bool) error { return showPolicy(live, w, asJSON) }, ApplyPolicy: source.apply,
			Flows: r.lookAt(live), Labels: live.Labels, FeedID: live.FeedID,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if r.Listen != "" {
		s, err := r.listen(live, log)
		if err != nil {
			for _, open := range all {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// listen serves the page and the metrics.
func (r *runCommand) listen(live *collector.Live, log *slog.Logger) (server, error) {
	page, err := web.New(web.Config{
		Ledger: live.Snapshot, Flows: r.lookAt(live), Labels: live.Labels, FeedID: live.FeedID,
		Guarded: r.WebConfig != "", Log: log,
	})
	if err != nil {
		return nil, err
	}
	return metrics.Open(metrics.Config{
		Listen: r.Listen, WebConfig: r.WebConfig, Log: log, Ready: live.Ready, Home: page,
		Collector: metrics.NewCollector(metrics.Build{Version: version()}, live.Snapshot),
	})
}

// printLedger ends a command that handled packets. A ledger that does not add up
// is an error of the program, and is said to be one.
func printLedger(w io.Writer, s *ledger.Snapshot, asJSON bool) error {
	var err error
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(s)
	} else {
		err = s.WriteText(w, ledger.TextOptions{Feeds: 50})
	}
	if err != nil {
		return fmt.Errorf("printing the ledger: %w", err)
	}
	return s.Check()
}
