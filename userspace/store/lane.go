package store

import (
	"sync/atomic"

	"github.com/unspan/unspan/pcapng"
)

// Lane takes the packets of one worker. Append, Tick and Close are for that
// worker alone; Counters for anyone.
type Lane struct {
	// The chunk at hand, spread out for Append. limit is 0 when there is none
	// or the lane is parked.
	buf     []byte
	limit   int
	packets uint64
	bytes   uint64
	last    uint64

	chunk *chunk
	since uint64 // the Tick that first saw the chunk in use
	flush uint64

	// Where chunks go, one of three: an inline series, a writer's thread, or a
	// merger, which gets them when they are begun.
	series *series
	out    chan<- *chunk
	merged bool

	free  chan *chunk // chunks that came back
	fresh []*chunk    // chunks that were never used: their memory may yet cost nothing

	ticked uint64 // packets in the chunk at the last Tick
	parked bool   // no packet came between two Ticks

	_       [64]byte
	empty   atomic.Uint64 // when parked: no older packet will come; else 0
	backlog atomic.Uint64 // written by the worker
	_       [64]byte
	written atomic.Uint64 // written by the writer, as the rest
	content atomic.Uint64
	refused atomic.Uint64
}

// Counters say what became of the packets of a lane.
type Counters struct {
	Written      uint64 // in a file, or handed to the pipe
	WrittenBytes uint64 // of these packets, as captured
	Backlog      uint64 // lost: the writer did not keep up
	Refused      uint64 // lost: the medium was full or failed
}

// Append takes a packet as [pcapng.AppendPacket] does; data is free again when
// it returns. The interface must come from AddInterface. Packets of a lane
// come in order of time, or the files have them as they came.
//
// It neither waits, nor locks, nor allocates beyond the backlog. What became of
// the packet is told by Counters.
func (l *Lane) Append(id uint32, time uint64, length uint32, flags pcapng.Flags, dropped uint64, data []byte) {
	if len(l.buf)+len(data)+pcapng.PacketOverhead > l.limit && !l.room(len(data)) {
		l.backlog.Add(1)
		return
	}
	l.buf = pcapng.AppendPacket(l.buf, id, time, length, flags, dropped, data)
	l.packets++
	l.bytes += uint64(len(data))
	l.last = time
}

// Tick tells the lane the time, in nanoseconds of the packets' clock, as it was
// before the worker last looked for packets. It calls Tick when it has appended
// what it found, and at least ten times a second: what has been waiting for
// longer than Flush is handed over, and the other lanes of a merged file learn
// up to when this one has shown all there is.
func (l *Lane) Tick(now uint64) {
	if l.merged {
		l.show(now)
		return
	}
	switch {
	case l.packets == 0:
	case l.since == 0:
		l.since = now
	case now-l.since >= l.flush:
		l.hand(false)
	}
}

// show lets the merger see what has been appended, or that nothing has been
// since the last Tick.
func (l *Lane) show(now uint64) {
	if l.packets != l.ticked {
		l.ticked = l.packets
		if l.chunk != nil {
			l.chunk.shown.Store(uint64(len(l.buf)))
		}
		return
	}
	l.parked, l.limit = true, 0 // the next Append comes to room
	l.empty.Store(now)
}

// Close hands over the last packets. It is the worker's last call.
func (l *Lane) Close() {
	if l.packets > 0 {
		l.hand(false)
	}
	l.out <- &chunk{end: true, shares: []share{{lane: l}}}
}

// Counters may be called at any time.
func (l *Lane) Counters() Counters {
	return Counters{
		Written:      l.written.Load(),
		WrittenBytes: l.content.Load(),
		Backlog:      l.backlog.Load(),
		Refused:      l.refused.Load(),
	}
}

// room makes sure that the chunk has room for n bytes of data, and hands over
// the one that has not. It says whether there is one.
func (l *Lane) room(n int) bool {
	if l.parked {
		l.parked = false
		l.empty.Store(0)
		if l.chunk != nil {
			l.limit = cap(l.buf) - spare
		}
		if len(l.buf)+n+pcapng.PacketOverhead <= l.limit {
			return true
		}
	}
	if l.packets > 0 {
		l.hand(true)
	}
	if l.chunk == nil && !l.take() {
		l.ticked = 1 // and packets is 0: not parked at the next Tick
		return false
	}
	l.chunk.fit(n)
	l.buf, l.limit = l.chunk.buf, cap(l.chunk.buf)-spare
	if l.merged {
		l.chunk.shown.Store(0)
		l.out <- l.chunk
	}
	return true
}

// hand passes the chunk on.
func (l *Lane) hand(full bool) {
	c := l.chunk
	if l.merged {
		c.shown.Store(uint64(len(l.buf)) | complete)
	} else {
		c.buf, c.last, c.full = l.buf, l.last, full
		c.shares = append(c.shares[:0], share{l, l.packets, l.bytes})
	}
	l.packets, l.bytes, l.since, l.ticked = 0, 0, 0, 0
	l.buf, l.limit = nil, 0
	if l.series != nil {
		l.series.write(c)
		return // and fill it again
	}
	l.chunk = nil
	if !l.merged {
		l.out <- c // has room for all chunks there are
	}
}

// take gets an empty chunk: rather one that came back than a fresh one.
func (l *Lane) take() bool {
	select {
	case l.chunk = <-l.free:
		return true
	default:
	}
	n := len(l.fresh)
	if n == 0 {
		return false
	}
	l.chunk, l.fresh = l.fresh[n-1], l.fresh[:n-1]
	return true
}
