package ledger

import (
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Flows holds what the flow tables made of the inner frames, and what became of
// the records of the flows.
type Flows struct {
	Counters flow.Counters  // of all tables together
	Exports  []export.Stats // of each sink, which gets every record
}

// outside says in words why a frame is in no flow.
var outside = [...]struct {
	counter flow.Counter
	title   string
}{
	{flow.ShortEthernet, "no flow: Ethernet header cut short"},
	{flow.ShortShim, "no flow: tag or label cut short"},
	{flow.DeepShims, "no flow: too many tags or labels"},
	{flow.ShortIP, "no flow: IP header cut short"},
	{flow.BadIP, "no flow: broken IP header"},
	{flow.NotIP, "no flow: not IP"},
	{flow.OuterFragment, "no flow: outer fragment"},
}

// flows is beside the output: each inner frame that was not surplus is looked
// at. Tables show their counters when it suits them, and may be ahead of the
// worker's own while it runs.
func (s *Snapshot) flows() Line {
	c := &s.Flows.Counters
	l := Line{
		Name: "flows", Title: "flows",
		In:    Box{Name: "kept", Title: "inner frames looked at", Packets: s.kept() - s.Output.Surplus},
		Boxes: []Box{{Name: "tracked", Title: "in flows", Packets: c[flow.Tracked]}},
	}
	for _, o := range outside {
		l.Boxes = append(l.Boxes, Box{Name: o.counter.String(), Title: o.title, Packets: c[o.counter]})
	}
	if looked := c.Frames(); !s.Final {
		l.In.Packets = max(l.In.Packets, looked)
	}
	if n := c[flow.EndedEvicted]; n > 0 {
		l.Notes = append(l.Notes, count(n, "flow", "flows")+" ended early: the table was full")
	}
	return l
}

// export is the line of a sink. What it has was counted before what was made
// of flows, but the tables show their counters a few times a second only: while
// they run, a record that is somewhere was made.
func (s *Snapshot) export(e *export.Stats) Line {
	c := &s.Flows.Counters
	made := c[flow.Emitted]
	if there := e.Written + e.Waiting + e.Dropped + c[flow.RecordsLost]; !s.Final {
		made = max(made, there)
	}
	return Line{
		Name: "export " + e.Name, Title: "export",
		In: Box{Name: "made", Title: "flow records made", Packets: made},
		Boxes: []Box{
			{Name: "written", Title: "taken by " + e.Name, Packets: e.Written},
			{Name: "waiting", Title: "waiting for " + e.Name, Kind: Held, Packets: e.Waiting},
			{Name: "dropped", Title: e.Name + " away or too slow", Kind: Export, Packets: e.Dropped},
			{Name: "ring_full", Title: "exporter too slow", Kind: Export, Packets: c[flow.RecordsLost]},
		},
	}
}
