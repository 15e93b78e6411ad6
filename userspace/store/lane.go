package store

import (
	"sync/atomic"

	"github.com/unspan/unspan/pcapng"
)

// Lane takes the packets of one worker. Append, Tick and Close are for that
// worker alone; Counters for anyone.
type Lane struct {
	// The chunk at hand, spread out for Append. limit is 0 when there is none.
	buf     []byte
	limit   int
	packets uint64
	bytes   uint64
	last    uint64

	chunk *chunk
	since uint64 // the Tick that first saw the chunk in use
	flush uint64

	series *series // where an inline writer writes; nil: a thread writes
	out    chan<- *chunk
	free   chan *chunk
	size   int // of a new chunk
	unmade int // chunks that may still be made

	_       [64]byte
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
// should come in order of time.
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

// Tick tells the lane the time, in nanoseconds. A worker calls it at least ten
// times a second, and hands over what has been waiting for longer than Flush.
func (l *Lane) Tick(now uint64) {
	switch {
	case l.packets == 0:
	case l.since == 0:
		l.since = now
	case now-l.since >= l.flush:
		l.hand(false)
	}
}

// Close hands over the last packets. It is the worker's last call.
func (l *Lane) Close() {
	if l.packets > 0 {
		l.hand(false)
	}
	l.limit = 0
	l.out <- &chunk{end: true}
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

// room hands over a chunk that is full and makes sure that the next one holds
// n bytes of data. It says whether there is a next one.
func (l *Lane) room(n int) bool {
	if l.packets > 0 {
		l.hand(true)
	}
	if l.chunk == nil && !l.take() {
		return false
	}
	if need := n + pcapng.PacketOverhead; need > l.limit {
		// Larger than any packet before it: chunks grow to what the traffic is.
		l.chunk.buf = aligned((need + spare + pageSize - 1) &^ (pageSize - 1))
		l.begin(l.chunk)
	}
	return true
}

// hand passes the chunk on.
func (l *Lane) hand(full bool) {
	c := l.chunk
	c.buf, c.last, c.full = l.buf, l.last, full
	c.shares = append(c.shares[:0], share{l, l.packets, l.bytes})
	l.packets, l.bytes, l.since = 0, 0, 0
	if l.series != nil {
		l.series.write(c)
		l.begin(c)
		return
	}
	l.chunk, l.buf, l.limit = nil, nil, 0
	l.out <- c // has room for all chunks there are
}

// take gets an empty chunk: one that came back, or a new one.
func (l *Lane) take() bool {
	select {
	case c := <-l.free:
		l.begin(c)
		return true
	default:
	}
	if l.unmade == 0 {
		return false
	}
	l.unmade--
	l.begin(newChunk(l.size))
	return true
}

func (l *Lane) begin(c *chunk) {
	l.chunk = c
	l.buf = c.buf[:0]
	l.limit = cap(l.buf) - spare
}

// settle counts the packets of a chunk where they ended.
func settle(shares []share, written bool) {
	for _, s := range shares {
		if written {
			s.lane.written.Add(s.packets)
			s.lane.content.Add(s.bytes)
		} else {
			s.lane.refused.Add(s.packets)
		}
	}
}
