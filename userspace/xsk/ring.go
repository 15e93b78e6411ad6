package xsk

import "sync/atomic"

// ring is one AF_XDP ring: a power of two of entries that the kernel and the
// process share, and the two free-running indexes between which they are filled.
//
// One layout, two roles. On a receive ring the kernel produces and we consume
// (Peek, Release); on a fill ring we produce and the kernel consumes (Reserve,
// Submit). Only one goroutine at a time may use a ring, in the one role it has.
//
// The atomics are the barriers A to D of net/xdp/xsk_queue.h: an index is
// published after the entries it covers were written or read, and entries are
// touched only after the index that covers them was seen.
type ring[D any] struct {
	producer *atomic.Uint32 // receive ring: written by the kernel; fill ring: by us
	consumer *atomic.Uint32 // receive ring: written by us; fill ring: by the kernel
	flags    *atomic.Uint32 // written by the kernel: XDP_RING_NEED_WAKEUP
	entries  []D            // receive ring: written by the kernel; fill ring: by us

	// Reading the other side's index costs a cache miss, so what was seen of
	// it last is kept here and read again only when it no longer suffices.
	own   uint32 // our index
	other uint32 // the kernel's, as last seen
}

// Peek returns up to n filled entries, oldest first, without taking them; fewer
// at the end of the memory, where a batch stops. They stay ours until Release.
func (r *ring[D]) Peek(n int) []D {
	have := int(r.other - r.own)
	if have < n {
		r.other = r.producer.Load()
		have = int(r.other - r.own)
	}
	start := int(r.own) & (len(r.entries) - 1)
	return r.entries[start : start+min(n, have, len(r.entries)-start)]
}

// Release gives the n oldest entries back to the producer.
func (r *ring[D]) Release(n int) {
	r.own += uint32(n)
	r.consumer.Store(r.own)
}

// Waiting tells whether a Peek would return something.
func (r *ring[D]) Waiting() bool {
	return r.other != r.own || r.producer.Load() != r.own
}

// Reserve returns up to n empty entries to be written; fewer when the ring is
// full or at the end of the memory. The kernel sees them after Submit.
func (r *ring[D]) Reserve(n int) []D {
	room := len(r.entries) - int(r.own-r.other)
	if room < n {
		r.other = r.consumer.Load()
		room = len(r.entries) - int(r.own-r.other)
	}
	start := int(r.own) & (len(r.entries) - 1)
	return r.entries[start : start+min(n, room, len(r.entries)-start)]
}

// Submit hands the n oldest reserved entries to the consumer.
func (r *ring[D]) Submit(n int) {
	r.own += uint32(n)
	r.producer.Store(r.own)
}

// Unconsumed returns how many submitted entries the consumer has not taken.
func (r *ring[D]) Unconsumed() int {
	r.other = r.consumer.Load()
	return int(r.own - r.other)
}
