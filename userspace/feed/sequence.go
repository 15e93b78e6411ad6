package feed

import "github.com/unspan/unspan/bpf"

// The tracker's limits, the same as in bpf/sequence.h.
const (
	window     = 64      // how late a number may come and still be told from a restart
	jump       = 1 << 24 // a second of 64-byte frames at 10 Gbit/s; beyond it the sender began anew
	top30      = 1 << 30 // where some switches wrap
	nearTop30  = 1 << 16 // how near the wrap must be to be learned from
	allMissing = ^uint64(1)
)

// Observe counts a GRE sequence number and returns how many numbers are missing
// just before it. It is bpf/sequence.h in Go: the same state for the same numbers.
//
// The books: expected = Received - Duplicates + Lost.
func Observe(s *bpf.Sequence, number uint32) (gap uint32) {
	s.Received++
	if s.Flags&bpf.SequenceSeen == 0 {
		start(s, number)
		return 0
	}
	d := distance(s, number)
	if d < -window || d >= jump {
		// One wild number is a stray; two in a row are a new run.
		if s.Flags&bpf.SequenceSuspect != 0 && number == s.Suspect {
			s.Restarts++
			start(s, number)
		} else {
			s.Strays++
			s.Flags |= bpf.SequenceSuspect
			s.Suspect = number + 1
		}
		return 0
	}
	s.Flags &^= bpf.SequenceSuspect
	if d < 0 {
		late(s, uint32(-d))
		return 0
	}
	advance(s, number, uint32(d))
	return uint32(d)
}

func start(s *bpf.Sequence, number uint32) {
	s.Flags = bpf.SequenceSeen | s.Flags&bpf.Sequence30Bit
	s.Missing = 0
	s.Span = 1
	s.Next = number + 1
}

// distance is the signed distance from the number expected, in the width the
// sender counts in: 32 bits, or 30 once a wrap at 2^30 has been seen.
func distance(s *bpf.Sequence, number uint32) int32 {
	switch {
	case s.Flags&bpf.Sequence30Bit != 0:
		if number >= top30 {
			s.Flags &^= bpf.Sequence30Bit
		}
	case number < nearTop30 && s.Next <= top30 && s.Next > top30-nearTop30:
		s.Flags |= bpf.Sequence30Bit
		s.Next &= top30 - 1
	}
	d := number - s.Next
	if s.Flags&bpf.Sequence30Bit != 0 {
		return int32(d<<2) >> 2
	}
	return int32(d)
}

// late counts a number that is back behind the one expected.
func late(s *bpf.Sequence, back uint32) {
	bit := uint64(1) << (back - 1)
	switch {
	case back > s.Span:
		s.Reordered++ // overtaken by the first one seen
	case s.Missing&bit != 0:
		s.Missing &^= bit
		s.Lost--
		s.Reordered++
	default:
		s.Duplicates++
	}
}

func advance(s *bpf.Sequence, number, gap uint32) {
	if gap < window-1 {
		s.Missing = s.Missing<<(gap+1) | (1<<gap-1)<<1
		s.Span = min(s.Span+gap+1, window)
	} else {
		s.Missing = allMissing
		s.Span = window
	}
	s.Lost += uint64(gap)
	s.Next = number + 1
	if s.Flags&bpf.Sequence30Bit != 0 {
		s.Next &= top30 - 1
	}
}
