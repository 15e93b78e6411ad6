package flow

// Timeouts are counted in ticks of 2^26 ns, 67 ms: 32 bits of them last nine years.
const tickShift = 26

// clock is the table's idea of now. It follows the packets' time but never goes
// back, and it takes a leap only when a second packet confirms it: one packet
// with a wild time would otherwise end every flow, and alternating ones would
// do so again and again.
type clock struct {
	last     uint64 // ns, newest packet time believed
	elapsed  uint64 // ns since the first packet, without leaps back
	suspect  uint64 // ns, a leap not yet confirmed
	tick     uint32 // elapsed >> tickShift
	started  bool
	doubtful bool // suspect is set
}

// leap is the step of packet time, ns, that needs a second packet to be believed.
const leap = 3600e9

func (c *clock) advance(time uint64) {
	if step := time - c.last; step < leap && c.started {
		c.last = time
		c.elapsed += step
		c.tick = uint32(c.elapsed >> tickShift)
		c.doubtful = false
		return
	}
	c.stray(time)
}

// stray is a packet older than the newest one, or a leap, or the first.
func (c *clock) stray(time uint64) {
	switch {
	case !c.started:
		c.started, c.last = true, time
	case c.last-time < leap:
		c.doubtful = false // late; the clock stays
	case !c.doubtful:
		c.doubtful, c.suspect = true, time
	case time-c.suspect < leap, c.suspect-time < leap, // near the suspect
		time > c.suspect && c.suspect > c.last: // or time goes on in long strides
		if time > c.last {
			c.elapsed += time - c.last
			c.tick = uint32(c.elapsed >> tickShift)
		}
		c.last = time
		c.doubtful = false
	default:
		c.suspect = time
	}
}
