package clock

import "math"

// A tick is a way a sender's 32-bit clock may count: so many nanoseconds, up to
// modulus.
type tick struct {
	ns      float64
	modulus float64
	rate    float64 // 1 / ns
	perWrap float64 // 1 / modulus
}

func count(ns, modulus float64) tick {
	return tick{ns, modulus, 1 / ns, 1 / modulus}
}

const bits32 = 1 << 32

// ticks are what is looked for: the granularities of the draft (100 us, 100 ns and,
// for IEEE 1588, nanoseconds that start again every second), decimal ones in between,
// the clocks of Ethernet hardware (25, 62.5, 125, 156.25, 312.5, 625 MHz) and round
// frequencies. 2.4 ns and 100 ps are seen in public captures. Neighbours are 4 % apart
// or more: no oscillator is that far off.
var ticks = [...]tick{
	count(100_000, bits32),
	count(10_000, bits32),
	count(1000, bits32),
	count(100, bits32),
	count(40, bits32),
	count(20, bits32),
	count(16, bits32),
	count(10, bits32),
	count(8, bits32),
	count(6.4, bits32),
	count(5, bits32),
	count(4, bits32),
	count(3.2, bits32),
	count(2.5, bits32),
	count(2.4, bits32),
	count(2, bits32),
	count(1.6, bits32),
	count(1.25, bits32),
	count(1, bits32),
	count(1, 1e9),
	count(0.8, bits32),
	count(0.5, bits32),
	count(0.4, bits32),
	count(0.2, bits32),
	count(0.1, bits32),
}

// passed is the time that a clock of this tick counted, in nanoseconds, while the
// counter moved by steps and about elapsed nanoseconds went by: elapsed says how often
// it wrapped.
func (k *tick) passed(steps, elapsed float64) float64 {
	wraps := math.RoundToEven((elapsed*k.rate - steps) * k.perWrap)
	return (steps + wraps*k.modulus) * k.ns
}
