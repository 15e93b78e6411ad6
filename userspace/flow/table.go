package flow

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/unspan/unspan/bpf"
)

// Table holds the flows of one worker. One goroutine owns it and calls all
// methods but Counters, Ring's reader and Ask.
type Table struct {
	config Config
	idle   uint64 // ns
	ticks  timeouts

	batch  [batchSize]packet
	staged int
	warm   uint64 // sum of lines touched ahead: keeps the loads in the program

	index    index
	hot      []hot
	cold     []cold
	deadline []uint32 // per slot: the tick when it may be over; never when free
	free     []uint32 // free slots, used from the end
	used     int      // slots ever used: the sweep goes no further
	seed     seed
	nextID   uint64

	clock     clock
	sweep     sweep
	fragments fragments
	feeds     *Feeds
	lanes     []lane

	ring  *Ring
	count Counters
	board board
	shown uint32 // tick when the board was written
	desk  desk

	memory []mapping
}

// timeouts are those of the Config in ticks, rounded up.
type timeouts struct{ idle, closed, active uint32 }

const (
	// batchSize is how many packets are looked up together. The misses of that
	// many overlap; more would not fit beside the frames in the nearest cache.
	batchSize = 64
	never     = ^uint32(0)
	maxPacket = 1 << 17 // no IP packet is longer, nor is a frame of one before segmentation
)

