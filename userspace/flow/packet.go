package flow

import "encoding/binary"

// packet is what the table needs to know of a frame: everything is read once,
// while the frame is at hand, and the frame is not kept.
type packet struct {
	key     key
	id      uint64 // of the key
	place   uint64 // of the key, in the index
	time    uint64 // ns
	tick    uint32 // of the clock when it came
	since   uint64 // ns; earlier than time when it stands for held fragments too
	packets uint32 // packets it stands for: weight, plus held fragments
	bytes   uint64
	mac     [2][6]byte // source, destination
	feed    uint32
	missing uint32 // packets of the feed the mirror had lost so far
	weight  uint32
	slot    uint32 // where the flow is thought to be
	cut     int    // bytes of the frame that are not there
	limit   int    // bytes of the IP packet at most

	seq, ack uint32 // TCP
	payload  uint32 // TCP, bytes
	window   uint16 // TCP, as sent
	tcpFlags uint8
	hasTCP   bool // the fields above hold
	side     uint8
	late     bool // its feed's sequence says that the mirror delivered it late
	lead     lead
}

// lead is what a packet tells of who began the conversation.
type lead uint8

const (
	leadUnknown  lead = iota // take the first one seen
	leadSender               // likely the sender: it talks to a well-known port, or asks
	leadReceiver             // likely the receiver: it is asked
)

const (
	etherTypeIPv4       = 0x0800
	etherTypeIPv6       = 0x86dd
	etherTypeVLAN       = 0x8100
	etherTypeQinQ       = 0x88a8 // 802.1ad
	etherTypeQinQOld    = 0x9100 // before 802.1ad
	etherTypePPPoE      = 0x8864 // RFC 2516, session stage
	etherTypeMPLS       = 0x8847
	etherTypeMPLSUp     = 0x8848 // upstream-assigned, RFC 5332
	etherTypeFabricPath = 0x8903 // Cisco; MAC addresses in front are the fabric's
	etherTypeVNTag      = 0x8926 // 802.1BR's forerunner, between UCS and its extenders
	etherTypeCMD        = 0x8909 // Cisco MetaData: the security group tag of TrustSec

	// minEtherType: below it the field is a length, 802.3 3.2.6.
	minEtherType = 0x0600

	// maxShims bounds the tags and labels walked through in one frame.
	maxShims = 8
)

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolDCCP   = 33
	protocolICMPv6 = 58
	protocolSCTP   = 132
	protocolLite   = 136 // UDP-Lite, RFC 3828
)

const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// ethernet reads a frame from its destination address on.
func (p *packet) ethernet(t *Table, frame []byte, nonIP bool) Counter {
	if len(frame) < 14 {
		return ShortEthernet
	}
	copy(p.mac[1][:], frame[:6])
	copy(p.mac[0][:], frame[6:12])
	switch etherType := be16(frame[12:]); etherType {
	case etherTypeIPv4:
		return p.ipv4(t, frame[14:])
	case etherTypeIPv6:
		return p.ipv6(t, frame[14:])
	default:
		return p.shims(t, etherType, frame[14:], nonIP)
	}
}

// shims walks through what can stand between the MAC addresses and IP.
func (p *packet) shims(t *Table, etherType uint16, rest []byte, nonIP bool) Counter {
	for range maxShims {
		next := 0
		switch etherType {
		case etherTypeIPv4:
			return p.ipv4(t, rest)
		case etherTypeIPv6:
			return p.ipv6(t, rest)
		case etherTypeVLAN, etherTypeQinQ, etherTypeQinQOld:
			if len(rest) < 4 {
				return ShortShim
			}
			p.tag(be16(rest))
			next = 4
		case etherTypeVNTag:
			next = 6
		case etherTypeCMD:
			next = 8
		case etherTypeFabricPath:
			// Two bytes of forwarding tag and TTL, then the whole frame.
			if len(rest) < 16 {
				return ShortShim
			}
			copy(p.mac[1][:], rest[2:8])
			copy(p.mac[0][:], rest[8:14])
			next = 16
		case etherTypePPPoE:
			if len(rest) < 8 {
				return ShortShim
			}
			// What frames it may be shorter than the IP packet claims to be:
			// some access concentrators pad small ones and count the padding.
			p.limit = max(int(be16(rest[4:]))-2, 0)
			switch be16(rest[6:]) {
			case 0x0021:
				return p.ipv4(t, rest[8:])
			case 0x0057:
				return p.ipv6(t, rest[8:])
			}
			return p.other(etherType, nonIP)
		case etherTypeMPLS, etherTypeMPLSUp:
			return p.mpls(t, etherType, rest, nonIP)
		default:
			if etherType >= minEtherType {
				return p.other(etherType, nonIP)
			}
			// 802.2 LLC. Only SNAP with Ethernet's own numbers carries IP (RFC 1042).
			if len(rest) < 8 || be32(rest) != 0xaaaa0300 || be16(rest[4:]) != 0 {
				return p.llc(rest, nonIP)
			}
			next = 8
		}
		if len(rest) < next {
			return ShortShim
		}
		etherType = be16(rest[next-2:])
		rest = rest[next:]
	}
	return DeepShims
}

// tag adds a VLAN to the stack; a third and deeper one is skipped. VLAN 0 is a
// priority tag: the frame belongs to no VLAN (802.1Q 9.6).
func (p *packet) tag(tci uint16) {
	vlan := uint64(tci & 0xfff)
	switch {
	case vlan == 0:
	case p.key[5]&0xffff0000 == 0:
		p.key[5] |= vlan << 16
	case p.key[5]&0xffff == 0:
		p.key[5] |= vlan
	}
}

// mpls walks the label stack (RFC 3032). Labels do not say what follows; like
// routers do, the first nibble is taken for an IP version (RFC 4928).
func (p *packet) mpls(t *Table, etherType uint16, rest []byte, nonIP bool) Counter {
	for range maxShims {
		if len(rest) < 4 {
			return ShortShim
		}
		bottom := rest[2]&1 != 0
		rest = rest[4:]
		if !bottom {
			continue
		}
		if len(rest) == 0 {
			return ShortShim
		}
		switch rest[0] >> 4 {
		case 4:
			return p.ipv4(t, rest)
		case 6:
			return p.ipv6(t, rest)
		}
		return p.other(etherType, nonIP)
	}
	return DeepShims
}

// llc makes the destination service access point the EtherType: 0x42 is
// spanning tree, 0xfe is IS-IS.
func (p *packet) llc(rest []byte, nonIP bool) Counter {
	if len(rest) == 0 {
		return ShortShim
	}
	return p.other(uint16(rest[0]), nonIP)
}

// other is a frame without IP: its flow is the pair of MAC addresses.
func (p *packet) other(etherType uint16, nonIP bool) Counter {
	if !nonIP {
		return NotIP
	}
	p.key[0], p.key[2] = 0, 0
	p.key[1], p.key[3] = macWord(&p.mac[0]), macWord(&p.mac[1])
	p.key.setTransport(0, 0, notIP, 0, etherType)
	return Tracked
}

func macWord(m *[6]byte) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(binary.BigEndian.Uint32(m[2:]))
}
