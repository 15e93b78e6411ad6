package clock

// stepBack is a jump backwards, in nanoseconds, that is no jitter: somebody set the
// clock. NTP steps from 128 ms on and slews below.
const stepBack = 100e6

// forward makes a clock that never goes backwards out of one that does. After a step
// back it runs at half speed until the other one has caught up, as adjtime(3) slews:
// packets keep distinct times and their order, an hour is absorbed in two. Standing
// still would give an hour of packets one time. Steps forward are followed at once.
type forward struct {
	out  uint64 // returned last
	mark uint64 // newest input that out has moved for
}

func (f *forward) next(t uint64) uint64 {
	switch {
	case t >= f.out:
		f.out, f.mark = t, t
	case t > f.mark:
		f.out += (t - f.mark) / 2
		f.mark = t
	case f.mark-t > stepBack:
		f.mark = t
	}
	return f.out
}