// New makes an empty table and takes all the memory it will ever use. Close
// gives it back.
func New(config Config) (*Table, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.Feeds == nil {
		config.Feeds = NewFeeds(1)
	}
	t := &Table{
		config:    config,
		idle:      uint64(config.Idle),
		ticks:     timeouts{ticksOf(uint64(config.Idle)), ticksOf(uint64(config.Closed)), ticksOf(uint64(config.Active))},
		fragments: newFragments(config.Datagrams),
		feeds:     config.Feeds,
		lanes:     make([]lane, len(config.Feeds.feeds)),
		ring:      newRing(config.Records),
		nextID:    uint64(config.Worker) << 52,
		desk:      desk{turn: make(chan struct{}, 1)},
	}
	for i := range t.seed {
		t.seed[i] = rand.Uint64()
	}
	if err := t.reserve(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	for i := range t.free {
		t.free[i] = uint32(config.Flows - 1 - i)
		t.deadline[i] = never
	}
	return t, nil
}

// reserve maps the arrays.
func (t *Table) reserve() error {
	n := t.config.Flows
	buckets := bucketsFor(n)
	t.index.mask = uint64(buckets - 1)
	return errors.Join(
		reserve(t, &t.hot, n),
		reserve(t, &t.cold, n),
		reserve(t, &t.deadline, n),
		reserve(t, &t.free, n),
		reserve(t, &t.index.buckets, buckets),
	)
}

func reserve[T any](t *Table, to *[]T, n int) error {
	values, memory, err := mapSlice[T](n)
	if err != nil {
		return err
	}
	*to = values
	t.memory = append(t.memory, memory)
	return nil
}

func ticksOf(ns uint64) uint32 { return uint32(ns>>tickShift) + 1 }

// Close gives the memory back. Flows still in the table are gone: Drain first.
func (t *Table) Close() error {
	var errs []error
	for _, m := range t.memory {
		errs = append(errs, m.unmap())
	}
	t.memory, t.hot, t.cold, t.deadline, t.free, t.index.buckets = nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// Ring is where the table puts the records of flows that ended.
func (t *Table) Ring() *Ring { return t.ring }

// Counters returns the counters as of the last time the table showed them: at
// most a tenth of a second of packets ago, exact after Tick and Drain. Any
// goroutine may call it.
func (t *Table) Counters() Counters { return t.board.read() }

// String says what the table is.
func (t *Table) String() string { return fmt.Sprintf("flow table of %d", t.config.Flows) }

// Observe takes one frame: the record in front of it, its bytes (the caller's
// again when Observe returns), the length it had on the mirrored wire, and its
// time in ns. The packet is in its flow after the next Flush, which Observe
// calls by itself when 64 packets have gathered.
func (t *Table) Observe(record *bpf.Record, frame []byte, origLen int, timeNS uint64) {
	t.clock.advance(timeNS)
	p := &t.batch[t.staged]
	p.hasTCP, p.late, p.lead, p.missing = false, false, leadUnknown, 0
	p.time, p.since = timeNS, timeNS
	p.weight = max(record.Weight, 1)
	p.packets = uint64(p.weight)
	p.bytes = uint64(p.weight) * uint64(max(origLen, 0))
	p.cut, p.limit = max(origLen-len(frame), 0), maxPacket
	p.feed = record.Feed
	t.scope(p, record)

	var outcome Counter
	switch flags := record.Flags; {
	case flags&bpf.RecordFragment != 0:
		outcome = OuterFragment
	case flags&bpf.RecordRawIP != 0:
		outcome = p.bareIP(t, frame)
	default:
		outcome = p.ethernet(t, frame, t.config.NonIP)
	}
	switch outcome {
	case Tracked:
	case held:
		t.count[Tracked]++
		return
	case Portless:
		t.count[Portless]++
	default:
		t.count[outcome]++
		return
	}
	t.count[Tracked]++
	t.address(p)
	t.warm += t.index.touch(p.hash)
	if t.staged++; t.staged == batchSize {
		t.Flush()
	}
}

// scope begins the key: feed or domain, and the tag that the sender took out of
// the frame (ERSPAN II, En=10). A tag the frame still has comes to it later.
func (t *Table) scope(p *packet, record *bpf.Record) {
	scope := record.Feed &^ domainScope
	if int(record.Feed) < len(t.lanes) {
		if domain := t.feeds.feeds[record.Feed].domain.Load(); domain != 0 {
			scope = domain | domainScope
		}
		if record.Flags&bpf.RecordSequence != 0 {
			missing := &t.feeds.feeds[record.Feed].missing
			if record.Gap != 0 {
				missing.Add(record.Gap)
			}
			p.missing = missing.Load()
			p.late = t.lanes[record.Feed].late(record.Sequence)
		}
	}
	p.key[5] = uint64(scope) << 32
	if record.Flags&bpf.RecordTagRemoved != 0 {
		p.tag(record.Tci)
	}
}

// address finishes the key: one form for both directions, and its hash.
func (t *Table) address(p *packet) {
	p.side = p.key.order()
	p.hash = t.seed.hash(&p.key)
	p.slot = noSlot
}

// Flush brings all packets observed so far into their flows. The owner calls
// it at the end of each batch it received.
func (t *Table) Flush() {
	batch := t.batch[:t.staged]
	t.staged = 0
	// The lines of the index were touched by Observe. Finding the slots and
	// touching their lines depends on nothing but them, so these misses too
	// are under way together before the first flow is needed.
	for i := range batch {
		p := &batch[i]
		if p.slot = t.index.guess(p.hash); p.slot < uint32(len(t.hot)) {
			e := &t.hot[p.slot]
			t.warm += e.key[0] + e.packets[0]
		}
	}
	for i := range batch {
		t.apply(&batch[i])
	}
	t.releaseOld()
	t.expire(busySweep)
	t.serve(busyLook)
	if t.clock.tick != t.shown {
		t.show()
	}
}

// Tick tells an idle table the time, so that flows end when nothing arrives. It
// does what Flush does and takes its time over it: call it when there is
// nothing to receive.
func (t *Table) Tick(timeNS uint64) {
	t.Flush()
	t.clock.advance(timeNS)
	t.expire(idleSweep)
	t.serve(idleLook)
	t.show()
}

func (t *Table) show() {
	t.shown = t.clock.tick
	t.board.publish(&t.count)
}

// apply adds a packet to its flow.
func (t *Table) apply(p *packet) {
	i := p.slot
	if i >= uint32(len(t.hot)) || !t.hot[i].key.equal(&p.key) {
		// New, or met by an earlier packet of this batch, or a tag in common.
		if i = t.index.find(p.hash, t.hot, &p.key); i == noSlot {
			i = t.begin(p)
		}
	}
	e := &t.hot[i]
	if p.time > e.last && p.time-e.last > t.idle {
		t.end(i, EndedIdle)
		i = t.begin(p)
		e = &t.hot[i]
	} else if p.hasTCP && p.tcpFlags&tcpSYN != 0 && t.reused(i, p) {
		t.end(i, EndedReused)
		i = t.begin(p)
		e = &t.hot[i]
	}
	if e.bits&(bitFresh|bitSampled) != 0 || p.weight != 1 {
		t.mark(i, e, p)
	}
	side := p.side & 1
	e.last = max(e.last, p.time)
	e.seen = t.clock.tick
	e.packets[side] += p.packets
	e.bytes[side] += p.bytes
	if p.hasTCP {
		t.tcp(i, e, p)
		return
	}
	e.feed[side] = p.feed
	if e.bits&bitAwait != 0 && side != e.lead {
		t.answered(i, e, p)
	}
}

// mark does what is seldom needed: the first packet after a record, and sampling.
func (t *Table) mark(i uint32, e *hot, p *packet) {
	c := &t.cold[i]
	if e.bits&bitFresh != 0 {
		e.bits &^= bitFresh
		e.begun = t.clock.tick
		c.first, e.last = p.since, p.time
		c.weight = 1
	}
	if p.weight > 1 {
		e.bits |= bitSampled
		c.weight = max(c.weight, p.weight)
	}
}

// answered measures the time to the first answer of a conversation that is not TCP.
func (t *Table) answered(i uint32, e *hot, p *packet) {
	e.bits &^= bitAwait
	c := &t.cold[i]
	if e.packets[e.lead&1] != 0 && p.time > c.asked {
		c.firstByte = p.time - c.asked
	}
}

// begin makes a flow of which p will be the first packet.
func (t *Table) begin(p *packet) uint32 {
	if len(t.free) == 0 {
		t.end(t.victim(), EndedEvicted)
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.used = max(t.used, int(i)+1)
	if displaced := t.index.insert(p.hash, i); displaced != noSlot {
		t.dismiss(displaced, EndedEvicted)
	}

	side := p.side & 1
	lead := side
	certain := hotBits(0)
	switch {
	case p.hasTCP && p.tcpFlags&(tcpSYN|tcpACK) == tcpSYN:
		certain = bitCertain
	case p.hasTCP && p.tcpFlags&(tcpSYN|tcpACK) == tcpSYN|tcpACK:
		lead, certain = side^1, bitCertain
	case p.lead == leadReceiver:
		lead = side ^ 1
	}
	t.hot[i] = hot{
		key:  p.key,
		last: p.time,
		seen: t.clock.tick,
		lead: lead,
		bits: bitFresh | bitAwait | certain,
	}
	t.nextID++
	c := &t.cold[i]
	*c = cold{id: t.nextID, asked: p.since}
	c.mac[side], c.mac[side^1] = p.mac[0], p.mac[1]
	t.deadline[i] = t.clock.tick + min(t.ticks.idle, t.ticks.active)
	t.count[Created]++
	return i
}
