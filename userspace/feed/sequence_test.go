package feed_test

import (
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

// run is n numbers from first on, wrapping at 2^32.
func run(first uint32, n int) []uint32 {
	numbers := make([]uint32, n)
	for i := range numbers {
		numbers[i] = first + uint32(i)
	}
	return numbers
}

func join(runs ...[]uint32) (all []uint32) {
	for _, r := range runs {
		all = append(all, r...)
	}
	return all
}

func TestObserve(t *testing.T) {
	const top30 = 1 << 30
	for _, c := range []struct {
		name    string
		numbers []uint32
		want    bpf.Sequence // counters only
		gaps    uint64       // sum of what was returned
		flags   uint32
	}{
		{name: "in order", numbers: run(7, 10), want: bpf.Sequence{Received: 10}},
		{name: "one missing", numbers: join(run(0, 5), run(6, 5)), want: bpf.Sequence{Received: 10, Lost: 1}, gaps: 1},
		{name: "a hole wider than the window", numbers: join(run(0, 5), run(1005, 5)), want: bpf.Sequence{Received: 10, Lost: 1000}, gaps: 1000},
		{name: "hole of 62", numbers: []uint32{0, 63}, want: bpf.Sequence{Received: 2, Lost: 62}, gaps: 62},
		{name: "hole of 63", numbers: []uint32{0, 64}, want: bpf.Sequence{Received: 2, Lost: 63}, gaps: 63},
		{name: "two swapped", numbers: []uint32{1, 2, 4, 3, 5}, want: bpf.Sequence{Received: 5, Reordered: 1}, gaps: 1},
		{name: "64 late", numbers: join([]uint32{0}, run(2, 63), []uint32{1}), want: bpf.Sequence{Received: 65, Reordered: 1}, gaps: 1},
		{name: "65 late is a stray", numbers: join([]uint32{0}, run(2, 64), []uint32{1}), want: bpf.Sequence{Received: 66, Lost: 1, Strays: 1}, gaps: 1},
		{name: "sent twice", numbers: []uint32{1, 2, 2, 3}, want: bpf.Sequence{Received: 4, Duplicates: 1}},
		{name: "late and then twice", numbers: []uint32{1, 3, 2, 2}, want: bpf.Sequence{Received: 4, Reordered: 1, Duplicates: 1}, gaps: 1},
		{name: "the first was overtaken", numbers: []uint32{5, 4, 6}, want: bpf.Sequence{Received: 3, Reordered: 1}},
		{name: "wrap at 2^32", numbers: run(0xfffffffe, 5), want: bpf.Sequence{Received: 5}},
		{name: "wrap at 2^32 with a hole", numbers: []uint32{0xfffffffe, 1}, want: bpf.Sequence{Received: 2, Lost: 2}, gaps: 2},
		{name: "wrap at 2^30", numbers: join(run(top30-3, 3), run(0, 3)), want: bpf.Sequence{Received: 6}, flags: bpf.Sequence30Bit},
		{name: "wrap at 2^30 with a hole", numbers: []uint32{top30 - 2, 1}, want: bpf.Sequence{Received: 2, Lost: 2}, gaps: 2, flags: bpf.Sequence30Bit},
		{name: "swapped over the wrap at 2^30", numbers: []uint32{top30 - 2, 0, top30 - 1, 1}, want: bpf.Sequence{Received: 4, Reordered: 1}, gaps: 1, flags: bpf.Sequence30Bit},
		{name: "counting on past 2^30", numbers: run(top30-3, 6), want: bpf.Sequence{Received: 6}},
		{name: "restart at 0", numbers: join(run(5000, 5), run(0, 5)), want: bpf.Sequence{Received: 10, Restarts: 1, Strays: 1}},
		{name: "one wild number", numbers: join(run(100000, 3), []uint32{7}, run(100003, 3)), want: bpf.Sequence{Received: 7, Strays: 1}},
		{name: "a jump of 2^24 is no loss", numbers: []uint32{0, 1 + 1<<24}, want: bpf.Sequence{Received: 2, Strays: 1}},
		{name: "a jump just below is", numbers: []uint32{0, 1 << 24}, want: bpf.Sequence{Received: 2, Lost: 1<<24 - 1}, gaps: 1<<24 - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s bpf.Sequence
			var gaps uint64
			for _, n := range c.numbers {
				gaps += uint64(feed.Observe(&s, n))
			}
			got := bpf.Sequence{Received: s.Received, Lost: s.Lost, Reordered: s.Reordered,
				Duplicates: s.Duplicates, Restarts: s.Restarts, Strays: s.Strays}
			if got != c.want {
				t.Errorf("counted %+v, want %+v", got, c.want)
			}
			if gaps != c.gaps {
				t.Errorf("gaps sum to %d, want %d", gaps, c.gaps)
			}
			if s.Flags&bpf.Sequence30Bit != c.flags {
				t.Errorf("flags %#x, want 30-bit %#x", s.Flags, c.flags)
			}
		})
	}
}

// Whatever numbers come, nothing is counted twice and no counter runs below zero.
func FuzzObserve(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 2})
	f.Add([]byte{0x3f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s bpf.Sequence
		for ; len(b) >= 4; b = b[4:] {
			feed.Observe(&s, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))
			if sum := s.Reordered + s.Duplicates + s.Strays + s.Restarts; sum > s.Received {
				t.Fatalf("%d of %d packets were odd: %+v", sum, s.Received, s)
			}
			if s.Lost > 1<<40 {
				t.Fatalf("lost ran below zero: %+v", s)
			}
			if s.Span > 64 || s.Missing&1 != 0 {
				t.Fatalf("the window is off: %+v", s)
			}
		}
	})
}
