package reassembly

import (
	"fmt"
	"sync/atomic"
)

// A Reason says why fragments were given up.
type Reason uint8

// The boxes of the ledger that fragments end in when no datagram comes of them. A
// fault of one fragment costs that fragment, a contradiction between fragments the
// datagram.
const (
	Malformed        Reason = iota // no fragment, broken header, cut on the way, or empty
	Misaligned                     // not the last, and not a multiple of eight bytes long
	TooBig                         // would make a payload of more than 65,535 bytes
	Overlap                        // fragments overlap, RFC 5722
	Inconsistent                   // fragments do not agree where the datagram ends
	Duplicate                      // the same fragment came before; the datagram goes on
	Timeout                        // the rest did not come in time
	Reused                         // the sender used the IPv4 id again, RFC 4963
	EvictedMemory                  // made place: Config.Memory
	EvictedDatagrams               // made place: Config.Datagrams
	ReasonCount
)

var reasonNames = [ReasonCount]string{
	Malformed:        "malformed",
	Misaligned:       "misaligned",
	TooBig:           "too_big",
	Overlap:          "overlap",
	Inconsistent:     "inconsistent",
	Duplicate:        "duplicate",
	Timeout:          "timeout",
	Reused:           "id_reused",
	EvictedMemory:    "evicted_memory",
	EvictedDatagrams: "evicted_datagrams",
}

// String is the reason as the ledger and the metrics write it.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Stats is the ledger of fragments. Between two calls of Add
//
//	Fragments = Held + Reassembled + the sum of GivenUp
type Stats struct {
	Fragments   uint64              // taken in
	Held        uint64              // waiting for the rest of their datagrams
	Reassembled uint64              // gone into complete datagrams
	GivenUp     [ReasonCount]uint64 // by Reason
	Datagrams   uint64              // completed
	Waiting     uint64              // incomplete, given up ones that are remembered included
	Memory      uint64              // bytes of buffers, in use or kept
}

// Lost is the number of fragments given up, for all reasons together.
func (s *Stats) Lost() uint64 {
	var sum uint64
	for _, n := range s.GivenUp {
		sum += n
	}
	return sum
}

type counters struct {
	fragments, reassembled, datagrams atomic.Uint64
	held, waiting, memory             atomic.Int64
	givenUp                           [ReasonCount]atomic.Uint64
}

// Stats returns the ledger as it stands. Any goroutine may call it; while the owner is
// inside Add the numbers may be a fragment apart.
func (r *Reassembler) Stats() Stats {
	s := Stats{
		Reassembled: r.counts.reassembled.Load(),
		Datagrams:   r.counts.datagrams.Load(),
		Waiting:     uint64(r.counts.waiting.Load()),
		Memory:      uint64(r.counts.memory.Load()),
	}
	for reason := range s.GivenUp {
		s.GivenUp[reason] = r.counts.givenUp[reason].Load()
	}
	// Held after where its fragments go, and those count after it: a fragment that
	// moves meanwhile is missed, never counted twice.
	s.Held = uint64(r.counts.held.Load())
	s.Fragments = r.counts.fragments.Load()
	return s
}
