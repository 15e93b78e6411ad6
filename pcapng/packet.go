package pcapng

import (
	"math/bits"
	"slices"
)

// Packet codes of options (draft, section 4.3).
const (
	packetFlags     = 2
	packetDropCount = 4
)

const (
	packetHeader    = 28 // of an enhanced packet block, up to the data
	oldPacketHeader = 28
	simpleHeader    = 12

	flagsOption = 8
	dropOption  = 12
	endOption   = 4
)

// PacketOverhead is what AppendPacket adds to the data of a packet at most.
const PacketOverhead = packetHeader + 3 + flagsOption + dropOption + endOption + 4

// Flags is epb_flags: what is known of a packet beside its bytes (draft,
// section 4.3.1). Zero says nothing.
type Flags uint32

// Directions are two bits: compare p.Flags&Direction with Inbound or Outbound.
// The errors are the link layer's, as Ethernet has them.
const (
	Inbound   Flags = 1
	Outbound  Flags = 2
	Direction Flags = 3

	Unicast     Flags = 1 << 2
	Multicast   Flags = 2 << 2
	Broadcast   Flags = 3 << 2
	Promiscuous Flags = 4 << 2
	Reception   Flags = 7 << 2

	BadCRC      Flags = 1 << 24
	TooLong     Flags = 1 << 25
	TooShort    Flags = 1 << 26
	BadGap      Flags = 1 << 27
	Unaligned   Flags = 1 << 28
	BadStart    Flags = 1 << 29 // start frame delimiter
	BadPreamble Flags = 1 << 30
	BadSymbol   Flags = 1 << 31
)

// AppendPacket appends an enhanced packet block: data as captured on interface
// id at time (nanoseconds since 1970, UTC), of a packet that had length bytes
// on the wire. Flags and dropped, the number of packets known to be lost
// between this one and the one before it, are written unless zero.
//
// It does not allocate while buf has room for len(data) + PacketOverhead.
func AppendPacket(buf []byte, id uint32, time uint64, length uint32, flags Flags, dropped uint64, data []byte) []byte {
	body := (len(data) + 3) &^ 3
	size := packetHeader + body + 4
	if flags != 0 || dropped != 0 {
		size += optionsSize(flags, dropped)
	}
	n := len(buf)
	if cap(buf)-n < size {
		buf = slices.Grow(buf, size)
	}
	buf = buf[:n+size]
	b := buf[n : n+size]

	order.PutUint64(b, blockPacket|uint64(size)<<32)
	order.PutUint32(b[8:], id)
	order.PutUint64(b[12:], bits.RotateLeft64(time, 32)) // high half first
	order.PutUint64(b[20:], uint64(uint32(len(data)))|uint64(length)<<32)
	if body != len(data) {
		order.PutUint32(b[packetHeader+body-4:], 0)
	}
	copy(b[packetHeader:], data)
	if flags != 0 || dropped != 0 {
		putOptions(b[packetHeader+body:], flags, dropped)
	}
	order.PutUint32(b[size-4:], uint32(size))
	return buf
}

func optionsSize(flags Flags, dropped uint64) int {
	size := endOption
	if flags != 0 {
		size += flagsOption
	}
	if dropped != 0 {
		size += dropOption
	}
	return size
}

func putOptions(b []byte, flags Flags, dropped uint64) {
	if flags != 0 {
		order.PutUint32(b, packetFlags|4<<16)
		order.PutUint32(b[4:], uint32(flags))
		b = b[flagsOption:]
	}
	if dropped != 0 {
		order.PutUint32(b, packetDropCount|8<<16)
		order.PutUint64(b[4:], dropped)
		b = b[dropOption:]
	}
	order.PutUint32(b, optionEnd)
}

// AppendPacketComment is AppendPacket with a comment, which Wireshark shows
// with the packet.
func AppendPacketComment(buf []byte, id uint32, time uint64, length uint32, flags Flags, dropped uint64, comment string, data []byte) []byte {
	if comment == "" {
		return AppendPacket(buf, id, time, length, flags, dropped, data)
	}
	start := len(buf)
	buf = AppendPacket(buf, id, time, length, 0, 0, data)
	buf = appendText(buf[:len(buf)-4], optionComment, comment)
	n := optionsSize(flags, dropped)
	buf = slices.Grow(buf, n+4)
	putOptions(buf[len(buf):len(buf)+n], flags, dropped)
	return closeBlock(buf[:len(buf)+n], start)
}

// PacketHead reads, of a block that AppendPacket wrote, its size, the bytes of
// the packet in it and the packet's time. It is for those who move packets that
// are already written; blocks must begin with a whole packet block.
func PacketHead(blocks []byte) (size, captured int, time uint64) {
	b := blocks[:packetHeader]
	return int(order.Uint32(b[4:])), int(order.Uint32(b[20:])), bits.RotateLeft64(order.Uint64(b[12:]), 32)
}

