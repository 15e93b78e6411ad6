package reassembly

import (
	"bytes"
	"encoding/binary"

	"github.com/unspan/unspan/bpf"
)

// unknown is the total of a datagram whose last fragment has not come.
const unknown = -1

// A datagram is what is known of one that is not complete.
type datagram struct {
	key    key
	hash   uint64 // of key
	begun  uint64 // time of the first fragment to come
	record bpf.Record
	buffer *buffer // nil: nothing held

	fragments int // held in buffer
	have      int // bytes of payload in buffer
	end       int // where the farthest fragment ends
	total     int // bytes of payload of the whole, or unknown

	// Of the first fragment, once it is here; see piece.
	head       int // bytes of headers in front of the payload
	network    int
	extensions int
	next       int
	proto      uint8

	recent uint32 // the sender's fragments when the newest of this one came
	dead   bool   // given up; what still comes is counted under reason
	reason Reason

	self         int32 // index of this slot
	chain        int32 // next in the hash bucket
	older, newer int32 // by time of begun
}

// duplicate reports whether this very fragment is here already: place, length and
// bytes. RFC 8200 4.5 lets exact duplicates go without harm to the others.
func (d *datagram) duplicate(p *piece) bool {
	if d.buffer == nil || p.end() > d.end || p.more == (p.end() == d.total) {
		return false
	}
	return d.buffer.isFragment(p.offset, p.end()) &&
		bytes.Equal(d.buffer.payload(p.offset, p.end()), p.payload)
}

// contradiction reports why the fragment and those held cannot be of one datagram.
func (d *datagram) contradiction(p *piece) (Reason, bool) {
	end := p.end()
	switch {
	case !p.more && d.total != unknown && end != d.total, // two ends
		!p.more && end < d.end,                         // an end before what is here
		p.more && d.total != unknown && end >= d.total: // more to come behind the end
		return Inconsistent, true
	case d.buffer != nil && d.buffer.overlaps(p.offset, end):
		return Overlap, true
	}
	// Only the first fragment says which extension headers the whole has, only
	// the last one how long it is; together they must fit the length field.
	total, extensions := d.total, d.extensions
	if !p.more {
		total = end
	}
	if p.offset == 0 {
		extensions = p.extensions
	}
	return TooBig, extensions+total > MaxPayload
}

// put copies the fragment into the buffer, which has room for it.
func (d *datagram) put(p *piece) {
	copy(d.buffer.payload(p.offset, p.end()), p.payload)
	d.buffer.mark(p.offset, p.end())
	d.have += len(p.payload)
	d.end = max(d.end, p.end())
	if !p.more {
		d.total = p.end()
	}
	if p.offset == 0 {
		copy(d.buffer.headers(len(p.head)), p.head)
		d.head, d.network = len(p.head), p.network
		d.extensions, d.next, d.proto = p.extensions, p.next, p.proto
	}
}

// Fields of the IPv4 and IPv6 headers that a whole datagram has otherwise.
const (
	ip4TotalLength   = 2
	ip4Fragment      = 6
	ip4Checksum      = 10
	ip4DontFragment  = 0x4000
	ip6PayloadLength = 4
)

// assemble writes the header of the whole datagram and returns it.
func (d *datagram) assemble() []byte {
	frame := d.buffer.frame(d.head, d.total)
	ip := frame[d.network:]
	if ip[0]>>4 == 6 {
		frame[d.next] = d.proto
		// contradiction refused what does not fit the field.
		binary.BigEndian.PutUint16(ip[ip6PayloadLength:], uint16(len(ip)-ip6Size))
		return frame
	}
	total := len(ip)
	if total > 0xffff {
		total = 0
	}
	binary.BigEndian.PutUint16(ip[ip4TotalLength:], uint16(total))
	fragment := binary.BigEndian.Uint16(ip[ip4Fragment:])
	binary.BigEndian.PutUint16(ip[ip4Fragment:], fragment&ip4DontFragment)
	binary.BigEndian.PutUint16(ip[ip4Checksum:], 0)
	binary.BigEndian.PutUint16(ip[ip4Checksum:], checksum(ip[:d.head-d.network]))
	return frame
}

// checksum is the Internet checksum of an IPv4 header, RFC 1071.
func checksum(header []byte) uint16 {
	var sum uint32
	for ; len(header) > 1; header = header[2:] {
		sum += uint32(header[0])<<8 | uint32(header[1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
