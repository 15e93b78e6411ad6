package pcapng

import (
	"math"
	"math/bits"
)

// clock turns the ticks of an interface into nanoseconds since 1970.
type clock struct {
	resolution byte  // if_tsresol
	offset     int64 // if_tsoffset, seconds
	times      uint64
}

// newClock takes if_tsresol as the draft has it: 10^-n seconds a tick, or 2^-n
// when the most significant bit is set.
func newClock(resolution byte, offset int64) clock {
	c := clock{resolution: resolution, offset: offset}
	if resolution <= 9 {
		c.times = pow10(9 - resolution)
	}
	return c
}

// nanoseconds is exact where it can be. What is before 1970 or after 2554 is
// held at the ends of the range.
func (c *clock) nanoseconds(ticks uint64) uint64 {
	if c.times == 1 && c.offset == 0 {
		return ticks
	}
	ns := c.scale(ticks)
	if c.offset == 0 {
		return ns
	}
	away := uint64(c.offset)
	if c.offset < 0 {
		away = -away
	}
	hi, shift := bits.Mul64(away, 1e9)
	if hi != 0 {
		shift = math.MaxUint64
	}
	if c.offset < 0 {
		return ns - min(ns, shift)
	}
	if ns > math.MaxUint64-shift {
		return math.MaxUint64
	}
	return ns + shift
}

func (c *clock) scale(ticks uint64) uint64 {
	n := c.resolution & 0x7f
	switch {
	case c.times != 0:
		hi, lo := bits.Mul64(ticks, c.times)
		return held(hi, lo)
	case n == c.resolution && n <= 9+19:
		return ticks / pow10(n-9)
	case n == c.resolution:
		return 0 // a tick is less than 2^-64 ns
	}
	hi, lo := bits.Mul64(ticks, 1e9)
	if n >= 64 {
		return hi >> (n - 64)
	}
	return held(hi>>n, hi<<(64-n)|lo>>n)
}

func held(hi, lo uint64) uint64 {
	if hi != 0 {
		return math.MaxUint64
	}
	return lo
}

func pow10(n byte) uint64 {
	v := uint64(1)
	for ; n > 0; n-- {
		v *= 10
	}
	return v
}
