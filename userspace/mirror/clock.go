package mirror

import (
	"fmt"
	"math/bits"
)

// Granularity is the Gra field of ERSPAN III: what its timestamp counts in.
type Granularity uint8

const (
	Granularity100us Granularity = iota
	Granularity100ns
	Granularity1588 // ns of the second; the seconds go into subheader 5 or 6
	GranularityNS   // "user configurable"; ns with the Nexus 9000
)

var granularityNames = [...]string{"100us", "100ns", "1588", "ns"}

func (g Granularity) String() string {
	if int(g) < len(granularityNames) {
		return granularityNames[g]
	}
	return fmt.Sprintf("granularity(%d)", uint8(g))
}

// ParseGranularity is the inverse of String.
func ParseGranularity(name string) (Granularity, error) {
	for i, n := range granularityNames {
		if n == name {
			return Granularity(i), nil
		}
	}
	return 0, fmt.Errorf("granularity %q: must be 100us, 100ns, 1588 or ns", name)
}

// clock turns wall time into what the sender's clock shows. It is reckoned from
// the Unix epoch: ticks = ns * multiplier / divisor.
type clock struct {
	multiplier, divisor uint32
	seconds             bool // the timestamp is split into seconds and nanoseconds
}

func newClock(s *Session) clock {
	tick := uint64(s.Tick) // ps
	if tick == 0 {
		switch s.Granularity {
		case Granularity100us:
			tick = 100_000_000
		case Granularity100ns:
			tick = 100_000
		default:
			tick = 1000
		}
	}
	const psPerNS = 1000
	common := gcd(psPerNS, tick)
	return clock{
		multiplier: uint32(psPerNS / common),
		divisor:    uint32(tick / common),
		seconds:    s.Granularity == Granularity1588,
	}
}

// ticks is the reading at a time in ns since the epoch, modulo 2^64.
func (c clock) ticks(ns uint64) uint64 {
	high, low := bits.Mul64(ns, uint64(c.multiplier))
	quotient, _ := bits.Div64(high%uint64(c.divisor), low, uint64(c.divisor))
	return quotient
}

// words splits a reading into the timestamp and its upper half.
func (c clock) words(ticks uint64) (low, high uint32) {
	if c.seconds {
		return uint32(ticks % 1e9), uint32(ticks / 1e9)
	}
	return uint32(ticks), uint32(ticks >> 32)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
