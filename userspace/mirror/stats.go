package mirror

import (
	"slices"
	"time"
)

// Stats is what a Sender has sent, exact to the packet.
type Stats struct {
	Packets uint64        // wrapped packets, duplicates included
	Frames  uint64        // frames on the wire: each fragment of a packet is one
	Bytes   uint64        // of those frames, without preamble and FCS
	Elapsed time.Duration // since Run began
	Feeds   []FeedStats   // in the order of Config.Feeds

	// What the device counts since Run began, other senders' frames included. On
	// a veth, a frame for which the other end's ring had no room is in
	// DeviceDropped and in no other box.
	DeviceSent    uint64
	DeviceDropped uint64
}

// FeedStats is what became of one feed: what a perfect receiver would find.
type FeedStats struct {
	Packets    uint64 // sent, duplicates included
	Numbers    uint64 // sequence numbers from the first to the highest sent
	Lost       uint64 // of those, never sent
	Duplicated uint64 // packets sent a second time
	Reordered  uint64 // packets sent after a higher number

	Skipped int // frames of the feed, per round, that its session cannot carry or drops
}

// count adds a packet.
func (f *FeedStats) count(e event) {
	f.Packets++
	switch e.kind {
	case again:
		f.Duplicated++
	case late:
		f.Reordered++
	}
	f.Numbers = max(f.Numbers, e.number+1)
	f.Lost = f.Numbers - (f.Packets - f.Duplicated)
}

// repeat makes the stats of one pass those of n passes, each of which uses up
// stride numbers.
func (f *FeedStats) repeat(n, stride uint64) {
	if n == 0 || f.Packets == 0 {
		*f = FeedStats{Skipped: f.Skipped}
		return
	}
	f.Packets *= n
	f.Duplicated *= n
	f.Reordered *= n
	f.Numbers += (n - 1) * stride
	f.Lost = f.Numbers - (f.Packets - f.Duplicated)
}

// clone is a copy of stats that shares nothing with it.
func (s Stats) clone() Stats {
	s.Feeds = slices.Clone(s.Feeds)
	return s
}
