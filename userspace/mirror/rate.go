package mirror

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate bounds what is sent per second. At most one of its fields is set; the
// zero Rate is no bound.
type Rate struct {
	Packets float64 // wrapped packets; the fragments of one count once
	Bits    float64 // bits of outer frames, without preamble and FCS
}

// ParseRate reads "250kpps", "1.5Mpps", "10Gbit/s", "800Mbps", "5000" (packets) or
// "max" for no bound.
func ParseRate(text string) (Rate, error) {
	if text == "max" {
		return Rate{}, nil
	}
	number := strings.TrimRightFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	value, err := strconv.ParseFloat(number, 64)
	unit := text[len(number):]
	for prefix, factor := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutPrefix(unit, prefix); ok {
			unit, value = rest, value*factor
			break
		}
	}
	if err != nil || value <= 0 || math.IsInf(value, 0) {
		return Rate{}, fmt.Errorf("rate %q: must be a positive number with a unit such as kpps, Mpps or Gbit/s, or max", text)
	}
	switch unit {
	case "", "pps":
		return Rate{Packets: value}, nil
	case "bit/s", "bps":
		return Rate{Bits: value}, nil
	}
	return Rate{}, fmt.Errorf("rate %q: unit %q: must be pps or bit/s, with k, M or G in front", text, unit)
}

func (r Rate) String() string {
	for _, scale := range []struct {
		factor float64
		prefix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}} {
		if r.Packets >= scale.factor {
			return strconv.FormatFloat(r.Packets/scale.factor, 'g', -1, 64) + scale.prefix + "pps"
		}
		if r.Bits >= scale.factor {
			return strconv.FormatFloat(r.Bits/scale.factor, 'g', -1, 64) + scale.prefix + "bit/s"
		}
	}
	return "max"
}

func (r Rate) validate() error {
	if r.Packets < 0 || r.Bits < 0 || math.IsNaN(r.Packets) || math.IsNaN(r.Bits) {
		return fmt.Errorf("rate %v: must not be negative", r)
	}
	if r.Packets > 0 && r.Bits > 0 {
		return fmt.Errorf("rate: packets and bits per second are set, one must be chosen")
	}
	return nil
}

// limited reports whether there is a bound.
func (r Rate) limited() bool { return r.Packets > 0 || r.Bits > 0 }

// cost is the time in ns that a frame of so many bytes takes of the rate. Of the
// fragments of a packet only the first counts as a packet.
func (r Rate) cost(bytes int, first bool) float64 {
	switch {
	case r.Packets > 0 && first:
		return 1e9 / r.Packets
	case r.Bits > 0:
		return float64(bytes) * 8e9 / r.Bits
	}
	return 0
}

// pacer spreads packets over time for a sender that can sleep.
type pacer struct {
	rate Rate
	due  time.Time // of the next packet
}

// maxDebt is how far a pacer falls behind before it gives the time up.
const maxDebt = 100 * time.Millisecond

// wait is how long the next packet has to wait.
func (p *pacer) wait(now time.Time) time.Duration {
	if !p.rate.limited() {
		return 0
	}
	if p.due.Before(now.Add(-maxDebt)) {
		p.due = now.Add(-maxDebt)
	}
	return p.due.Sub(now)
}

// spend counts a frame that is sent.
func (p *pacer) spend(bytes int, first bool) {
	p.due = p.due.Add(time.Duration(p.rate.cost(bytes, first)))
}
