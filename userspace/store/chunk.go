package store

import (
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
// time: the lane that fills it, then the series that writes it.
type chunk struct {
	buf    []byte // whole packet blocks, in page-aligned memory
	last   uint64 // time of the last packet
	full   bool   // no further packet fitted
	end    bool   // the lane has closed; what is in buf is its last
	shares []share
}

// share is what a lane has in a chunk.
type share struct {
	lane    *Lane
	packets uint64
	bytes   uint64 // of the packets, without what the format adds
}

func newChunk(size int) *chunk { return &chunk{buf: aligned(size)} }

// aligned returns memory that begins on a page, as O_DIRECT wants it.
func aligned(size int) []byte {
	b := make([]byte, size+pageSize)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pageSize - 1)
	return b[skip : skip : skip+uintptr(size)]
}
