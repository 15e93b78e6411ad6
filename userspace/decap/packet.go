package decap

import (
	"encoding/binary"

	"github.com/unspan/unspan/bpf"
)

// cursor moves inward over a frame as headers are taken.
type cursor struct {
	frame []byte // the whole frame, from its link-layer header on
	at    int    // the next header
	left  int    // bytes from at to where the innermost length field ends
	cut   int    // bytes behind those that were on the wire and not captured
}

// take gives the next size bytes and moves behind them; nil when there are not
// as many.
func (c *cursor) take(size int) []byte {
	header := c.peek(size)
	if header != nil {
		c.at += size
		c.left -= size
	}
	return header
}

// peek gives the next size bytes and stays; nil when there are not as many.
func (c *cursor) peek(size int) []byte {
	if c.left < size {
		return nil
	}
	return c.frame[c.at : c.at+size : c.at+size]
}

// skip moves behind the next size bytes and says whether there were as many.
func (c *cursor) skip(size int) bool {
	if c.left < size {
		return false
	}
	c.at += size
	c.left -= size
	return true
}

// bound says that the packet ends rest bytes behind the cursor, and returns
// false when they did not all arrive.
func (c *cursor) bound(rest int) bool {
	if rest > c.left {
		c.cut = min(c.cut, rest-c.left)
		return false
	}
	c.left, c.cut = rest, 0
	return true
}

// packet is a packet on its way through the stages: the cursor, and what the
// headers behind it said.
type packet struct {
	cursor
	link      LinkType
	wire      int // bytes the frame had before a capture cut it
	network   int // offset of the outer IP header; valid when isIP(ethertype)
	inner     int // offset of what strip hands on
	ethertype uint16
	protocol  uint8 // IP protocol of the cursor's header
	position  position
	counted   bool // its first fragment stood for it in the feed's books
	listed    bool // it has a place in the books of record.Feed

	record   bpf.Record
	key      bpf.FeedKey
	datagram datagram // valid when position is not whole
}

// blank starts a record of which nothing but the receive time is known.
func (p *packet) blank(now uint64) {
	p.record = bpf.Record{
		Time:     now,
		Weight:   1,
		Rule:     bpf.NoRule,
		Platform: bpf.NoPlatform,
		Version:  bpf.RecordVersion,
	}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
