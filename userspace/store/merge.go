package store

import (
	"math"
	"time"

	"github.com/unspan/unspan/pcapng"
)

const (
	// mergeChunks is how many chunks of merged packets there are: one is being
	// filled while others are written.
	mergeChunks = 4

	// mergePause is how long a packet waits at most for the merger to look.
	mergePause = 10 * time.Millisecond
)

// merger puts the packets of several lanes into one order of time.
//
// It looks into the chunks that lanes are filling, as far as they show them.
// The oldest packet in sight may go out when no lane can still come with an
// older one: a lane whose packets are all out comes with nothing older than the
// last of them, and a lane that found nothing with nothing older than Lateness
// before it looked.
type merger struct {
	in      chan *chunk // from lanes: chunks as they are begun, and ends
	out     chan<- *chunk
	free    chan *chunk // merged chunks that were written
	inlets  []inlet
	open    int // lanes that have not closed
	chunk   *chunk
	began   time.Time // when chunk got its first packet
	series  *series   // whose intervals chunks must not straddle
	number  uint64    // of the interval of chunk
	late    uint64
	flush   time.Duration
	ordered bool
}

// inlet is a lane as the merger sees it.
type inlet struct {
	lane  *Lane
	queue []*chunk
	at    int    // what is out of queue[0]
	shown int    // what may be read of queue[0]
	whole bool   // and no more will come
	last  uint64 // time of the last packet that went out
	floor uint64 // no packet older than this or last will come
	ended bool
}

func newMerger(s *Store, out chan<- *chunk) *merger {
	m := &merger{
		in:      make(chan *chunk, len(s.lanes)*(cap(s.lanes[0].free)+1)),
		out:     out,
		free:    make(chan *chunk, mergeChunks),
		inlets:  make([]inlet, len(s.lanes)),
		open:    len(s.lanes),
		series:  s.writers[0].series,
		late:    uint64(s.cfg.Lateness),
		flush:   s.cfg.Flush,
		ordered: !s.cfg.Unordered,
	}
	for i, l := range s.lanes {
		m.inlets[i].lane = l
	}
	for range mergeChunks {
		c := newChunk(s.cfg.Chunk, m.free)
		c.shares = make([]share, len(s.lanes))
		m.free <- c
	}
	return m
}

// run merges until all lanes are closed and everything is out.
func (m *merger) run() {
	pause := time.NewTicker(mergePause)
	defer pause.Stop()
	for m.open > 0 {
		select {
		case c := <-m.in:
			m.take(c)
		case <-pause.C:
		}
		m.look()
		m.merge()
		if m.chunk != nil && time.Since(m.began) >= m.flush {
			m.hand(false)
		}
	}
	if m.chunk != nil {
		m.hand(false)
	}
	m.out <- &chunk{end: true}
}

// look sees what lanes have. The order matters: a lane that says it found nothing
// has shown everything before.
func (m *merger) look() {
	for i := range m.inlets {
		n := &m.inlets[i]
		empty := n.lane.empty.Load()
		n.floor = empty - min(empty, m.late)
	}
	for len(m.in) > 0 {
		m.take(<-m.in)
	}
}

func (m *merger) take(c *chunk) {
	for i := range m.inlets {
		n := &m.inlets[i]
		switch {
		case n.lane != c.shares[0].lane:
		case c.end:
			n.ended = true
			m.open--
		default:
			n.queue = append(n.queue, c)
		}
	}
}

// merge moves out what may go.
func (m *merger) merge() {
	for {
		first, second := -1, uint64(math.MaxUint64)
		oldest := uint64(math.MaxUint64)
		for i := range m.inlets {
			n := &m.inlets[i]
			time, there := n.head()
			switch {
			case !there && n.ended || !there && !m.ordered:
			case !there:
				second = min(second, max(n.floor, n.last))
			case first < 0 || time < oldest:
				if first >= 0 {
					second = min(second, oldest)
				}
				first, oldest = i, time
			default:
				second = min(second, time)
			}
		}
		if first < 0 || oldest > second {
			return
		}
		if !m.ordered {
			second = math.MaxUint64
		}
		m.move(&m.inlets[first], second)
	}
}

// head is the time of the oldest packet in sight.
func (n *inlet) head() (time uint64, there bool) {
	for len(n.queue) > 0 {
		c := n.queue[0]
		if n.at == n.shown {
			shown := c.shown.Load()
			n.shown, n.whole = int(shown&^complete), shown&complete != 0
		}
		if n.at < n.shown {
			_, _, time = pcapng.PacketHead(c.buf[:cap(c.buf)][n.at:])
			return time, true
		}
		if !n.whole {
			return 0, false
		}
		copy(n.queue, n.queue[1:])
		n.queue = n.queue[:len(n.queue)-1]
		n.at, n.shown, n.whole = 0, 0, false
		c.home <- c
	}
	return 0, false
}

// move takes from an inlet the packets that are not newer than until, as far as
// they are in sight and fit.
func (m *merger) move(n *inlet, until uint64) {
	blocks := n.queue[0].buf[:cap(n.queue[0].buf)][:n.shown]
	size, captured, time := pcapng.PacketHead(blocks[n.at:])
	if m.chunk != nil && (len(m.chunk.buf)+size > cap(m.chunk.buf)-spare || m.series.number(time) != m.number) {
		m.hand(true)
	}
	if m.chunk == nil {
		m.begin(size, time)
	}
	c := m.chunk
	room := cap(c.buf) - spare - len(c.buf)
	at, packets, bytes := n.at, uint64(0), uint64(0)
	for {
		packets, bytes = packets+1, bytes+uint64(captured)
		at, n.last = at+size, time
		if at == len(blocks) {
			break
		}
		size, captured, time = pcapng.PacketHead(blocks[at:])
		if time > until || at+size-n.at > room || m.series.number(time) != m.number {
			break
		}
	}
	c.buf = append(c.buf, blocks[n.at:at]...)
	c.last = n.last
	n.at = at
	for i := range c.shares {
		if c.shares[i].lane == n.lane {
			c.shares[i].packets += packets
			c.shares[i].bytes += bytes
		}
	}
}

// begin waits for a chunk that is written: the lanes' chunks take what comes
// meanwhile.
func (m *merger) begin(size int, first uint64) {
	c := <-m.free
	c.fit(size)
	for i := range m.inlets {
		c.shares[i] = share{lane: m.inlets[i].lane}
	}
	m.chunk, m.number, m.began = c, m.series.number(first), time.Now()
}

func (m *merger) hand(full bool) {
	m.chunk.full = full
	m.out <- m.chunk
	m.chunk = nil
}
