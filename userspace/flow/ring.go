package flow

import "sync/atomic"

// Ring hands records from the one goroutine that owns a Table to the one that
// exports them. It is bounded; what does not fit is counted by the Table
// (RecordsLost).
type Ring struct {
	records []Flow
	mask    uint64
	_       [64]byte
	head    atomic.Uint64 // next to read; the reader writes it
	_       [56]byte
	tail    atomic.Uint64 // next to write; the table writes it
	_       [56]byte
	seen    uint64 // the table's copy of head
}

func newRing(records int) *Ring {
	size := 1
	for size < records {
		size *= 2
	}
	return &Ring{records: make([]Flow, size), mask: uint64(size - 1)}
}

// place returns where the next record goes, nil when the ring is full.
func (r *Ring) place() *Flow {
	tail := r.tail.Load()
	if tail-r.seen > r.mask {
		if r.seen = r.head.Load(); tail-r.seen > r.mask {
			return nil
		}
	}
	return &r.records[tail&r.mask]
}

// push makes the record in place visible to the reader.
func (r *Ring) push() { r.tail.Store(r.tail.Load() + 1) }

// Read copies waiting records into batch and returns how many. Only one
// goroutine may read. It does not block: 0 means that nothing waits now.
func (r *Ring) Read(batch []Flow) int {
	head, tail := r.head.Load(), r.tail.Load()
	n := min(len(batch), int(tail-head))
	for i := range n {
		batch[i] = r.records[(head+uint64(i))&r.mask]
	}
	r.head.Store(head + uint64(n))
	return n
}
