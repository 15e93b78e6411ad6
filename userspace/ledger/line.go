package ledger

import (
	"errors"
	"fmt"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/xsk"
)

// Line is one sum of the ledger: In is the left side, Boxes the right. Those of
// exports count flow records, all others packets.
type Line struct {
	Name  string // stable: wire, xdp, afxdp, worker, reassembly, output, flows, export NAME
	Title string
	In    Box
	Boxes []Box
	Notes []string // what the sum cannot say
	live  bool     // read while packets were moving
}

// Box is one named count of a line.
type Box struct {
	Name    string // stable: in_order, drop_policy, ring_full, ...
	Title   string
	Kind    Kind
	Packets uint64
	Bytes   uint64 // 0 where bytes are not counted
}

// Balance is the left side less the right: 0 when the line adds up, positive
// when packets are in no box, negative when some are in two.
func (l *Line) Balance() int64 {
	balance := int64(l.In.Packets)
	for i := range l.Boxes {
		balance -= int64(l.Boxes[i].Packets)
	}
	return balance
}

// Adds reports whether the line is right: it balances, or the snapshot was taken
// on the run and the difference can be packets on their way.
func (l *Line) Adds() bool {
	balance := l.Balance()
	return balance == 0 || l.live && balance > 0
}

// Lines computes the lines of the snapshot, from the wire to the disk. A stage
// that this run does not have has no line: AF_XDP offline, reassembly where no
// datagram was completed, wire where there is no feed yet.
func (s *Snapshot) Lines() []Line {
	lines := make([]Line, 0, 6)
	if len(s.Feeds) > 0 || s.Ended.Feeds > 0 {
		lines = append(lines, s.wire())
	}
	lines = append(lines, s.xdp())
	if s.Live {
		lines = append(lines, s.afxdp())
	}
	lines = append(lines, s.worker())
	if reassembly := s.reassembly(); reassembly.In.Packets > 0 || reassembly.Balance() != 0 {
		lines = append(lines, reassembly)
	}
	lines = append(lines, s.output())
	if s.Flows != nil {
		lines = append(lines, s.flows())
		for i := range s.Flows.Exports {
			lines = append(lines, s.export(&s.Flows.Exports[i]))
		}
	}
	for i := range lines {
		lines[i].live = !s.Final
	}
	return lines
}

// Check returns an error that names every line which does not add up, nil if
// all do.
func (s *Snapshot) Check() error {
	var errs []error
	for _, l := range s.Lines() {
		if !l.Adds() {
			errs = append(errs, fmt.Errorf("checking the ledger: line %s does not add up: %s", l.Title, l.fault()))
		}
	}
	return errors.Join(errs...)
}

func (l *Line) fault() string {
	if balance := l.Balance(); balance < 0 {
		return fmt.Sprintf("%s too many in its boxes", group(uint64(-balance)))
	} else {
		return fmt.Sprintf("%s in no box", group(uint64(balance)))
	}
}

// wire is known by the feeds' own sequence numbers only. Each number expected is
// in one box: it came in order, came late, lies far outside the run, or did not
// come. A second copy of a packet is nobody's loss and stands in a note.
func (s *Snapshot) wire() Line {
	var expected, inOrder, reordered, strays, missing uint64
	var duplicates, restarts, silent, silentPackets uint64
	books := make([]*Feed, 0, len(s.Feeds)+2)
	for i := range s.Feeds {
		books = append(books, &s.Feeds[i])
	}
	if s.Ended.Feeds > 0 {
		books = append(books, &s.Ended.Sequenced, &s.Ended.Silent)
	}
	for _, f := range books {
		if !f.Sequenced() {
			if f.State.Packets > 0 {
				silent++
			}
			silentPackets += f.State.Packets
			continue
		}
		q := &f.State.Sequence
		expected += f.Expected()
		inOrder += q.Received - q.Duplicates - q.Reordered - q.Strays
		reordered += q.Reordered
		strays += q.Strays
		missing += q.Lost
		duplicates += q.Duplicates
		restarts += q.Restarts
	}
	l := Line{
		Name: "wire", Title: "wire",
		In: Box{Name: "expected", Title: "expected by sequence", Packets: expected},
		Boxes: []Box{
			{Name: "in_order", Title: "in order", Packets: inOrder},
			{Name: "reordered", Title: "late, out of order", Packets: reordered},
			{Name: "strays", Title: "far outside the sequence", Packets: strays},
			{Name: "lost", Title: "lost on the way here", Kind: Upstream, Packets: missing},
		},
	}
	if duplicates > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%s came twice: not counted above", group(duplicates)))
	}
	if restarts > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%s of a sender's numbering: not loss", count(restarts, "restart", "restarts")))
	}
	if s.Ended.Feeds > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%s ended and gave their places to others: in the sums above", count(s.Ended.Feeds, "feed", "feeds")))
	}
	if silent > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%s without sequence numbers: what was lost of %s cannot be known",
			count(silent, "feed", "feeds"), count(silentPackets, "packet", "packets")))
	}
	return l
}

// tallies turns counters by verdict into boxes, all verdicts in contract order.
func tallies(t *[bpf.VerdictCount]bpf.Tally) []Box {
	boxes := make([]Box, 0, len(t))
	for v := bpf.VerdictNone + 1; v < bpf.VerdictCount; v++ {
		boxes = append(boxes, Box{
			Name:    bpf.VerdictName(v),
			Title:   meanings[v].title,
			Kind:    meanings[v].kind,
			Packets: t[v].Packets,
			Bytes:   t[v].Bytes,
		})
	}
	return boxes
}

