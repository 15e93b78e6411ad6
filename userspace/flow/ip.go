package flow

// A bare IP packet follows, RECORD_RAW_IP.
func (p *packet) bareIP(t *Table, b []byte) Counter {
	if len(b) == 0 {
		return ShortIP
	}
	p.mac = [2][6]byte{}
	if b[0]>>4 == 6 {
		return p.ipv6(t, b)
	}
	return p.ipv4(t, b)
}

// ipv4 reads an IPv4 header (RFC 791) and what it carries.
func (p *packet) ipv4(t *Table, b []byte) Counter {
	if len(b) < 20 {
		return ShortIP
	}
	headerLen := int(b[0]&0xf) * 4
	if b[0]>>4 != 4 || headerLen < 20 {
		return BadIP
	}
	if len(b) < headerLen {
		return ShortIP
	}
	const mapped = 0xffff_0000_0000
	p.key[0], p.key[1] = 0, mapped|uint64(be32(b[12:]))
	p.key[2], p.key[3] = 0, mapped|uint64(be32(b[16:]))

	// A total length of 0 is a frame mirrored before segmentation offload cut it.
	length := min(int(be16(b[2:])), p.limit) - headerLen
	if length < 0 {
		length = len(b) - headerLen + p.cut
	}
	protocol := b[9]
	if fragment := be16(b[6:]); fragment&0x3fff != 0 {
		return p.fragment(t, b[headerLen:], fragmentHeader{
			id:        uint32(be16(b[4:])),
			offset:    uint32(fragment&0x1fff) * 8,
			more:      fragment&0x2000 != 0,
			protocol:  protocol,
			length:    length,
			etherType: etherTypeIPv4,
		})
	}
	return p.transport(protocol, etherTypeIPv4, b[headerLen:], length)
}

// maxExtensions bounds the IPv6 extension headers walked through.
const maxExtensions = 8

const (
	extensionHopByHop    = 0
	extensionRouting     = 43
	extensionFragment    = 44
	extensionAH          = 51
	extensionDestination = 60
	extensionMobility    = 135
	extensionHIP         = 139
	extensionShim6       = 140
)

// ipv6 reads an IPv6 header and its extension headers (RFC 8200) and what they carry.
func (p *packet) ipv6(t *Table, b []byte) Counter {
	if len(b) < 40 {
		return ShortIP
	}
	if b[0]>>4 != 6 {
		return BadIP
	}
	p.key[0], p.key[1] = be64(b[8:]), be64(b[16:])
	p.key[2], p.key[3] = be64(b[24:]), be64(b[32:])
	length := min(int(be16(b[4:])), p.limit-40)
	if length <= 0 {
		length = len(b) - 40 + p.cut // a jumbogram (RFC 2675), or before segmentation offload
	}
	next := b[6]
	b = b[40:]
	for range maxExtensions {
		size := 0
		switch next {
		case extensionHopByHop, extensionRouting, extensionDestination, extensionMobility, extensionHIP, extensionShim6:
			if len(b) < 2 {
				return p.portless(next, etherTypeIPv6)
			}
			size = int(b[1])*8 + 8
		case extensionAH:
			if len(b) < 2 {
				return p.portless(next, etherTypeIPv6)
			}
			size = int(b[1])*4 + 8 // RFC 4302 2.2
		case extensionFragment:
			if len(b) < 8 {
				return p.portless(next, etherTypeIPv6)
			}
			field := be16(b[2:])
			header := fragmentHeader{
				id:        be32(b[4:]),
				offset:    uint32(field &^ 7),
				more:      field&1 != 0,
				protocol:  b[0],
				length:    length - 8,
				etherType: etherTypeIPv6,
			}
			if header.offset != 0 || header.more {
				return p.fragment(t, b[8:], header)
			}
			size = 8 // an atomic fragment (RFC 6946) is whole
		default:
			return p.transport(next, etherTypeIPv6, b, length)
		}
		if len(b) < size {
			return p.portless(b[0], etherTypeIPv6)
		}
		next = b[0]
		b = b[size:]
		length -= size
	}
	return p.portless(next, etherTypeIPv6)
}

