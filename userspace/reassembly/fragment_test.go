package reassembly_test

import (
	"encoding/binary"
	"net/netip"
)

// Addresses of RFC 5737 and RFC 3849, MACs of RFC 7042.
var (
	exporter4  = netip.MustParseAddr("192.0.2.7").AsSlice()
	collector4 = netip.MustParseAddr("198.51.100.7").AsSlice()
	exporter6  = netip.MustParseAddr("2001:db8::7").AsSlice()
	collector6 = netip.MustParseAddr("2001:db8:ffff::7").AsSlice()
	macs       = []byte{0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 2}
)

const (
	ipv4 = 0x0800
	ipv6 = 0x86dd
	gre  = 47
)

// ethernet is an Ethernet header, with the VLANs in front of the EtherType.
func ethernet(ethertype uint16, vlans ...uint16) []byte {
	h := append([]byte(nil), macs...)
	for _, v := range vlans {
		h = binary.BigEndian.AppendUint16(h, 0x8100)
		h = binary.BigEndian.AppendUint16(h, v)
	}
	return binary.BigEndian.AppendUint16(h, ethertype)
}

// ip4 is an IPv4 packet: payload at offset of the datagram id, options in multiples
// of four bytes.
func ip4(id uint16, offset int, more bool, payload []byte, options ...byte) []byte {
	h := make([]byte, 20, 20+len(options)+len(payload))
	h[0] = 0x45 + byte(len(options)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(payload)))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[6:], uint16(offset/8))
	if more {
		h[6] |= 0x20
	}
	h[8], h[9] = 64, gre
	copy(h[12:], exporter4)
	copy(h[16:], collector4)
	h = append(h, options...)
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum>>16+sum))
	return append(h, payload...)
}

// ip4Whole is the header and payload of the datagram that was fragmented.
func ip4Whole(id uint16, payload []byte, options ...byte) []byte {
	return ip4(id, 0, false, payload, options...)
}

// extensions are IPv6 headers in front of the fragment header: each a next header
// number and its bytes, whose first two are filled in here.
type extension struct {
	number byte
	body   []byte // multiple of eight
}

// ip6 is an IPv6 packet with a fragment header.
func ip6(id uint32, offset int, more bool, payload []byte, extensions ...extension) []byte {
	fragment := make([]byte, 8)
	binary.BigEndian.PutUint16(fragment[2:], uint16(offset))
	if more {
		fragment[3] |= 1
	}
	binary.BigEndian.PutUint32(fragment[4:], id)
	return ip6Chain(payload, append(extensions, extension{44, fragment})...)
}

// ip6Whole is the datagram that was fragmented.
func ip6Whole(payload []byte, extensions ...extension) []byte {
	return ip6Chain(payload, extensions...)
}

func ip6Chain(payload []byte, chain ...extension) []byte {
	h := make([]byte, 40)
	h[0], h[7] = 0x60, 64
	copy(h[8:], exporter6)
	copy(h[24:], collector6)
	field := 6
	for _, e := range chain {
		h[field] = e.number
		field = len(h)
		h = append(h, e.body...)
		if e.number != 44 {
			h[field+1] = byte(len(e.body)/8 - 1)
		}
	}
	h[field] = gre
	h = append(h, payload...)
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40))
	return h
}

// join is the frame of its parts.
func join(parts ...[]byte) []byte {
	var frame []byte
	for _, p := range parts {
		frame = append(frame, p...)
	}
	return frame
}

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7)
	}
	return b
}
