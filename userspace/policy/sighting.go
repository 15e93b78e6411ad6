package policy

import (
	"maps"
	"sync"
	"time"
)

// sighting is the newest first copy of a packet.
type sighting struct {
	digest uint64
	time   uint64 // of the record, ns
	feed   uint32 // 0: no sighting
}

// Sightings finds packets that come again. It is for one goroutine; Pairs is for any.
//
// A packet that comes again from the same feed is a retransmission, however alike
// the two are, and is kept (unless WithinFeed, and it carries a number of its own).
// So a genuine retransmission is lost only when all of this comes together: it is
// the same in every compared bit, which over IPv4 its sender's numbering forbids; it
// comes within the window; the mirror that delivered the first copy of the original
// delivers none of it; and another mirror does, which delivered none of the original.
//
// The table has the shape of the kernel's (bpf/duplicate.h), so that both forget the
// same under the same load. What is forgotten is kept, never dropped.
type Sightings struct {
	settings Duplicates
	key      *DigestKey
	buckets  [][sightingWays]sighting

	counting sync.Mutex // of duplicates only: what is no duplicate does not meet it
	pairs    map[Pair]uint64
}

// NewSightings makes a table that has seen nothing.
func NewSightings(d Duplicates, key *DigestKey) *Sightings {
	return &Sightings{
		settings: d, key: key,
		buckets: make([][sightingWays]sighting, sightingBuckets),
		pairs:   map[Pair]uint64{{}: 0}, // as the kernel's: there is always room for the rest
	}
}

// Again reports whether the frame is one that came before, within the window. A
// frame without a feed id never is.
func (s *Sightings) Again(feed uint32, now uint64, frame []byte, rawIP bool) bool {
	if feed == 0 || s.settings.Window == 0 {
		return false
	}
	digest, numbered := Digest(frame, rawIP, s.settings.Ignore, s.key)
	bucket := &s.buckets[digest>>48]
	oldest := 0
	for i := range bucket {
		b := &bucket[i]
		if b.feed != 0 && b.digest == digest {
			return s.met(b, feed, now, numbered)
		}
		if b.time < bucket[oldest].time {
			oldest = i
		}
	}
	bucket[oldest] = sighting{digest: digest, time: now, feed: feed}
	return false
}

// met decides about a packet that has been seen, perhaps long ago.
func (s *Sightings) met(b *sighting, feed uint32, now uint64, numbered bool) bool {
	fresh := now < b.time || now-b.time <= uint64(s.settings.Window/time.Nanosecond)
	if fresh && (b.feed != feed || s.settings.WithinFeed && numbered) {
		s.count(Pair{First: b.feed, Second: feed})
		return true
	}
	b.time, b.feed = now, feed
	return false
}

func (s *Sightings) count(p Pair) {
	s.counting.Lock()
	defer s.counting.Unlock()
	if _, known := s.pairs[p]; !known && len(s.pairs) >= maxPairs+1 {
		p = Pair{}
	}
	s.pairs[p]++
}

// Pairs says how many frames of each pair of feeds were duplicates.
func (s *Sightings) Pairs() map[Pair]uint64 {
	s.counting.Lock()
	defer s.counting.Unlock()
	return maps.Clone(s.pairs)
}
