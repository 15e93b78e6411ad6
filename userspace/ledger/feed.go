package ledger

import (
	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

// Feed is one mirror stream and what is known of it.
type Feed struct {
	Key   bpf.FeedKey
	State bpf.FeedState
}

// Name is the feed's name everywhere: 192.0.2.7/erspan2/1000.
func (f *Feed) Name() string { return feed.Name(&f.Key) }

// Expected is how many packets the sender sent by its own numbering, from the
// first one seen to the newest. Zero for a feed without sequence numbers.
func (f *Feed) Expected() uint64 {
	s := &f.State.Sequence
	return s.Received - s.Duplicates + s.Lost
}

// Sequenced reports whether the feed numbers its packets. If not, no receiver
// can tell what was lost on the way.
func (f *Feed) Sequenced() bool {
	return f.State.Sequence.Flags&bpf.SequenceSeen != 0
}

// Add puts the books of another feed to those of this one, whose key stays.
func (f *Feed) Add(other *Feed) {
	to, from := &f.State, &other.State
	to.Packets += from.Packets
	to.Bytes += from.Bytes
	to.Kept += from.Kept
	to.Critical += from.Critical
	to.Loops += from.Loops
	to.Sequence.Flags |= from.Sequence.Flags
	to.Sequence.Received += from.Sequence.Received
	to.Sequence.Lost += from.Sequence.Lost
	to.Sequence.Reordered += from.Sequence.Reordered
	to.Sequence.Duplicates += from.Sequence.Duplicates
	to.Sequence.Strays += from.Sequence.Strays
	to.Sequence.Restarts += from.Sequence.Restarts
}

// Ended sums up the feeds that sent no more and gave their places in the feed
// table to new ones.
type Ended struct {
	Feeds     uint64
	Sequenced Feed // those that numbered their packets
	Silent    Feed // the others
}

// Add counts one more.
func (e *Ended) Add(f *Feed) {
	e.Feeds++
	if f.Sequenced() {
		e.Sequenced.Add(f)
	} else {
		e.Silent.Add(f)
	}
}
