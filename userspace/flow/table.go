package flow

import (
	"errors"
	"math/rand/v2"
	"unsafe"

	"github.com/unspan/unspan/bpf"
)

// Table holds the flows of one worker. One goroutine owns it and calls all
// methods but Counters, Ring's reader and Ask.
type Table struct {
	config Config
	idle   uint64 // ns
	ticks  timeouts

	pipe     [pipeSize]packet
	observed uint64 // packets put into the pipe
	located  uint64 // of them, those whose slot was looked for
	applied  uint64 // of them, those in their flow

	index    index
	hot      []hot
	cold     []cold
	deadline []uint32 // per slot: the tick when it may be over; never when free
	free     []uint32 // free slots, used from the end
	spare    int      // slots kept free by evicting ahead: see makeRoom
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
	// lookAhead is how many packets lie between the steps of a packet, so that
	// the memory it asks for has time to come: 8 packets are 500 ns.
	lookAhead = 8
	pipeSize  = 4 * lookAhead
	// houseEvery is after how many packets the house is kept.
	houseEvery = 64
	never      = ^uint32(0)
	maxWeight  = 1 << 24 // what a packet stands for at most: senders and rules stay far below
	maxPacket  = 1 << 17 // no IP packet is longer, nor is a frame of one before segmentation
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
		spare:     spareFor(config.Flows),
		desk:      desk{turn: make(chan struct{}, 1)},
	}
	for i := range t.seed {
		t.seed[i] = rand.Uint64()
	}
	if err := t.reserve(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	for i := range t.free {
		t.free[i] = uint32(len(t.free) - 1 - i)
		t.deadline[i] = never
	}
	return t, nil
}

