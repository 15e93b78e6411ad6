package collector

import (
	"sync/atomic"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/store"
)

// feeds is where a worker learns whose frames it has: the kernel's feed table
// live, the Go twin's for files.
type feeds interface {
	decap.Feeds
	FeedKey(id uint32) (bpf.FeedKey, error)
}

// worker turns records and frames into packets of a capture. One goroutine owns
// it; others read its books.
type worker struct {
	config  *Config
	feeds   feeds
	streams []*stream // by slot of the feed's id
	stamper *clock.Stamper
	parts   *reassembly.Reassembler
	twin    *decap.Engine                 // of reassembled datagrams, and of what is wrapped twice
	rules   atomic.Pointer[policy.Engine] // in force for those
	ruled   *policy.Engine                // what twin knows of it
	out     *output
	lane    *store.Lane // nil when nothing is written
	flows   *flow.Table // nil when no flows are rebuilt
	rebuilt *flows      // likewise: of all workers
	limit   *limit
	scratch []byte // of tagged

	counts counts
	books  books
}

// counts are plain numbers of the hot path; publish makes them readable.
type counts struct {
	inner     uint64 // frames that came as record and inner frame
	nested    uint64 // frames that came wrapped twice
	malformed uint64 // frames whose record makes no sense
	surplus   uint64 // received after the asked-for number
	unasked   uint64 // no capture is written
}

type books struct {
	inner, nested, malformed, surplus, unasked atomic.Uint64
	datagrams                                  [bpf.VerdictCount]struct{ packets, bytes atomic.Uint64 }
}

func newWorker(c *Config, f feeds, offset *clock.Offset, out *output, lane int, lim *limit) (*worker, error) {
	parts, err := reassembly.New(c.Reassembly)
	if err != nil {
		return nil, err
	}
	w := &worker{
		config: c, feeds: f,
		streams: make([]*stream, c.MaxFeeds+1),
		stamper: clock.NewStamper(c.Timestamps, offset),
		parts:   parts,
		twin:    decap.New(c.Settings, c.Collectors, f),
		out:     out,
		lane:    out.lane(lane),
		limit:   lim,
		scratch: make([]byte, 0, 1<<16+64), // the largest frame and its tag
	}
	w.apply(c.Policy)
	w.publish()
	return w, nil
}

// rebuild gives the worker a flow table of its own.
func (w *worker) rebuild(f *flows, i int) { w.rebuilt, w.flows = f, f.table(i) }

// receive takes what came out of an AF_XDP ring.
func (w *worker) receive(buf []byte) {
	rec, data, ok := bpf.Split(buf)
	switch {
	case !ok:
		w.counts.malformed++
	case rec.Flags&bpf.RecordFragment != 0:
		w.fragment(rec, data)
	default:
		w.inner(rec, data)
	}
}

// inner takes a frame that the engine has stripped.
func (w *worker) inner(rec *bpf.Record, data []byte) {
	if rec.Flags&bpf.RecordNested != 0 {
		w.nested(rec, data)
		return
	}
	w.counts.inner++
	w.deliver(rec, data)
}

// fragment takes one piece of an outer datagram; with the last piece the
// datagram goes the way of every packet, in Go.
func (w *worker) fragment(rec *bpf.Record, data []byte) {
	whole, ok := w.parts.Add(reassembly.Fragment{
		Data: data, RawIP: rec.Flags&bpf.RecordRawIP != 0, Time: rec.Time, Record: *rec,
	})
	if !ok {
		return
	}
	w.consult()
	inner, data, v := w.twin.Datagram(whole.Frame, &whole.Record, whole.Time)
	if v == bpf.RedirectInner && inner.Flags&bpf.RecordNested != 0 {
		inner, data, v = w.twin.Nested(&inner, data)
	}
	w.decided(v, len(whole.Frame))
	if v == bpf.RedirectInner {
		w.deliver(&inner, data)
	}
}

// deliver takes an inner frame to its flow and to the capture.
func (w *worker) deliver(rec *bpf.Record, data []byte) {
	if !w.limit.take() {
		w.counts.surplus++
		return
	}
	s := w.stream(rec)
	f := s.frame.Undo(rec, data)
	if f.Tag {
		f.Data = w.tagged(f.Data, rec.Tci)
	}
	t := w.stamper.Time(rec, &s.clock)
	if w.flows != nil {
		w.flows.Observe(rec, f.Data, int(f.Length), t)
	}
	if w.lane == nil {
		w.counts.unasked++
		return
	}
	if !s.named {
		w.name(s, rec)
	}
	w.lane.Append(s.id, t, f.Length, flags(rec.Flags)|pcapng.Flags(f.FCS)<<fcsShift, uint64(rec.Gap), f.Data)
}

// fcsShift is where epb_flags has the length of the frame check sequence (draft,
// section 4.3.1, bits 5 to 8).
const fcsShift = 5

// tagged is the frame with its 802.1Q tag where it was.
func (w *worker) tagged(data []byte, tci uint16) []byte {
	head, rest := frame.Splice(data, tci)
	w.scratch = append(append(w.scratch[:0], head[:]...), rest...)
	return w.scratch
}

// flags says in pcapng's words what the mirror said of the frame.
func flags(r uint32) (f pcapng.Flags) {
	const odd = bpf.RecordDirection | bpf.RecordShort | bpf.RecordOversized | bpf.RecordBad
	if r&odd == 0 {
		return 0
	}
	switch {
	case r&bpf.RecordDirection == 0:
	case r&bpf.RecordEgress != 0:
		f = pcapng.Outbound
	default:
		f = pcapng.Inbound
	}
	switch {
	case r&bpf.RecordShort != 0:
		f |= pcapng.TooShort
	case r&bpf.RecordOversized != 0:
		f |= pcapng.TooLong
	case r&bpf.RecordBad != 0:
		f |= pcapng.BadCRC
	}
	return f
}

// tick lets what waits for time to pass know that it does. now is of the clock
// of the records, utc of that of the packets written; idle: there was nothing.
func (w *worker) tick(now, utc uint64, idle bool) {
	w.parts.Expire(now)
	switch {
	case w.flows == nil:
	case idle:
		w.flows.Tick(utc)
	default:
		w.flows.Flush()
	}
	if w.lane != nil {
		w.lane.Tick(utc)
	}
}

// finish is the worker's last call: everything it has goes on.
func (w *worker) finish() {
	if w.lane != nil {
		w.lane.Close()
	}
	w.rebuilt.drain(w.flows)
	w.publish()
}

// publish makes the counts readable: once a batch, not once a packet.
func (w *worker) publish() {
	w.books.inner.Store(w.counts.inner)
	w.books.nested.Store(w.counts.nested)
	w.books.malformed.Store(w.counts.malformed)
	w.books.surplus.Store(w.counts.surplus)
	w.books.unasked.Store(w.counts.unasked)
}

// ledger is the worker's line. What the datagrams were is read before the
// fragments that made them: a live reading shows what is on its way as missing,
// never as counted twice.
func (w *worker) ledger() ledger.Worker {
	var l ledger.Worker
	for v := range l.Verdicts {
		d := &w.books.datagrams[v]
		l.Verdicts[v] = bpf.Tally{Packets: d.packets.Load(), Bytes: d.bytes.Load()}
	}
	l.Inner = w.books.inner.Load()
	l.Nested = w.books.nested.Load()
	l.Malformed = w.books.malformed.Load()
	l.Reassembly = w.parts.Stats()
	return l
}
