package clock

import (
	"math"

	"github.com/unspan/unspan/bpf"
)

// Times in nanoseconds that a fit works with.
const (
	window   = 1e9   // a point of the floor is the quickest packet of so long
	mostGap  = 30e9  // after so long a pause the floor is measured anew
	mostLate = 100e6 // a copy later than that is not late, the clock is another
	mostBase = 1e13  // keeps float64 exact to a thousandth of a nanosecond
)

// maxStrays packets in a row that the clock cannot have stamped mean that it was reset.
// A packet or two do not: they are somebody's invention, or damaged.
const maxStrays = 8

// A Feed is what one worker knows of the clock of one mirror feed. The zero value
// knows nothing yet.
type Feed struct {
	fit     fit
	learner learner
}

// A Fit says how a feed's clock is read.
type Fit struct {
	Tick  float64 // nanoseconds that the sender's clock counts in, nominally
	Drift float64 // what it is off that rate by, against the receiver's clock: 1e-6 is 1 ppm fast
}

// Fit returns what was learned of the feed's clock, false while nothing is.
func (f *Feed) Fit() (Fit, bool) {
	return Fit{Tick: f.fit.tick.ns, Drift: -f.fit.floor.slope}, f.fit.ready()
}

// delay returns how long before its receive time the packet was seen by the sender, in
// nanoseconds beyond the least delay of the feed. It returns false when the sender's
// clock is not known well enough.
func (f *Feed) delay(record *bpf.Record) (uint64, bool) {
	if f.fit.tick.ns == 0 {
		if tick, ok := f.learner.add(record.Time, counter(record)); ok {
			f.fit.begin(tick, &f.learner)
			f.learner = learner{}
		}
		return 0, false
	}
	late, ok := f.fit.add(record.Time, counter(record))
	if f.fit.strays == maxStrays || math.Abs(f.fit.floor.slope) > maxDrift {
		f.fit = fit{}
		return 0, false
	}
	return uint64(late), ok
}

// A fit follows a counter whose tick is known.
type fit struct {
	tick    tick // ns is 0 while there is none
	last    uint64
	counter uint32
	strays  int
	early   float64 // a packet may be so much quicker than the floor

	// Of here on in nanoseconds since base.
	base     uint64
	counted  float64 // by the sender's clock, up to the packet at last
	floor    floor
	ends     float64 // end of the window
	quickest point   // of the window; delay is +Inf before its first packet
}

// begin starts where the learner stands.
func (f *fit) begin(k *tick, l *learner) {
	*f = fit{tick: *k, last: l.last, counter: l.counter, base: l.last, early: 2 * l.jitter}
	f.settle(0)
}

// settle begins the floor at the packet at last, at the time t.
func (f *fit) settle(t float64) {
	slope := f.floor.slope
	f.floor = floor{level: t - f.counted - slope*t, slope: slope, measured: f.floor.measured}
	f.ends = t + window
	f.quickest = point{t, t - f.counted}
}

// ready reports whether the rate was measured. One that is off by more than maxDrift is
// not that of the tick that was learned, but of another near it.
func (f *fit) ready() bool { return f.floor.measured }

// add takes a packet in. It returns by how much it was later than the quickest.
func (f *fit) add(now uint64, counter uint32) (float64, bool) {
	t := float64(int64(now - f.base))
	elapsed := float64(int64(now - f.last))
	counted := f.counted + f.tick.passed(float64(int64(counter)-int64(f.counter)), elapsed)
	delay := t - counted
	if math.Abs(elapsed) > mostGap {
		// Wraps and drift of the pause do not matter: only differences of
		// delays do, and those before it are history.
		f.last, f.counter, f.counted, f.strays = now, counter, counted, 0
		f.settle(t)
		f.shift(t)
		return 0, false
	}

	late := delay - f.floor.at(t)
	if late < -f.early-maxDrift*math.Abs(elapsed) || late > mostLate {
		f.strays++
		return 0, false
	}
	f.last, f.counter, f.counted, f.strays = now, counter, counted, 0
	if late < f.quickest.delay-f.floor.at(f.quickest.t) {
		f.quickest = point{t, delay}
	}
	if late < 0 {
		f.floor.level += late
		late = 0
	}
	if t >= f.ends {
		f.endWindow(t)
	}
	return late, f.ready()
}

// endWindow draws the floor anew.
func (f *fit) endWindow(t float64) {
	if !math.IsInf(f.quickest.delay, 1) {
		f.floor.add(f.quickest)
	}
	f.quickest.delay = math.Inf(1)
	f.ends = t + window
	if t > mostBase {
		f.shift(t)
	}
}

// shift moves base by t, which is what it was counted from at last.
func (f *fit) shift(t float64) {
	f.base = f.last
	f.counted -= t
	f.ends -= t
	f.quickest.t -= t
	f.floor.shift(t)
}
