package clock

// windows is the number of points that the floor is drawn through. At one a second it
// forgets a route that is no longer taken after as many seconds.
const windows = 16

// floor is the least that copies were delayed, as a line over time: its slope is what
// the sender's clock is off its nominal rate.
//
//	received                .    .
//	- counted      .  .    .  .      .
//	            .   .  . __.____.____--  floor
//	        .____.---      .
//
// The points are the quickest packets of the last windows. The line lies below all of
// them and as close as can be; that one is an edge of their lower convex hull, the one
// above the mean of their times (Moon, Skelly, Towsley, "Estimation and removal of
// clock skew from network delay measurements", INFOCOM 1999).
type floor struct {
	level, slope float64
	measured     bool // slope
	points       [windows]point
	n            int // points in use, the oldest first
}

// A point is the quickest packet of a window: receive time and receive time less what
// the sender's clock counted, both in nanoseconds since the fit's base.
type point struct{ t, delay float64 }

// at is the least delay at the time t.
func (f *floor) at(t float64) float64 { return f.level + f.slope*t }

// add takes a window's point in and draws the line anew. Points of a time that comes
// again, because the receiver's clock was set, are dropped.
func (f *floor) add(p point) {
	for f.n > 0 && f.points[f.n-1].t >= p.t {
		f.n--
	}
	if f.n == windows {
		copy(f.points[:], f.points[1:])
		f.n--
	}
	f.points[f.n] = p
	f.n++
	f.draw()
}

// draw finds the line. Two points a moment apart say nothing of a slope: it stays as
// it is until there are two seconds of them.
func (f *floor) draw() {
	points := f.points[:f.n]
	if f.n < 2 || points[f.n-1].t-points[0].t < 2e9 {
		f.level = points[0].delay - f.slope*points[0].t
		for _, p := range points[1:] {
			f.level = min(f.level, p.delay-f.slope*p.t)
		}
		return
	}

	// Andrew's monotone chain: the points come in the order of time.
	var hull [windows]point
	n, mean := 0, 0.0
	for _, p := range points {
		for n >= 2 && below(hull[n-2], hull[n-1], p) {
			n--
		}
		hull[n] = p
		n++
		mean += p.t / float64(len(points))
	}
	i := 1
	for i < n-1 && hull[i].t < mean {
		i++
	}
	a, b := hull[i-1], hull[i]
	f.slope = (b.delay - a.delay) / (b.t - a.t)
	f.measured = true
	f.level = a.delay - f.slope*a.t
}

// below reports whether p lies on or below the line from a through b, so that b is no
// corner of the hull.
func below(a, b, p point) bool {
	return (b.t-a.t)*(p.delay-a.delay) <= (b.delay-a.delay)*(p.t-a.t)
}

// shift moves the zero of time by d.
func (f *floor) shift(d float64) {
	f.level += f.slope * d
	for i := range f.points[:f.n] {
		f.points[i].t -= d
	}
}
