package flow

// fragments remembers which flow a fragmented datagram belongs to. Only the
// first fragment carries ports; it teaches them to those that follow. Those
// that come before it are held as a count and join when it comes. Memory is
// fixed: a full set forgets its oldest datagram, and what was held for it goes
// to the flow of its addresses without ports (counter Orphans).
type fragments struct {
	datagrams []datagram
	mask      uint64
	hand      uint64 // next set whose held fragments are checked for age
	holding   int    // datagrams with fragments held
}

// datagram is one fragmented datagram of two hosts.
type datagram struct {
	identity  key    // addresses, VLANs and scope; word 4 is the identification
	seen      uint32 // tick
	used      bool
	taught    bool   // the first fragment came
	hasTCP    bool   // and began a TCP segment
	lead      lead   // as the first fragment told
	window    uint16 // of that segment
	seq       uint32 // sequence number that the datagram's byte 0 would have
	transport uint64 // word 4 of the flow's key
	frames    uint64 // fragments held
	held      packet // what they add up to
}

type fragmentHeader struct {
	id        uint32
	offset    uint32 // bytes
	length    int    // bytes of this fragment, as the IP header says
	etherType uint16
	protocol  uint8
	more      bool
}

const (
	fragmentWays = 4
	// fragmentTimeout is how long a datagram is remembered: 30 s, as Linux
	// reassembles (ipfrag_time).
	fragmentTimeout = uint32(30_000_000_000 >> tickShift)
)

func newFragments(datagrams int) fragments {
	sets := 1
	for sets*fragmentWays < datagrams {
		sets *= 2
	}
	return fragments{datagrams: make([]datagram, sets*fragmentWays), mask: uint64(sets - 1)}
}

func (d *datagram) expired(tick uint32) bool { return tick-d.seen > fragmentTimeout }

// find returns the datagram, or the room for it: a free one, else the oldest.
func (f *fragments) find(identity *key, place uint64, tick uint32) (d *datagram, found bool) {
	set := f.datagrams[(place&f.mask)*fragmentWays:][:fragmentWays]
	room := &set[0]
	for i := range set {
		d := &set[i]
		if d.used && d.identity.equal(identity) && !d.expired(tick) {
			return d, true
		}
		if room.used && (!d.used || tick-d.seen > tick-room.seen) {
			room = d
		}
	}
	return room, false
}

// fragment attaches a fragment to the flow of its datagram. b begins behind the
// IP header and its extensions.
func (p *packet) fragment(t *Table, b []byte, h fragmentHeader) Counter {
	identity := p.key
	identity[4] = uint64(h.id)<<32 | uint64(h.etherType)
	if h.etherType == etherTypeIPv4 {
		identity[4] |= uint64(h.protocol) << 24 // RFC 791 3.2; IPv6 has it not, RFC 8200 4.5
	}
	_, place := t.seed.hash(&identity)
	d, found := t.fragments.find(&identity, place, t.clock.tick)
	if !found {
		t.releaseHeld(d)
		*d = datagram{identity: identity, used: true}
	}
	d.seen = t.clock.tick

	if h.offset == 0 {
		outcome := p.transport(h.protocol, h.etherType, b, h.length)
		d.taught = true
		d.transport, d.lead = p.key[4], p.lead
		d.hasTCP, d.window = p.hasTCP, p.window
		d.seq = p.seq - (uint32(max(h.length, 0)) - p.payload)
		if d.frames > 0 {
			p.packets += d.held.packets
			p.bytes += d.held.bytes
			p.since = min(p.since, d.held.since)
			d.frames = 0
			t.fragments.holding--
		}
		return outcome
	}
	if d.taught {
		p.key[4], p.lead = d.transport, d.lead
		if p.hasTCP = d.hasTCP && h.length > 0; p.hasTCP {
			p.seq, p.payload = d.seq+h.offset, uint32(h.length)
			p.tcpFlags, p.window = 0, d.window
		}
		return Tracked
	}
	p.key.setTransport(0, 0, h.protocol, 0, h.etherType)
	if d.held.packets >= manyPackets/2 {
		t.releaseHeld(d) // a first fragment will never come
	}
	if d.frames == 0 {
		d.held = *p
		t.fragments.holding++
	} else {
		d.held.packets += p.packets
		d.held.bytes += p.bytes
		d.held.time = max(d.held.time, p.time)
		d.held.since = min(d.held.since, p.since)
	}
	d.frames++
	return held
}

// releaseHeld gives what is held to the flow of the addresses alone.
func (t *Table) releaseHeld(d *datagram) {
	if d.frames == 0 {
		return
	}
	t.count[Orphans] += d.frames
	d.frames = 0
	t.fragments.holding--
	p := d.held
	p.tick = t.clock.tick
	t.address(&p)
	t.apply(&p)
}

// releaseOld looks at one set for fragments held too long.
func (t *Table) releaseOld() {
	f := &t.fragments
	if f.holding == 0 {
		return
	}
	set := f.datagrams[(f.hand&f.mask)*fragmentWays:][:fragmentWays]
	f.hand++
	for i := range set {
		if set[i].frames > 0 && set[i].expired(t.clock.tick) {
			t.releaseHeld(&set[i])
		}
	}
}

// releaseAll ends all waiting.
func (t *Table) releaseAll() {
	for i := range t.fragments.datagrams {
		t.releaseHeld(&t.fragments.datagrams[i])
	}
}
