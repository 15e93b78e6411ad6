// Package feed knows mirror streams: what identifies one, what its sequence
// numbers say about loss on the way, and the table that keeps the books of each.
//
// The kernel keeps the same table for live traffic (bpf/feed.h); this one serves
// capture files and is the oracle of the kernel's. A Table belongs to one
// goroutine.
package feed

import (
	"fmt"
	"iter"

	"github.com/unspan/unspan/bpf"
)

// Max is the number of feeds a table holds unless told otherwise, and the size
// of the kernel's table.
const Max = 4096

// Table holds the feeds seen. Ids begin at 1; a full table gives id 0, which
// costs a feed its own books and never its packets.
type Table struct {
	ids    map[bpf.FeedKey]uint32
	keys   []bpf.FeedKey
	states []bpf.FeedState
}

// NewTable makes a table for at most max feeds.
func NewTable(max int) *Table {
	return &Table{
		ids:    make(map[bpf.FeedKey]uint32),
		keys:   make([]bpf.FeedKey, 0, max),
		states: make([]bpf.FeedState, 0, max),
	}
}

// Observe finds or makes the feed of key and counts the packet of rec in it:
// time, length and sequence number are read, Feed and Gap are set. kept says
// that the packet goes on to a worker.
func (t *Table) Observe(key *bpf.FeedKey, rec *bpf.Record, kept bool) {
	id := t.find(key)
	rec.Feed = id
	if id == 0 {
		return
	}
	s := &t.states[id-1]
	if s.First == 0 {
		s.First = rec.Time
	}
	s.Last = rec.Time
	s.Packets++
	s.Bytes += uint64(rec.WireLength)
	if kept {
		s.Kept++
	}
	if rec.Flags&bpf.RecordCritical != 0 {
		s.Critical++
	}
	if rec.Flags&bpf.RecordSequence != 0 {
		rec.Gap = Observe(&s.Sequence, rec.Sequence)
	}
}

func (t *Table) find(key *bpf.FeedKey) uint32 {
	if id, ok := t.ids[*key]; ok {
		return id
	}
	if len(t.keys) == cap(t.keys) {
		return 0
	}
	t.keys = append(t.keys, *key)
	t.states = append(t.states, bpf.FeedState{})
	id := uint32(len(t.keys))
	t.ids[*key] = id
	return id
}

// FeedKey says whose feed id is.
func (t *Table) FeedKey(id uint32) (bpf.FeedKey, error) {
	if id == 0 || int(id) > len(t.keys) {
		return bpf.FeedKey{}, fmt.Errorf("looking up feed %d: there are %d", id, len(t.keys))
	}
	return t.keys[id-1], nil
}

// State returns the books of the feed with this id, false when there is none.
func (t *Table) State(id uint32) (bpf.FeedState, bool) {
	if id == 0 || int(id) > len(t.states) {
		return bpf.FeedState{}, false
	}
	return t.states[id-1], true
}

// All yields every feed with its books, in the order the feeds appeared.
func (t *Table) All() iter.Seq2[bpf.FeedKey, bpf.FeedState] {
	return func(yield func(bpf.FeedKey, bpf.FeedState) bool) {
		for i, k := range t.keys {
			if !yield(k, t.states[i]) {
				return
			}
		}
	}
}
