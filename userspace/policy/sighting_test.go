package policy_test

import (
	"maps"
	"testing"
	"time"

	"github.com/unspan/unspan/userspace/policy"
)

// What comes, from which feed, when; and whether it is dropped as a duplicate.
type sight struct {
	feed  uint32
	at    time.Duration
	frame []byte
	again bool
}

func TestSightings(t *testing.T) {
	const ms = time.Millisecond
	original := segment()
	routed := both(set(22, 63), set(24, 0xab, 0xbb))(segment())
	retransmitted := set(18, 0x12, 0x40)(segment()) // Linux, Windows and BSD number it anew
	unnumbered := segment6()
	within := policy.Duplicates{Window: 20 * ms, Ignore: usual, WithinFeed: true}
	across := policy.Duplicates{Window: 20 * ms, Ignore: usual}
	for _, row := range []struct {
		name     string
		settings policy.Duplicates
		sights   []sight
		pairs    map[policy.Pair]uint64
	}{
		{"source and destination of a routed packet", across,
			[]sight{{1, 0, original, false}, {2, ms, routed, true}}, map[policy.Pair]uint64{{First: 1, Second: 2}: 1}},
		{"three mirrors", across,
			[]sight{{3, 0, original, false}, {1, ms, routed, true}, {2, 2 * ms, original, true}}, map[policy.Pair]uint64{{First: 3, Second: 1}: 1, {First: 3, Second: 2}: 1}},
		{"at the end of the window", across,
			[]sight{{1, 0, original, false}, {2, 20 * ms, routed, true}}, map[policy.Pair]uint64{{First: 1, Second: 2}: 1}},
		{"after the window", across,
			[]sight{{1, 0, original, false}, {2, 20*ms + 1, routed, false}, {1, 21 * ms, original, true}}, map[policy.Pair]uint64{{First: 2, Second: 1}: 1}},
		{"clocks of two CPUs", across,
			[]sight{{1, ms, original, false}, {2, 0, routed, true}}, map[policy.Pair]uint64{{First: 1, Second: 2}: 1}},
		{"switched off", policy.Duplicates{Ignore: usual},
			[]sight{{1, 0, original, false}, {2, 0, original, false}}, nil},
		{"feeds without an id", across,
			[]sight{{0, 0, original, false}, {0, 0, original, false}, {1, 0, original, false}, {0, 0, original, false}}, nil},

		{"retransmission with a new IP id, two mirrors", across,
			[]sight{{1, 0, original, false}, {2, ms, routed, true}, {1, 2 * ms, retransmitted, false}, {2, 3 * ms, retransmitted, true}},
			map[policy.Pair]uint64{{First: 1, Second: 2}: 2}},
		{"retransmission the same to the last bit", across,
			[]sight{{1, 0, unnumbered, false}, {2, ms, unnumbered, true}, {1, 2 * ms, unnumbered, false}, {2, 3 * ms, unnumbered, true}},
			map[policy.Pair]uint64{{First: 1, Second: 2}: 2}},
		{"the same, and the other mirror is faster", across,
			[]sight{{1, 0, unnumbered, false}, {2, ms, unnumbered, true}, {2, 2 * ms, unnumbered, true}, {1, 3 * ms, unnumbered, false}},
			map[policy.Pair]uint64{{First: 1, Second: 2}: 2}},
		{"the same, lost between the mirrors", across,
			[]sight{{1, 0, unnumbered, false}, {1, 2 * ms, unnumbered, false}, {2, 3 * ms, unnumbered, true}}, map[policy.Pair]uint64{{First: 1, Second: 2}: 1}},
		{"the same, one mirror", across,
			[]sight{{1, 0, unnumbered, false}, {1, ms, unnumbered, false}, {1, 2 * ms, unnumbered, false}}, nil},
		{"the same, and the first mirror loses it: the one case that costs a packet", across,
			[]sight{{1, 0, unnumbered, false}, {2, 2 * ms, unnumbered, true}}, map[policy.Pair]uint64{{First: 1, Second: 2}: 1}},

		{"one session, both ports", within,
			[]sight{{1, 0, original, false}, {1, ms, routed, true}}, map[policy.Pair]uint64{{First: 1, Second: 1}: 1}},
		{"one session, retransmission", within,
			[]sight{{1, 0, original, false}, {1, ms, retransmitted, false}}, nil},
		{"one session, retransmission without a number", within,
			[]sight{{1, 0, unnumbered, false}, {1, ms, unnumbered, false}}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := policy.NewSightings(row.settings, digestKey)
			const start = uint64(1e12)
			for i, sight := range row.sights {
				if got := s.Again(sight.feed, start+uint64(sight.at), sight.frame, false); got != sight.again {
					t.Errorf("frame %d is a duplicate: %v, want %v", i+1, got, sight.again)
				}
			}
			want := map[policy.Pair]uint64{{}: 0}
			maps.Copy(want, row.pairs)
			if got := s.Pairs(); !maps.Equal(got, want) {
				t.Errorf("pairs %v, want %v", got, want)
			}
		})
	}
}

// A flood of other packets makes the table forget, and then it keeps: what it does
// not remember is never dropped.
func TestSightingsForgetSafely(t *testing.T) {
	s := policy.NewSightings(policy.Duplicates{Window: time.Second, Ignore: usual}, digestKey)
	frame := segment()
	again, packets := 0, 600_000
	for i := range packets {
		frame[38], frame[39], frame[40], frame[41] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		if s.Again(1, uint64(1e12)+uint64(i), frame, false) {
			again++
		}
	}
	remembered := 0
	for i := range packets {
		frame[38], frame[39], frame[40], frame[41] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		if i >= packets-100_000 && s.Again(2, uint64(1e12)+uint64(packets), frame, false) {
			remembered++
		}
	}
	if again != 0 {
		t.Errorf("%d of %d different packets were dropped", again, packets)
	}
	if remembered < 90_000 || remembered > 100_000 {
		t.Errorf("of the newest 100000 packets %d were remembered, want nearly all", remembered)
	}
}

// Pairs that come when the table of them is full are counted together.
func TestSightingsBoundPairs(t *testing.T) {
	s := policy.NewSightings(policy.Duplicates{Window: time.Second, Ignore: usual}, digestKey)
	frame := segment()
	s.Again(1, 1e12, frame, false)
	const feeds = 5000
	for feed := range uint32(feeds) {
		s.Again(2+feed, 1e12, frame, false)
	}
	if pairs := s.Pairs(); len(pairs) != 4096+1 || pairs[policy.Pair{}] != feeds-4096 {
		t.Errorf("%d pairs, %d frames of others, want 4096 and the others, and %d", len(pairs), pairs[policy.Pair{}], feeds-4096)
	}
}

func BenchmarkSightings(b *testing.B) {
	s := policy.NewSightings(policy.Duplicates{Window: time.Second, Ignore: usual}, digestKey)
	frame := segment()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		frame[38], frame[39], frame[40], frame[41] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		s.Again(1, uint64(i), frame, false)
	}
}
