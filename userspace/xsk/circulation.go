package xsk

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// circulation owns the frames that no socket and no worker has: those in the
// fill ring, where the kernel takes them, and those parked out of its sight.
// It decides how many are not parked.
//
// The kernel takes frames from the fill ring in the order they were put there,
// so every circulating frame is touched in turn, and many of them are many
// cache misses on both CPUs. Few frames are fast, many are deep. While the
// workers keep up few suffice; when a backlog builds up more are needed at once.
//
//   - What counts is how many circulating frames the kernel does not have: they
//     lie in receive rings or with workers. Above half the target, the target
//     doubles, turn by turn, up to max: four turns from 1024 to 16384.
//   - Every shrinkWindow frames the target falls by a quarter of what it is
//     above four times the peak of that window. So it stays above the stalls
//     that a machine really has, and forgets a single one in a few windows.
//   - Depth helps against a burst, not against a feed that is faster than the
//     workers: there it only makes the frames cold and the workers slower still,
//     so that they may never catch up again. When the kernel was short of frames
//     for floodAfter turns of the whole memory, and the workers did not catch up
//     meanwhile, the target falls to min and stays there until they do.
//
// All workers return frames here, and the fill ring has one producer. Whoever
// wins the claim is it; who does not keeps its frames and comes back with them.
// Nobody waits: a claim is held for the time of copying some addresses.
type circulation struct {
	claim atomic.Uint32 // 1: a worker is in put; what follows is its alone

	fill   ring[uint64]
	parked []uint64 // a stack: what was parked last is the warmest

	frames   int // all there are
	min, max int // bounds of target
	target   int // how many should not be parked
	peak     int // most frames seen away from the kernel in this window
	window   int // frames returned in this window
	every    int // frames in a window
	short    int // frames returned while the kernel was short of them, since the workers last caught up
	flooded  bool

	// What the claim's holder last found, for others to read.
	circulating atomic.Int64
	floods      atomic.Uint64
}

const (
	shrinkWindow = 1 << 18
	floodAfter   = 4
)

// newCirculation puts max frames of frameSize bytes into the empty fill ring,
// which has room for all frames, and parks the others.
func newCirculation(fill ring[uint64], cfg Config) *circulation {
	c := &circulation{
		fill:   fill,
		parked: make([]uint64, 0, cfg.Frames),
		frames: cfg.Frames,
		min:    cfg.CirculationMin,
		max:    cfg.CirculationMax,
		target: cfg.CirculationMax,
		every:  shrinkWindow,
	}
	for i := cfg.Frames - 1; i >= 0; i-- {
		c.parked = append(c.parked, uint64(i*cfg.FrameSize))
	}
	c.unpark(c.max)
	c.circulating.Store(int64(c.max))
	return c
}

// put takes the frames in freed back and is true, or leaves them and is false
// when another worker is here. It never waits.
func (c *circulation) put(freed []uint64) bool {
	if !c.claim.CompareAndSwap(0, 1) {
		return false
	}
	before := c.frames - len(c.parked)
	c.steer(len(freed))
	// At most half is parked in one turn: shrinking must not starve the kernel.
	if excess := before - c.target; excess > 0 {
		n := min(excess, (len(freed)+1)/2)
		c.parked = append(c.parked, freed[:n]...)
		freed = freed[n:]
	}
	c.submit(freed)
	c.unpark(c.target - (c.frames - len(c.parked)))
	if after := c.frames - len(c.parked); after != before {
		c.circulating.Store(int64(after))
	}
	c.claim.Store(0)
	return true
}

// steer sets the target; n frames have come back since it was last called.
func (c *circulation) steer(n int) {
	circulating := c.frames - len(c.parked)
	away := circulating - c.fill.Unconsumed()
	c.peak = max(c.peak, away)

	switch {
	case 8*away > 7*circulating:
		c.short += n
	case 4*away < circulating:
		c.short = 0
	}
	switch {
	case c.flooded:
		c.flooded = 2*away > circulating
	case c.short > floodAfter*c.frames:
		c.flooded = true
		c.target = c.min
		c.floods.Add(1)
	case 2*away > c.target:
		c.target = min(2*c.target, c.max)
	}

	if c.window += n; c.window >= c.every {
		if excess := c.target - max(4*c.peak, c.min); excess > 0 {
			c.target -= (excess + 3) / 4
		}
		c.window, c.peak = 0, 0
	}
}

// submit gives frames to the kernel and parks those the ring has no room for.
// It has room for all there are, but for a moment the kernel may not have
// published that it took a frame which a worker already brings back (xsk_flush
// in net/xdp/xsk.c hands the packets out first).
func (c *circulation) submit(frames []uint64) {
	for len(frames) > 0 {
		n := copy(c.fill.Reserve(len(frames)), frames)
		if n == 0 {
			c.parked = append(c.parked, frames...)
			return
		}
		c.fill.Submit(n)
		frames = frames[n:]
	}
}

// unpark gives the kernel n parked frames, as far as there are that many.
func (c *circulation) unpark(n int) {
	if n = min(n, len(c.parked)); n > 0 {
		rest := len(c.parked) - n
		warmest := c.parked[rest:]
		c.parked = c.parked[:rest]
		c.submit(warmest)
	}
}

// starving tells whether the kernel waits to be told of new frames.
func (c *circulation) starving() bool {
	return c.fill.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0
}