// Packet is a packet as a capture file has it.
type Packet struct {
	Data      []byte     // the bytes captured; the Reader's, valid until the next call of Next
	Time      uint64     // nanoseconds since 1970, UTC; 0 in a simple packet block, which has none
	OrigLen   uint32     // bytes the packet had on the wire
	Flags     Flags      // epb_flags; 0 where the file has none
	DropCount uint64     // packets lost since the one before, as far as the file knows
	Interface *Interface // where it came from; the same pointer for all packets of one interface

	options []byte
	swap    bool
}

// Comment is the comment the packet carries, if it carries one.
func (p *Packet) Comment() string {
	r := Reader{swap: p.swap}
	comment := ""
	_ = r.options(p.options, func(code uint16, value []byte) error {
		if code == optionComment && comment == "" {
			comment = string(value)
		}
		return nil
	}) // Next has found them well-formed
	return comment
}

func (r *Reader) parsePacket(p *Packet, body []byte) error {
	const fixed = packetHeader - 8
	if len(body) < fixed {
		return r.malformed("a packet block of %d bytes is too short", len(body)+minBlock)
	}
	id, captured := r.uint32(body), r.uint32(body[12:])
	if uint64(captured) > uint64(len(body)-fixed) {
		return r.malformed("a packet block of %d bytes says it holds a packet of %d", len(body)+minBlock, captured)
	}
	if uint64(id) >= uint64(len(r.sources)) {
		return r.malformed("a packet of interface %d, %d are described", id, len(r.sources))
	}
	s := r.sources[id]
	p.Data = body[fixed : fixed+captured]
	p.Time = s.nanoseconds(r.time64(body[4:]))
	p.OrigLen = r.uint32(body[16:])
	p.Flags, p.DropCount = 0, 0
	p.Interface = &s.Interface
	return r.packetOptions(p, body[fixed:], captured)
}

// parseOldPacket reads the block that the enhanced packet block replaced.
func (r *Reader) parseOldPacket(p *Packet, body []byte) error {
	const fixed = oldPacketHeader - 8
	if len(body) < fixed {
		return r.malformed("an old packet block of %d bytes is too short", len(body)+minBlock)
	}
	id, captured := r.uint16(body), r.uint32(body[12:])
	if uint64(captured) > uint64(len(body)-fixed) {
		return r.malformed("an old packet block of %d bytes says it holds a packet of %d", len(body)+minBlock, captured)
	}
	if int(id) >= len(r.sources) {
		return r.malformed("a packet of interface %d, %d are described", id, len(r.sources))
	}
	s := r.sources[id]
	*p = Packet{
		Data:      body[fixed : fixed+captured],
		Time:      s.nanoseconds(r.time64(body[4:])),
		OrigLen:   r.uint32(body[16:]),
		Interface: &s.Interface,
	}
	if drops := r.uint16(body[2:]); drops != 0xffff { // 0xffff: not known
		p.DropCount = uint64(drops)
	}
	return r.packetOptions(p, body[fixed:], captured)
}

// packetOptions reads the options behind the data of a packet.
func (r *Reader) packetOptions(p *Packet, rest []byte, captured uint32) error {
	// A writer that forgot the padding has no options either.
	padded := min((uint64(captured)+3)&^3, uint64(len(rest)))
	p.options, p.swap = rest[padded:], r.swap
	if len(p.options) == 0 {
		return nil
	}
	return r.options(p.options, func(code uint16, value []byte) error {
		switch {
		case code == packetFlags && len(value) == 4:
			p.Flags = Flags(r.uint32(value))
		case code == packetDropCount && len(value) == 8:
			p.DropCount = swap64(order.Uint64(value), r.swap)
		case code == packetFlags || code == packetDropCount:
			return r.malformed("a packet option of type %d with %d bytes", code, len(value))
		}
		return nil
	})
}

// parseSimple reads a simple packet block: of interface 0, without a time.
func (r *Reader) parseSimple(p *Packet, body []byte) error {
	if len(body) < simpleHeader-8 {
		return r.malformed("a simple packet block of %d bytes is too short", len(body)+minBlock)
	}
	if len(r.sources) == 0 {
		return r.malformed("a simple packet block, and no interface is described")
	}
	s := r.sources[0]
	length := r.uint32(body)
	captured := min(length, uint32(len(body)-4))
	if s.SnapLen != 0 {
		captured = min(captured, s.SnapLen)
	}
	*p = Packet{Data: body[4 : 4+captured], OrigLen: length, Interface: &s.Interface}
	return nil
}
