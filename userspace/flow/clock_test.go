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
