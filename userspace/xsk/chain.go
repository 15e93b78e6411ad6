package xsk

import "golang.org/x/sys/unix"

// maxFrame is the longest frame put together from several descriptors: the
// largest IP packet, its link header with tags, and room for what a program
// put in front.
const maxFrame = 68 << 10

// chain puts a frame together that came in several descriptors. All but the
// last carry XDP_PKT_CONTD. The pieces are copied, which is the slow way, but
// only jumbo frames come this way. A frame may begin in one batch and end in
// another.
type chain struct {
	buffer  []byte // nil: multi-buffer is not on, and every descriptor is a frame
	length  int    // bytes so far
	open    bool   // the last descriptor was not the frame's last
	overrun bool   // the frame is too long; its rest is skipped
	lent    bool   // buffer is with the caller until Release
}

// add appends a piece. It returns the frame after its last piece; nil before,
// and nil with tooLong if the frame had to be given up.
func (c *chain) add(piece []byte, options uint32) (frame []byte, tooLong bool) {
	if !c.open {
		c.length, c.overrun = 0, false
	}
	if c.length+len(piece) > len(c.buffer) {
		c.overrun = true
	}
	if !c.overrun {
		c.length += copy(c.buffer[c.length:], piece)
	}
	c.open = options&unix.XDP_PKT_CONTD != 0
	if c.open {
		return nil, false
	}
	if c.overrun {
		return nil, true
	}
	c.lent = true
	return c.buffer[:c.length:c.length], false
}
