// Package reassembly puts outer IP fragments back together.
//
// A mirror wraps a frame and makes it longer: a full frame no longer fits the path
// and the sender's IP stack cuts it up. Only the first piece has the tunnel's header,
// so nothing can be said of the others before they are one again.
//
//	[ Eth | IP 0+  | GRE | inner ... ]
//	[ Eth | IP 185+| ...             ]  ──►  [ Eth | IP | GRE | inner ............ ]
//	[ Eth | IP 370 | ... ]                   goes through decapsulation once more
//
// Fragments come in any order. A datagram is found by its addresses, IP id,
// protocol, VLANs and depth of encapsulation (see key). What contradicts itself is
// given up, not guessed: RFC 5722 for overlaps, in IPv6 and in IPv4.
//
// The ledger counts fragments, not datagrams, and every one is in exactly one box:
//
//	fragments = held + reassembled + given up (by reason)
//
// Memory, datagrams and age are bounded, so a sender that only ever sends first
// halves costs what the limits say and no more. Buffers are reused: in the steady
// state nothing is allocated.
//
// A Reassembler belongs to one goroutine. Stats alone may be called from others.
package reassembly

import (
	"fmt"
	"hash/maphash"
	"time"

	"github.com/unspan/unspan/bpf"
)

// MaxPayload is the most that a datagram may carry behind its IP header, in bytes
// (RFC 8200 4.5 for IPv6). An IPv4 datagram ends at 65,535 bytes with its header
// (RFC 791, 3.1); up to 60 more are taken here, see Datagram.Frame.
const MaxPayload = 65535

// reuseDistance guards against an IPv4 id that came round again while the leftovers
// of its last use still wait: at 10 Gbit/s the 16 bits of the id last less than a
// second, and the tunnel has no checksum that would notice (RFC 4963). A datagram
// that saw none of the last 4,096 fragments of its sender is over. An id comes back
// after 131,072 fragments at the earliest, of which each of 16 workers sees 8,192.
// net.ipv4.ipfrag_max_dist is the same idea.
const reuseDistance = 4096

// senders is the number of counters that reuseDistance is measured with; senders
// that share one only look busier than they are.
const senders = 4096

// Config bounds what incomplete datagrams may cost.
type Config struct {
	Memory    int           // bytes of buffers, in use and kept for the next
	Datagrams int           // incomplete datagrams, given up ones that are remembered included
	Age       time.Duration // from a datagram's first fragment, by the fragments' own time
}

// Default returns limits that hold any real feed: 64 MiB, 4096 datagrams, 5 seconds.
func Default() Config {
	return Config{Memory: 64 << 20, Datagrams: 4096, Age: 5 * time.Second}
}

// minMemory holds one datagram of the largest kind while it grows out of a smaller
// buffer.
const minMemory = 128 << 10

func (c Config) validate() error {
	switch {
	case c.Memory < minMemory:
		return fmt.Errorf("memory: %d bytes is less than one datagram may need, set at least %d", c.Memory, minMemory)
	case c.Datagrams < 1 || c.Datagrams > 1<<20:
		return fmt.Errorf("datagrams: %d is not within 1 and %d", c.Datagrams, 1<<20)
	case c.Age <= 0:
		return fmt.Errorf("age: %v is not positive", c.Age)
	}
	return nil
}

// Fragment is one outer IP fragment on its way in.
type Fragment struct {
	// Data is the whole frame from its Ethernet header on, with up to two VLAN
	// tags. It is read during Add and not kept.
	Data []byte
	// RawIP says that Data begins with the IP header instead.
	RawIP bool
	// Time is the receive time in nanoseconds, of any clock that all fragments
	// share: ages are told by it, so a file is read by its own time.
	Time uint64
	// Depth is the number of encapsulations already taken off. The fragment of
	// an inner packet may have addresses and id of an outer one.
	Depth uint8
	// Record is what the kernel half said of the fragment.
	Record bpf.Record
}

// Datagram is what the fragments were.
type Datagram struct {
	// Frame is the datagram in one piece: the link header and the IP header of
	// the first fragment (offset 0) and all payload behind them. It is valid
	// until the next call of Add and may be written to.
	//
	// IPv4: offset and MF are cleared, total length and header checksum are set.
	// IPv6: the fragment header is gone, payload length is set. An IPv4 total
	// beyond 65,535, which no header can say, is written as 0: to the frame's
	// end, as Linux means it in big packets it makes itself.
	Frame []byte
	// Record is the first fragment's: feed and sequence number are found there.
	Record bpf.Record
	// Time is the receive time of the fragment that completed the datagram.
	Time uint64
	// Fragments is the number of fragments that went into it.
	Fragments int
}

// A Reassembler holds the fragments of incomplete datagrams.
type Reassembler struct {
	age     uint64
	pool    pool
	slots   []datagram
	free    []int32 // indices of unused slots
	buckets []int32 // first slot of each hash chain, none if empty
	seed    maphash.Seed
	oldest  int32 // the datagrams in use, in order of their first fragments
	newest  int32
	recent  [senders]uint32 // fragments seen per sender, for reuseDistance
	lent    *buffer         // behind the Frame returned last
	counts  counters
}

