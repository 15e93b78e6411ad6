package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/hosts"
	"github.com/unspan/unspan/userspace/view"
)

// viewFlags say which flows are shown, and how.
type viewFlags struct {
	By     string `enum:"${groups}" default:"flow" placeholder:"WHAT" help:"What a row adds up: ${enum} (${default}). edge is who calls which service."`
	Search string `placeholder:"WORDS" help:"Show only flows of which all words hold: an address, prefix or port, tcp, vlan 100, feed NAME."`
	JSON   bool   `name:"json" help:"Print them as JSON."`
}

type flowsCommand struct {
	Files []string `arg:"" help:"Capture files, pcap or pcapng, as unspan writes them; - for standard input. Mirror feeds go through unspan decap -w - first."`
	viewFlags
	Sort      string `enum:"${orders}" default:"bytes" placeholder:"WHAT" help:"Which rows come first: most ${enum} (${default})."`
	Limit     int    `default:"50" placeholder:"N" help:"Print so many rows at most; 0: all (${default})."`
	OneDomain bool   `help:"Take all interfaces of the files for one capture domain, instead of keeping the flows of each apart."`
	MaxFlows  int    `default:"1048576" placeholder:"N" help:"Flows kept at once; each takes about 410 bytes (${default})."`
	Names     string `type:"existingfile" placeholder:"FILE" help:"Names of IP and MAC addresses, as in /etc/hosts, in place of those in the captures."`
}

// Run rebuilds the flows of captures and prints them. A conversation is one flow
// however long it is silent.
func (c *flowsCommand) Run(ctx context.Context, e env) error {
	t := flow.Default()
	t.Flows, t.Feeds = c.MaxFlows, flow.NewFeeds(math.MaxUint16+1)
	t.Idle, t.Closed, t.Active = math.MaxInt64, math.MaxInt64, math.MaxInt64
	table, err := flow.New(t)
	if err != nil {
		return err
	}
	defer table.Close()
	r := flowReader{table: table, feeds: t.Feeds, oneDomain: c.OneDomain, ids: map[string]uint32{}}
	var names *hosts.Table // nil: those in the captures
	if c.Names != "" {
		if names, err = hosts.Open(c.Names); err != nil {
			return err
		}
	}
	q := flow.Query{Limit: max(c.Limit, 0)}
	q.By, _ = view.Group(c.By) // kong lets only good ones in
	q.Order, _ = view.Order(c.Sort)
	// Names of feeds are known when all is read: the words are tried first.
	anyFeed := func(string) uint32 { return 1 }
	if _, err := view.Search(c.Search, anyFeed); err != nil {
		return err
	}
	var all []flow.Flow // of those that made room for others
	for _, file := range c.Files {
		if err := r.read(ctx, e, file, &all); err != nil {
			return err
		}
	}
	if q.Match, err = view.Search(c.Search, func(name string) uint32 { return r.ids[name] }); err != nil {
		return err
	}
	shown := flow.NewView(q)
	for i := range all {
		shown.Add(&all[i])
	}
	table.Drain(shown.Add)
	r.rest(shown.Add)
	if r.skipped > 0 {
		fmt.Fprintf(e.stderr, "%d packets of interfaces that are neither Ethernet nor IP were left out\n", r.skipped)
	}
	if names == nil {
		names = hosts.Of(r.captured)
	}
	labels := &export.Labels{Feed: r.name, Address: names.Address, MAC: names.MAC}
	answer := shown.Answer()
	if c.JSON {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(view.Of(&answer, labels))
	}
	return view.WriteText(e.stdout, &answer, q.By, labels, false)
}

// flowReader gives the packets of captures to a table.
type flowReader struct {
	table     *flow.Table
	feeds     *flow.Feeds
	oneDomain bool
	ids       map[string]uint32 // of feeds by the names of interfaces
	names     []string          // and back, from id 1 on
	sequence  []uint32          // of each: packets so far, and those that the mirror lost
	captured  []pcapng.Name     // of addresses, in the captures
	batch     [256]flow.Flow
	skipped   uint64
}

func (r *flowReader) name(id uint32) string { return r.names[id-1] }

// feed is the id of an interface: unspan names them after feeds.
func (r *flowReader) feed(name string) uint32 {
	id, known := r.ids[name]
	if !known && len(r.names) < math.MaxUint16 {
		r.names, r.sequence = append(r.names, name), append(r.sequence, 0)
		id = uint32(len(r.names))
		r.ids[name] = id
		if r.oneDomain {
			r.feeds.SetDomain(id, 1)
		}
	}
	return id
}

func (r *flowReader) read(ctx context.Context, e env, name string, all *[]flow.Flow) error {
	var input io.Reader = e.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("opening capture: %w", err)
		}
		defer file.Close()
		input = file
	}
	capture, err := pcapng.NewReader(input)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var p pcapng.Packet
	for n := 1; ; n++ {
		err := capture.Next(&p)
		switch {
		case errors.Is(err, io.EOF):
			r.captured = append(r.captured, capture.Names()...)
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
		r.observe(&p)
		if n%len(r.batch) == 0 {
			r.rest(func(f *flow.Flow) { *all = append(*all, *f) })
			if ctx.Err() != nil {
				return fmt.Errorf("%s: stopped after %d packets: %w", name, n, context.Cause(ctx))
			}
		}
	}
}

func (r *flowReader) observe(p *pcapng.Packet) {
	record := bpf.Record{Feed: r.feed(p.Interface.Name)}
	switch p.Interface.LinkType {
	case pcapng.LinkEthernet:
	case pcapng.LinkRaw:
		record.Flags = bpf.RecordRawIP
	default:
		r.skipped++
		return
	}
	if record.Feed != 0 { // the drop count says what the mirror lost before
		s := &r.sequence[record.Feed-1]
		*s += uint32(p.DropCount) + 1
		record.Flags |= bpf.RecordSequence
		record.Sequence, record.Gap = *s, uint32(p.DropCount)
	}
	r.table.Observe(&record, p.Data, int(p.OrigLen), p.Time)
}

// rest reads the table's ring.
func (r *flowReader) rest(take func(*flow.Flow)) {
	for n := 1; n > 0; {
		n = r.table.Ring().Read(r.batch[:])
		for i := range r.batch[:n] {
			take(&r.batch[i])
		}
	}
}
