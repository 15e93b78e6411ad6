package flow

import "testing"

func TestClock(t *testing.T) {
	const hour, second = uint64(3600e9), uint64(1e9)
	start := 1000 * hour
	for _, test := range []struct {
		name    string
		times   []uint64
		elapsed uint64
		last    uint64
	}{
		{"steps", []uint64{start, start + second, start + 3*second}, 3 * second, start + 3*second},
		{"late packet", []uint64{start, start + 3*second, start + second}, 3 * second, start + 3*second},
		{"one wild packet ahead", []uint64{start, start + 900*hour, start + second}, second, start + second},
		{"one wild packet behind", []uint64{start, start - 900*hour, start + second}, second, start + second},
		{"wild ones between good ones", []uint64{start, start + 900*hour, start + second, start + 900*hour, start + 2*second}, 2 * second, start + 2*second},
		{"leap ahead confirmed", []uint64{start, start + 900*hour, start + 900*hour + second}, 900*hour + second, start + 900*hour + second},
		{"leap back confirmed", []uint64{start, start - 900*hour, start - 900*hour + second}, 0, start - 900*hour + second},
		{"long strides", []uint64{start, start + 2*hour, start + 4*hour, start + 6*hour}, 4 * hour, start + 4*hour},
		{"from zero", []uint64{0, second}, second, second},
	} {
		var c clock
		for _, time := range test.times {
			c.advance(time)
		}
		if c.elapsed != test.elapsed || c.last != test.last || c.tick != uint32(test.elapsed>>tickShift) {
			t.Errorf("%s: elapsed %d, last %d, tick %d; want %d, %d, %d", test.name,
				c.elapsed, c.last, c.tick, test.elapsed, test.last, test.elapsed>>tickShift)
		}
	}
}

// Times that ticks cannot count are for ever, and no deadline is never.
func TestTicks(t *testing.T) {
	for _, test := range []struct {
		ns   uint64
		want uint32
	}{{0, 1}, {1, 1}, {1 << tickShift, 2}, {1<<63 - 1, never}, {100 * 365 * 86400e9, never}} {
		if got := ticksOf(test.ns); got != test.want {
			t.Errorf("%d ns are %d ticks, want %d", test.ns, got, test.want)
		}
	}
	for _, test := range []struct{ tick, wait, want uint32 }{{5, 7, 12}, {0, never, never - 1}, {never - 2, 7, never - 1}} {
		if got := due(test.tick, test.wait); got != test.want {
			t.Errorf("%d and %d is %d, want %d", test.tick, test.wait, got, test.want)
		}
	}
}
