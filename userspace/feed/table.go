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
	"math"

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

// Observe counts the packet of rec in feed rec.Feed: time, length and sequence
// number are read. v is what becomes of it. Of a packet that goes on to a worker,
// Gap is set to the numbers missing before it, together with those missing before
// the packets in front of it that did not go on.
func (t *Table) Observe(rec *bpf.Record, v bpf.Verdict) {
	if rec.Feed == 0 {
		return
	}
	kept := v >= bpf.RedirectFragment
	s := &t.states[rec.Feed-1]
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
	if v == bpf.DropLoop || rec.Flags&bpf.RecordNested != 0 {
		s.Loops++
	}
	if rec.Flags&bpf.RecordSequence != 0 {
		s.Owed += uint64(Observe(&s.Sequence, rec.Sequence))
		if kept {
			rec.Gap, s.Owed = uint32(min(s.Owed, math.MaxUint32)), 0
		}
	}
}

// Find finds or makes the feed of key, and returns its id; 0 when the table is full.
func (t *Table) Find(key *bpf.FeedKey) uint32 {
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