// New returns an empty Reassembler. Buffers are allocated as they are needed, up to
// config.Memory.
func New(config Config) (*Reassembler, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configuring reassembly: %w", err)
	}
	r := &Reassembler{
		age:     uint64(config.Age),
		pool:    pool{limit: config.Memory},
		slots:   make([]datagram, config.Datagrams),
		free:    make([]int32, 0, config.Datagrams),
		buckets: make([]int32, powerOfTwo(2*config.Datagrams)),
		seed:    maphash.MakeSeed(),
		oldest:  none,
		newest:  none,
	}
	for i := range r.slots {
		r.free = append(r.free, int32(len(r.slots)-1-i))
	}
	for i := range r.buckets {
		r.buckets[i] = none
	}
	return r, nil
}

func powerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// Add takes a fragment in. It returns the datagram and true when this fragment was
// the last one missing. A fragment that is refused is counted by reason: Stats.
func (r *Reassembler) Add(f Fragment) (Datagram, bool) {
	r.reclaim()
	r.counts.fragments.Add(1)
	r.Expire(f.Time)

	p, refused, ok := parse(&f)
	if !ok {
		r.counts.givenUp[refused].Add(1)
		return Datagram{}, false
	}
	if p.offset == 0 && !p.more {
		return r.atomic(&f, &p), true
	}

	hash := maphash.Comparable(r.seed, p.key)
	d := r.find(&p.key, hash)
	recent := uint32(0)
	if p.key.version == 4 {
		recent = r.countSender(&p.key)
		d = r.guardReuse(d, recent)
	}
	if d == nil {
		d = r.begin(&p.key, hash, f.Time)
	}
	d.recent = recent
	if d.dead {
		r.counts.givenUp[d.reason].Add(1)
		return Datagram{}, false
	}
	return r.place(d, &f, &p)
}

// place puts a fragment at its place in the datagram.
func (r *Reassembler) place(d *datagram, f *Fragment, p *piece) (Datagram, bool) {
	if d.duplicate(p) {
		r.counts.givenUp[Duplicate].Add(1)
		return Datagram{}, false
	}
	if reason, wrong := d.contradiction(p); wrong {
		r.counts.givenUp[reason].Add(1)
		r.kill(d, reason)
		return Datagram{}, false
	}
	r.reserve(d, p.end())
	d.put(p)
	d.fragments++
	r.counts.held.Add(1)
	if p.offset == 0 {
		d.record = f.Record
	}
	if d.have != d.total {
		return Datagram{}, false
	}

	whole := Datagram{Frame: d.assemble(), Record: d.record, Time: f.Time, Fragments: d.fragments}
	r.counts.held.Add(-int64(d.fragments))
	r.counts.reassembled.Add(uint64(d.fragments))
	r.counts.datagrams.Add(1)
	r.lent, d.buffer = d.buffer, nil
	r.remove(d)
	return whole, true
}

// atomic returns the datagram that is its only fragment. RFC 6946 4: it is processed
// apart from all other fragments, even those with the same addresses and id.
func (r *Reassembler) atomic(f *Fragment, p *piece) Datagram {
	d := datagram{total: unknown, self: none}
	r.reserve(&d, p.end())
	d.put(p)
	r.lent = d.buffer
	r.counts.reassembled.Add(1)
	r.counts.datagrams.Add(1)
	return Datagram{Frame: d.assemble(), Record: f.Record, Time: f.Time, Fragments: 1}
}

// reclaim takes the buffer back that the last Datagram was in.
func (r *Reassembler) reclaim() {
	if r.lent != nil {
		r.pool.put(r.lent)
		r.lent = nil
	}
}

// Expire gives up what is older than Config.Age at the time now (of the clock of
// Fragment.Time). Add does so by itself; the owner calls it when no fragments come.
//
// A difference counts in both directions: where a file's time jumps back, what came
// before the jump is over too.
func (r *Reassembler) Expire(now uint64) {
	for r.oldest != none {
		d := &r.slots[r.oldest]
		if age := int64(now - d.begun); age <= int64(r.age) && age >= -int64(r.age) {
			return
		}
		r.discard(d, Timeout)
	}
}

// reserve makes room for payload up to end in the datagram's buffer.
func (r *Reassembler) reserve(d *datagram, end int) {
	if d.buffer != nil && end <= d.buffer.capacity() {
		return
	}
	class := classFor(max(end, d.total))
	for !r.pool.room(class) {
		// What is oldest is likeliest to stay incomplete.
		victim := r.oldest
		if victim == d.self {
			victim = r.slots[victim].newer
		}
		r.discard(&r.slots[victim], EvictedMemory)
	}
	bigger := r.pool.get(class)
	if d.buffer != nil {
		bigger.copy(d.buffer, d.end)
		r.pool.put(d.buffer)
	}
	d.buffer = bigger
	r.counts.memory.Store(int64(r.pool.allocated))
}
