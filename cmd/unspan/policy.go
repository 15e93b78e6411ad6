package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/reassembly"
)

type policyCommand struct {
	Show  policyShow  `cmd:"" help:"Print the policy of a running collector and what its rules have met."`
	Apply policyApply `cmd:"" help:"Put a policy file into force in a running collector."`
	Check policyCheck `cmd:"" help:"Read a policy file and say what each rule means and compiles to."`
	Test  policyTest  `cmd:"" help:"Say which rule of a policy file each packet of a capture meets."`
}

type policyShow struct {
	askFlags
	JSON bool `name:"json" help:"Print it as JSON."`
}

func (p *policyShow) Run(ctx context.Context, e env) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	return client.Policy(ctx, e.stdout, p.JSON)
}

type policyApply struct {
	askFlags
	File string `arg:"" help:"Policy file; - for standard input."`
}

// Run reads the file here, with the rights of who asks, and sends its content.
func (p *policyApply) Run(ctx context.Context, e env) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	name, file := p.File, []byte(nil)
	if name == "-" {
		name = "standard input"
		file, err = io.ReadAll(e.stdin)
	} else {
		file, err = os.ReadFile(name)
	}
	if err != nil {
		return fmt.Errorf("reading policy: %w", err)
	}
	return client.ApplyPolicy(ctx, name, file)
}

type policyCheck struct {
	File string `arg:"" help:"Policy file."`
	JSON bool   `name:"json" help:"Print the explanation as JSON."`
}

func (p *policyCheck) Run(ctx context.Context, e env) error {
	read, err := policy.ReadFile(ctx, p.File)
	if err != nil {
		return err
	}
	compiled, err := policy.Compile(read)
	if err != nil {
		return err
	}
	if p.JSON {
		return compiled.Explain().WriteJSON(e.stdout)
	}
	return compiled.Explain().WriteText(e.stdout)
}

type policyTest struct {
	Policy  string `arg:"" name:"file" help:"Policy file."`
	Capture string `arg:"" help:"Capture of mirror feeds, pcap or pcapng; - for standard input."`
	Accept  string `default:"${accept}" placeholder:"LIST" help:"Encapsulations to take, as for run (${default})."`
	JSON    bool   `name:"json" help:"Print a JSON object for each packet, and one for the rules."`
}

func (p *policyTest) Run(ctx context.Context, e env) error {
	rules, err := policy.ReadFile(ctx, p.Policy)
	if err != nil {
		return err
	}
	// A file has no interface whose addresses would say what is ours.
	settings := bpf.Config{AnyDestination: 1}
	if err := bpf.Accept(&settings, p.Accept); err != nil {
		return err
	}
	in, name := e.stdin, "standard input"
	if p.Capture != "-" {
		file, err := os.Open(p.Capture)
		if err != nil {
			return fmt.Errorf("opening capture: %w", err)
		}
		defer file.Close()
		in, name = file, p.Capture
	}
	parts, err := reassembly.New(reassembly.Default())
	if err != nil {
		return err
	}
	table := feed.NewTable(feed.Max)
	t := &trial{
		Trial: policy.NewTrial(rules, e.stdout, p.JSON),
		table: table,
		twin:  decap.New(settings, nil, table),
		parts: parts,
	}
	t.twin.SetPolicy(rules.Exporters, rules.DropStrangers, nil)
	if err := t.read(ctx, in); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return t.Close()
}

// trial shows a policy what a capture's feeds carry.
type trial struct {
	*policy.Trial
	table *feed.Table
	twin  *decap.Engine
	parts *reassembly.Reassembler
}

func (t *trial) read(ctx context.Context, in io.Reader) error {
	r, err := pcapng.NewReader(in)
	if err != nil {
		return err
	}
	var p pcapng.Packet
	for number := 1; ; number++ {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stopped at packet %d: %w", number, context.Cause(ctx))
		}
		rec, frame, verdict := t.twin.Captured(decap.LinkType(p.Interface.LinkType), p.Data, int(p.OrigLen), p.Time)
		if verdict == bpf.RedirectFragment {
			rec, frame, verdict = t.join(rec, frame, p.Time)
		}
		if verdict != bpf.RedirectInner {
			continue
		}
		key, err := t.table.FeedKey(rec.Feed)
		if err != nil {
			return fmt.Errorf("packet %d: %w", number, err)
		}
		if err := t.Frame(number, &key, rec, frame); err != nil {
			return fmt.Errorf("printing packet %d: %w", number, err)
		}
	}
}

// join puts an outer fragment to the others of its datagram; with the last one it
// returns what was in the datagram.
func (t *trial) join(rec bpf.Record, data []byte, now uint64) (bpf.Record, []byte, bpf.Verdict) {
	t.parts.Expire(now)
	whole, ok := t.parts.Add(reassembly.Fragment{
		Data: data, RawIP: rec.Flags&bpf.RecordRawIP != 0, Time: rec.Time, Record: rec,
	})
	if !ok {
		return rec, nil, bpf.RedirectFragment
	}
	return t.twin.Datagram(whole.Frame, &whole.Record, whole.Time)
}