// portless keys a packet by its addresses alone: what carries the ports was cut off.
func (p *packet) portless(protocol uint8, etherType uint16) Counter {
	p.key.setTransport(0, 0, protocol, 0, etherType)
	return Portless
}

// transport reads what tells the flows of two hosts apart. length is what the
// IP header says follows it; more or less of that may be in b.
func (p *packet) transport(protocol uint8, etherType uint16, b []byte, length int) Counter {
	switch protocol {
	case protocolTCP:
		return p.tcp(etherType, b, length)
	case protocolUDP, protocolSCTP, protocolDCCP, protocolLite:
		if len(b) < 4 {
			return p.portless(protocol, etherType)
		}
		source, destination := be16(b), be16(b[2:])
		p.key.setTransport(source, destination, protocol, 0, etherType)
		p.lead = leadByPorts(source, destination)
		return Tracked
	case protocolICMP, protocolICMPv6:
		return p.icmp(protocol, etherType, b)
	}
	p.key.setTransport(0, 0, protocol, 0, etherType)
	return Tracked
}

func (p *packet) tcp(etherType uint16, b []byte, length int) Counter {
	if len(b) < 4 {
		return p.portless(protocolTCP, etherType)
	}
	source, destination := be16(b), be16(b[2:])
	p.key.setTransport(source, destination, protocolTCP, 0, etherType)
	p.lead = leadByPorts(source, destination)
	if len(b) < 20 {
		return Tracked // cut inside the header: a flow, but nothing about its state
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < 20 || headerLen > length {
		return Tracked
	}
	p.hasTCP = true
	p.seq, p.ack = be32(b[4:]), be32(b[8:])
	p.tcpFlags = b[13]
	p.window = be16(b[14:])
	p.payload = uint32(length - headerLen)
	return Tracked
}

// leadByPorts: a port below 1024 is a server's, whoever is seen first. A
// conversation that was already going on when the capture began is so turned
// the right way round. Otherwise the first packet decides.
func leadByPorts(source, destination uint16) lead {
	switch {
	case destination < 1024 && source >= 1024:
		return leadSender
	case source < 1024 && destination >= 1024:
		return leadReceiver
	}
	return leadUnknown
}

// icmpQuery knows the messages that come in pairs, by the type of either: RFC
// 792, RFC 950, RFC 4443, RFC 8335.
func icmpQuery(protocol, message uint8) (request uint8, asks, found bool) {
	if protocol == protocolICMP {
		switch message {
		case 8, 0: // echo
			return 8, message == 8, true
		case 13, 14, 15, 16, 17, 18: // timestamp, information, address mask
			return message - (message+1)%2, message%2 == 1, true
		case 42, 43: // extended echo
			return 42, message == 42, true
		}
		return 0, false, false
	}
	switch message {
	case 128, 129: // echo
		return 128, message == 128, true
	case 160, 161: // extended echo
		return 160, message == 160, true
	}
	return 0, false, false
}

// icmp makes a query and its answers one flow: the message of the key is the
// request's type and both ports are the identifier, so that two pings between
// the same hosts are two flows. Every other message is a flow of its type and
// code (the code in the ports) between two hosts.
func (p *packet) icmp(protocol uint8, etherType uint16, b []byte) Counter {
	if len(b) < 2 {
		return p.portless(protocol, etherType)
	}
	request, asks, found := icmpQuery(protocol, b[0])
	if !found {
		p.key.setTransport(uint16(b[1]), uint16(b[1]), protocol, b[0], etherType)
		return Tracked
	}
	if len(b) < 6 {
		return p.portless(protocol, etherType)
	}
	id := be16(b[4:])
	p.key.setTransport(id, id, protocol, request, etherType)
	p.lead = leadReceiver
	if asks {
		p.lead = leadSender
	}
	return Tracked
}