// reserve maps the arrays.
func (t *Table) reserve() error {
	n := t.config.Flows + t.spare
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

// ticksOf is a time in ticks, rounded up. What ticks cannot count is for ever.
func ticksOf(ns uint64) uint32 { return uint32(min(ns>>tickShift+1, uint64(never))) }

// due is the tick that lies so many after another, before never.
func due(tick, wait uint32) uint32 { return uint32(min(uint64(tick)+uint64(wait), uint64(never-1))) }

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

// Observe takes one frame: the record in front of it, its bytes (the caller's
// again when Observe returns), the length it had on the mirrored wire, and its
// time in ns. A packet is in its flow some packets later, at the latest after
// Flush.
func (t *Table) Observe(record *bpf.Record, frame []byte, origLen int, timeNS uint64) {
	t.clock.advance(timeNS)
	p := &t.pipe[t.observed%pipeSize]
	p.hasTCP, p.late, p.lead, p.missing = false, false, leadUnknown, 0
	p.time, p.since, p.tick = timeNS, timeNS, t.clock.tick
	p.weight = min(max(record.Weight, 1), maxWeight)
	p.packets = p.weight
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
	t.observed++
	t.step(p)
}

// step moves the pipe on by one packet: the newest asks for its bucket, one
// some packets older finds its slot there and asks for the flow, and one older
// still is brought into its flow. No step waits for memory asked for in it.
func (t *Table) step(newest *packet) {
	bucket := unsafe.Pointer(&t.index.buckets[newest.place&t.index.mask])
	next := bucket
	if t.observed-t.located > lookAhead {
		next = t.locate()
	}
	prefetch(bucket, next)
	if t.located-t.applied > lookAhead {
		t.apply(&t.pipe[t.applied%pipeSize])
		t.applied++
	}
	if t.observed%houseEvery == 0 {
		t.keepHouse(busySweep, busyLook)
	}
}

// locate looks for the slot of the next packet and returns the memory that it
// will need: the flow, or where else its slot may be.
func (t *Table) locate() unsafe.Pointer {
	p := &t.pipe[t.located%pipeSize]
	t.located++
	if p.slot = t.index.guess(p.place); p.slot < uint32(len(t.hot)) {
		return unsafe.Pointer(&t.hot[p.slot])
	}
	return unsafe.Pointer(t.index.second(p.place))
}

// scope begins the key: feed or domain, and the tag that the sender took out of
// the frame (ERSPAN II, En=10). A tag the frame still has comes to it later.
func (t *Table) scope(p *packet, record *bpf.Record) {
	scope := record.Feed &^ domainScope
	if s := slot(record.Feed); s < len(t.lanes) {
		if domain := t.feeds.feeds[s].domain.Load(); domain != 0 {
			scope = domain | domainScope
		}
		if record.Flags&bpf.RecordSequence != 0 {
			missing := &t.feeds.feeds[s].missing
			if record.Gap != 0 {
				missing.Add(record.Gap)
			}
			p.missing = missing.Load()
			p.late = t.lanes[s].late(record.Feed, record.Sequence)
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
	p.id, p.place = t.seed.hash(&p.key)
	p.slot = noSlot
}

// Flush brings all packets observed so far into their flows. The owner calls
// it at the end of each batch it received.
func (t *Table) Flush() {
	t.settle()
	t.keepHouse(busySweep, busyLook)
}

// Tick tells an idle table the time, so that flows end when nothing arrives. It
// does what Flush does and takes its time over the rest: call it when there is
// nothing to receive.
func (t *Table) Tick(timeNS uint64) {
	t.settle()
	t.clock.advance(timeNS)
	t.keepHouse(idleSweep, idleLook)
	t.show()
}

// settle empties the pipe.
func (t *Table) settle() {
	for t.located < t.observed {
		next := t.locate()
		prefetch(next, next)
	}
	for t.applied < t.observed {
		t.apply(&t.pipe[t.applied%pipeSize])
		t.applied++
	}
}

// keepHouse does what is not for one packet, in small pieces.
func (t *Table) keepHouse(sweep, look int) {
	t.releaseOld()
	t.makeRoom()
	t.expire(sweep)
	t.serve(look)
	if t.clock.tick != t.shown {
		t.show()
	}
}

func (t *Table) show() {
	t.shown = t.clock.tick
	t.board.publish(&t.count)
}

// apply adds a packet to its flow.
func (t *Table) apply(p *packet) {
	i := p.slot
	if i >= uint32(len(t.hot)) || t.hot[i].id != p.id {
		// New, or met by a packet just before, or a tag in common.
		if i = t.index.find(p.place, t.hot, p.id); i == noSlot {
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
	side := p.side & 1
	if e.bits&(bitFresh|bitSampled) != 0 || p.weight != 1 || e.feed[side] != uint16(p.feed) || e.packets[side] >= manyPackets {
		t.mark(i, e, p)
	}
	e.last = max(e.last, p.time)
	e.seen = p.tick
	e.packets[side] += p.packets
	e.bytes[side] += p.bytes
	if p.hasTCP {
		t.tcp(i, e, p)
	} else if e.bits&bitAwait != 0 && side != e.lead {
		t.answered(i, e, p)
	}
}

// manyPackets is when a record is made before the count overflows.
const manyPackets = 1 << 31

// mark does what is seldom needed: the first packet after a record, sampling,
// another feed, a count that grows large.
func (t *Table) mark(i uint32, e *hot, p *packet) {
	c := &t.cold[i]
	side := p.side & 1
	if e.packets[side] >= manyPackets {
		t.report(i)
	}
	if e.bits&bitFresh != 0 {
		e.bits &^= bitFresh
		c.first, c.begun, c.weight = p.since, p.tick, 1
		e.last = p.time
	}
	if p.weight > 1 {
		e.bits |= bitSampled
		c.weight = max(c.weight, p.weight)
	}
	if !p.hasTCP { // of TCP, the newest bytes decide
		e.brought(c, p)
	}
}

// answered measures the time to the first answer of a conversation that is not TCP.
func (t *Table) answered(i uint32, e *hot, p *packet) {
	e.bits &^= bitAwait
	c := &t.cold[i]
	if e.packets[e.lead&1] != 0 {
		c.firstByte = after(p.time, c.asked)
	}
}

// begin makes a flow of which p will be the first packet.
func (t *Table) begin(p *packet) uint32 {
	if len(t.free) == 0 {
		t.end(t.victim(), EndedEvicted)
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	if n := len(t.free) - lookAhead; n >= 0 {
		t.prefetchCold(t.free[n]) // for a flow that begins a little later
	}
	t.used = max(t.used, int(i)+1)
	if displaced := t.index.insert(p.place, i); displaced != noSlot {
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
		id:   p.id,
		last: p.time,
		seen: p.tick,
		lead: lead,
		feed: [2]uint16{uint16(p.feed), uint16(p.feed)},
		bits: bitFresh | bitAwait | certain,
	}
	t.nextID++
	c := &t.cold[i]
	*c = cold{key: p.key, number: t.nextID, asked: p.since, feed: [2]uint32{p.feed, p.feed}}
	c.mac[side], c.mac[side^1] = p.mac[0], p.mac[1]
	t.deadline[i] = due(p.tick, min(t.ticks.idle, t.ticks.active))
	t.count[Created]++
	return i
}