func (s *Snapshot) xdp() Line {
	l := Line{
		Name: "xdp", Title: "XDP",
		In:    Box{Name: "seen", Title: "frames seen"},
		Boxes: tallies(&s.XDP),
	}
	if !s.Live {
		l.Title = "file"
		l.In.Title = "packets read"
	}
	// VerdictNone is no box: a frame that left without a verdict is a defect.
	for _, t := range s.XDP {
		l.In.Packets += t.Packets
		l.In.Bytes += t.Bytes
	}
	if s.FramesCounted {
		l.In.Packets = s.Frames
	}
	return l
}

// redirected is what the XDP line hands on.
func (s *Snapshot) redirected() uint64 {
	return s.XDP[bpf.RedirectInner].Packets + s.XDP[bpf.RedirectFragment].Packets
}

func (s *Snapshot) afxdp() Line {
	var sum xsk.Stats
	for i := range s.Queues {
		q := &s.Queues[i]
		sum.Received += q.Received
		sum.RingFull += q.RingFull
		sum.FillRingEmpty += q.FillRingEmpty
		sum.TooLong += q.TooLong
		sum.Overlong += q.Overlong
	}
	return Line{
		Name: "afxdp", Title: "AF_XDP",
		In: Box{Name: "redirected", Title: "redirected to workers", Packets: s.redirected()},
		Boxes: []Box{
			{Name: "received", Title: "received by workers", Packets: sum.Received},
			{Name: "ring_full", Title: "receive ring full", Kind: Kernel, Packets: sum.RingFull},
			{Name: "fill_ring_empty", Title: "fill ring empty", Kind: Kernel, Packets: sum.FillRingEmpty},
			{Name: "too_long", Title: "too long for one buffer", Kind: Kernel, Packets: sum.TooLong},
			{Name: "overlong", Title: "too long for any frame", Kind: Kernel, Packets: sum.Overlong},
		},
	}
}

// received is what the workers took over: off the rings, or straight from the
// decapsulation when there are none.
func (s *Snapshot) received() uint64 {
	if !s.Live {
		return s.redirected()
	}
	var sum uint64
	for i := range s.Queues {
		sum += s.Queues[i].Received
	}
	return sum
}

func (s *Snapshot) worker() Line {
	var inner, nested, malformed uint64
	var fragments reassembly.Stats
	for i := range s.Workers {
		w := &s.Workers[i]
		inner += w.Inner
		nested += w.Nested
		malformed += w.Malformed
		fragments.Held += w.Reassembly.Held
		fragments.Reassembled += w.Reassembly.Reassembled
		for reason, packets := range w.Reassembly.GivenUp {
			fragments.GivenUp[reason] += packets
		}
	}
	l := Line{
		Name: "worker", Title: "worker",
		In: Box{Name: "received", Title: "received", Packets: s.received()},
		Boxes: []Box{
			{Name: "inner", Title: "inner frames", Packets: inner},
			{Name: "nested", Title: "wrapped twice, opened again", Packets: nested},
			{Name: "fragments_reassembled", Title: "fragments put together", Packets: fragments.Reassembled},
			{Name: "fragments_held", Title: "fragments held", Kind: Held, Packets: fragments.Held},
		},
	}
	for reason, packets := range fragments.GivenUp {
		l.Boxes = append(l.Boxes, Box{
			Name:    "fragments_" + reassembly.Reason(reason).String(),
			Title:   givenUp[reason].title,
			Kind:    givenUp[reason].kind,
			Packets: packets,
		})
	}
	l.Boxes = append(l.Boxes, Box{Name: "malformed", Title: "malformed records", Kind: Kernel, Packets: malformed})
	return l
}

func (s *Snapshot) reassembly() Line {
	var datagrams, nested uint64
	var verdicts [bpf.VerdictCount]bpf.Tally
	for i := range s.Workers {
		datagrams += s.Workers[i].Reassembly.Datagrams
		nested += s.Workers[i].Nested
		for v, t := range s.Workers[i].Verdicts {
			verdicts[v].Packets += t.Packets
			verdicts[v].Bytes += t.Bytes
		}
	}
	l := Line{
		Name: "reassembly", Title: "reassembly",
		In: Box{Name: "datagrams", Title: "datagrams completed", Packets: datagrams + nested},
	}
	if nested > 0 {
		l.In.Title = "datagrams completed, frames wrapped twice"
	}
	for _, b := range tallies(&verdicts) {
		switch b.Name {
		case bpf.VerdictName(bpf.RedirectInner):
			b.Title = "inner frames"
		case bpf.VerdictName(bpf.RedirectFragment):
			continue // a whole datagram is no fragment, and nobody takes it on
		}
		l.In.Bytes += b.Bytes
		l.Boxes = append(l.Boxes, b)
	}
	return l
}

// kept is what the workers hand to the output: frames that came whole, and those
// out of reassembled datagrams.
func (s *Snapshot) kept() uint64 {
	var sum uint64
	for i := range s.Workers {
		sum += s.Workers[i].Inner + s.Workers[i].Verdicts[bpf.RedirectInner].Packets
	}
	return sum
}

func (s *Snapshot) output() Line {
	o := &s.Output
	return Line{
		Name: "output", Title: "output",
		In: Box{Name: "kept", Title: "inner frames kept", Packets: s.kept()},
		Boxes: []Box{
			{Name: "written", Title: "written", Packets: o.Written, Bytes: o.WrittenBytes},
			{Name: "backlog", Title: "disk too slow", Kind: Disk, Packets: o.Backlog},
			{Name: "refused", Title: "disk full or failing", Kind: Disk, Packets: o.Refused},
			{Name: "surplus", Title: "over the number asked for", Kind: Intended, Packets: o.Surplus},
			{Name: "unasked", Title: "read, no file asked for", Packets: o.Unasked},
		},
	}
}
