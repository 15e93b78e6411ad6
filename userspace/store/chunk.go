package store

import (
	"sync/atomic"
	"unsafe"

	"github.com/unspan/unspan/pcapng"
)

const (
	pageSize = 4096

	// spare is what a chunk leaves free at its end for the head and tail of a
	// filler that a medium may put behind the blocks.
	spare = pcapng.MinFiller + 4
)

// chunk is a run of packet blocks on its way to a file. It is owned by one at a
// time: who fills it, then who writes it. Only a merger looks into a chunk that
// is still being filled, as far as it is shown.
type chunk struct {
	buf    []byte // whole packet blocks, in page-aligned memory
	last   uint64 // time of the last packet
	full   bool   // no further packet fitted
	end    bool   // the last of its lane: it is empty
	shares []share
	home   chan *chunk // where it goes when it is written

	// shown is how many bytes of buf a merger may read, and its lowest bit,
	// free because blocks are aligned, says that no more will come.
	shown atomic.Uint64
}

// share is what a lane has in a chunk.
type share struct {
	lane    *Lane
	packets uint64
	bytes   uint64 // of the packets, without what the format adds
}

const complete = 1

func newChunk(size int, home chan *chunk) *chunk {
	return &chunk{buf: aligned(size), home: home}
}

// fit empties the chunk and sees to it that a packet of n bytes has room.
// Chunks grow to what the traffic is.
func (c *chunk) fit(n int) {
	if need := n + pcapng.PacketOverhead + spare; need > cap(c.buf) {
		c.buf = aligned((need + pageSize - 1) &^ (pageSize - 1))
	}
	c.buf = c.buf[:0]
}

// aligned returns memory that begins on a page, as O_DIRECT wants it.
func aligned(size int) []byte {
	b := make([]byte, size+pageSize)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pageSize - 1)
	return b[skip : skip : skip+uintptr(size)]
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
