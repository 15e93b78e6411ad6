package traffic

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the headers written here.
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeVLAN = 0x8100
	etherTypeIPv6 = 0x86dd
	etherTypeQinQ = 0x88a8
	etherTypeLLDP = 0x88cc

	protocolICMP   = 1
	protocolIGMP   = 2
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8

	dontFragment  = 0x4000
	moreFragments = 0x2000
)

// be is the byte order of every header here.
var be = binary.BigEndian

func ethernet(to, from mac, tags []uint16, etherType uint16, payload []byte) []byte {
	frame := make([]byte, 0, 14+4*len(tags)+len(payload))
	frame = append(frame, to[:]...)
	frame = append(frame, from[:]...)
	for i, tci := range tags {
		tpid := uint16(etherTypeVLAN)
		if i == 0 && len(tags) == 2 {
			tpid = etherTypeQinQ
		}
		frame = be.AppendUint16(frame, tpid)
		frame = be.AppendUint16(frame, tci)
	}
	frame = be.AppendUint16(frame, etherType)
	return append(frame, payload...)
}

// ipv4 is a packet; fragment holds the flags and the fragment offset.
func ipv4(from, to netip.Addr, protocol, ttl byte, id, fragment uint16, payload []byte) []byte {
	p := make([]byte, ipv4HeaderLen, ipv4HeaderLen+len(payload))
	p[0] = 0x45
	be.PutUint16(p[2:], uint16(ipv4HeaderLen+len(payload)))
	be.PutUint16(p[4:], id)
	be.PutUint16(p[6:], fragment)
	p[8], p[9] = ttl, protocol
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	be.PutUint16(p[10:], ^sum(0, p))
	return append(p, payload...)
}

func ipv6Packet(from, to netip.Addr, next, hops byte, payload []byte) []byte {
	p := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(payload))
	p[0] = 0x60
	be.PutUint16(p[4:], uint16(len(payload)))
	p[6], p[7] = next, hops
	copy(p[8:], from.AsSlice())
	copy(p[24:], to.AsSlice())
	return append(p, payload...)
}

// udp is a datagram between two addresses.
func udp(from, to netip.Addr, fromPort, toPort uint16, payload []byte) []byte {
	d := make([]byte, udpHeaderLen, udpHeaderLen+len(payload))
	be.PutUint16(d[0:], fromPort)
	be.PutUint16(d[2:], toPort)
	be.PutUint16(d[4:], uint16(udpHeaderLen+len(payload)))
	d = append(d, payload...)
	checksum := ^sum(pseudo(from, to, protocolUDP, len(d)), d)
	if checksum == 0 {
		checksum = 0xffff // 0 would say that there is none, RFC 768
	}
	be.PutUint16(d[6:], checksum)
	return d
}

// tcpSegment is a segment; options are a multiple of 4 bytes.
func tcpSegment(from, to netip.Addr, fromPort, toPort uint16, sequence, acknowledged uint32, flags byte, options, payload []byte) []byte {
	s := make([]byte, tcpHeaderLen, tcpHeaderLen+len(options)+len(payload))
	be.PutUint16(s[0:], fromPort)
	be.PutUint16(s[2:], toPort)
	be.PutUint32(s[4:], sequence)
	be.PutUint32(s[8:], acknowledged)
	s[12] = byte(tcpHeaderLen+len(options)) / 4 << 4
	s[13] = flags
	be.PutUint16(s[14:], 502) // window
	s = append(append(s, options...), payload...)
	be.PutUint16(s[16:], ^sum(pseudo(from, to, protocolTCP, len(s)), s))
	return s
}

// pseudo is the sum over the pseudo header of TCP, UDP and ICMPv6 (RFC 9293, 3.1;
// RFC 8200, 8.1): both families add the same words.
func pseudo(from, to netip.Addr, protocol byte, length int) uint16 {
	s := sum(0, from.AsSlice())
	s = sum(s, to.AsSlice())
	return sum(s, []byte{0, protocol, byte(length >> 8), byte(length)})
}

// sum goes on with an Internet checksum (RFC 1071), not yet inverted.
func sum(start uint16, b []byte) uint16 {
	total := uint32(start)
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(be.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
