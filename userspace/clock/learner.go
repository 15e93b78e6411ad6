package clock

import "math"

// Jitter that learning allows for, in nanoseconds: what the delay of copies may vary
// by. It begins strict, because a strict test tells ticks apart sooner.
const (
	leastJitter = 2e6
	mostJitter  = 32e6
)

// maxDrift is how far a tick may be off its nominal length: an oscillator that IEEE
// 802.3 accepts is within 100 ppm, and so is the one it is measured with.
const maxDrift = 200e-6

// Rests between attempts to learn a clock that none of the ticks fits.
const (
	firstRest = 1e9
	longRest  = 64e9
)

// A learner finds the tick of a sender's clock. Every tick it may have is a hypothesis
// that predicts, from the counter, how much time passed. One that is off by more than
// jitter and drift explain is dropped; the last that stands is the clock's.
//
// Wraps do no harm: a hypothesis is only asked where within its wrap the counter
// should be. On a feed with long pauses a wrong one gets that right by chance, but not
// several times in a row.
type learner struct {
	alive   uint32              // hypotheses that stand, bits of ticks
	off     [len(ticks)]float64 // what each counted too much since first, ns
	first   uint64              // receive time of the first packet
	last    uint64              // and of the newest
	counter uint32              // of the newest
	packets int                 // so many; 0 before the first
	jitter  float64             // allowed now
	rest    uint64              // length of the rest when all fail
	wake    uint64              // end of the rest
}

// add takes a packet in: its receive time and its counter. It returns the tick once
// it is found.
func (l *learner) add(now uint64, counter uint32) (*tick, bool) {
	if l.wake != 0 {
		// A receive time before the rest began means that time was set.
		if left := int64(l.wake - now); left > 0 && left <= longRest {
			return nil, false
		}
		l.wake = 0
	}
	if l.packets == 0 || math.Abs(float64(int64(now-l.last))) > mostGap {
		l.start(now, counter)
		return nil, false
	}
	steps := float64(int64(counter) - int64(l.counter))
	elapsed := float64(int64(now - l.last))
	span := float64(int64(now - l.first))
	l.last, l.counter = now, counter
	l.packets++

	allowed := l.jitter + maxDrift*math.Abs(span)
	standing, found := 0, 0
	for i := range ticks {
		if l.alive>>i&1 == 0 {
			continue
		}
		k := &ticks[i]
		l.off[i] += k.passed(steps, elapsed) - elapsed
		if math.Abs(l.off[i]) > allowed || float64(counter) >= k.modulus {
			l.alive &^= 1 << i
			continue
		}
		standing++
		found = i
	}
	if standing == 0 {
		l.fail(now, counter)
		return nil, false
	}
	if standing > 1 || span < 125*l.jitter || float64(l.packets) < 3*l.jitter/1e6 {
		return nil, false
	}
	return &ticks[found], true
}

// start begins with all hypotheses at this packet.
func (l *learner) start(now uint64, counter uint32) {
	if l.jitter == 0 {
		l.jitter, l.rest = leastJitter, firstRest
	}
	*l = learner{
		alive: 1<<len(ticks) - 1, first: now, last: now, counter: counter, packets: 1,
		jitter: l.jitter, rest: l.rest,
	}
}

// fail begins anew and allows more jitter. When that was tried, it rests: a clock that
// cannot be read must not cost every packet of the feed.
func (l *learner) fail(now uint64, counter uint32) {
	if l.jitter < mostJitter {
		l.jitter *= 2
		l.start(now, counter)
		return
	}
	l.wake = now + l.rest
	l.rest = min(2*l.rest, longRest)
	l.jitter = leastJitter
	l.packets = 0
}
