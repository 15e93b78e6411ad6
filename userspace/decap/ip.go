package decap

import "github.com/unspan/unspan/bpf"

// Protocol numbers, IANA "Assigned Internet Protocol Numbers".
const (
	protocolHopByHop    = 0
	protocolUDP         = 17
	protocolRouting     = 43
	protocolFragment    = 44
	protocolGRE         = 47
	protocolDestination = 60
)

const (
	ip4Size         = 20
	ip6Size         = 40
	extensionSize   = 8
	maxExtensions   = 6
	ip4FragmentBits = 0x3fff // more fragments, and the offset
	ip4OffsetBits   = 0x1fff
	ip6FragmentBits = 0xfff9 // the offset, and more fragments
	ip6OffsetBits   = 0xfff8
)

// ip takes the outer IP header and says whether what it carries can be a tunnel
// to us.
func (e *Engine) ip(p *packet) bpf.Verdict {
	p.network = p.at
	v := bpf.PassNotIP
	switch p.ethertype {
	case etherIPv4:
		v = p.ip4()
	case etherIPv6:
		v = p.ip6()
	}
	if v != bpf.VerdictNone {
		return v
	}

	udp := e.accepts(bpf.EncapVXLAN) || e.accepts(bpf.EncapGeneve)
	switch {
	case p.protocol == protocolGRE, p.protocol == protocolUDP && udp:
	case p.position != whole:
		return bpf.PassFragment
	default:
		return bpf.PassNotTunnel
	}
	if !e.ours(&p.key.Collector) {
		return bpf.PassNotCollector
	}
	if p.position != whole {
		p.datagram.source = p.key.Exporter
		p.datagram.destination = p.key.Collector
		p.datagram.protocol = p.protocol
	}
	return bpf.VerdictNone
}

// ip4 takes an IPv4 header and its options, RFC 791 3.1.
func (p *packet) ip4() bpf.Verdict {
	header := p.peek(ip4Size)
	if header == nil || header[0]>>4 != 4 {
		return bpf.PassBadIP
	}
	size := int(header[0]&0x0f) * 4
	total := int(be16(header[2:]))
	if size < ip4Size || p.left < size {
		return bpf.PassBadIP
	}
	// Linux sends a total length of 0 when a BIG TCP packet does not fit it
	// (net/ipv4/ip_output.c, iph_set_totlen); it ends with the frame.
	if total != 0 {
		if total < size {
			return bpf.PassBadIP
		}
		p.ends(total)
	}
	p.skip(size)

	if bits := be16(header[6:]); bits&ip4FragmentBits != 0 {
		p.position = first
		if bits&ip4OffsetBits != 0 {
			p.position = later
		}
		p.datagram.id = uint32(be16(header[4:]))
	}
	p.protocol = header[9]
	mapIP4(&p.key.Exporter, header[12:16])
	mapIP4(&p.key.Collector, header[16:20])
	return bpf.VerdictNone
}

// ends says that the IP packet ends rest bytes behind the cursor.
func (p *packet) ends(rest int) {
	if !p.bound(rest) {
		p.record.Flags |= bpf.RecordClipped
	}
}

// mapIP4 writes an IPv4 address into zeros as ::ffff:a.b.c.d, RFC 4291 2.5.5.2.
func mapIP4(address *[16]byte, ip4 []byte) {
	address[10], address[11] = 0xff, 0xff
	copy(address[12:], ip4)
}

// ip6 takes an IPv6 header, RFC 8200 3, and its extension headers.
func (p *packet) ip6() bpf.Verdict {
	header := p.take(ip6Size)
	if header == nil || header[0]>>4 != 6 {
		return bpf.PassBadIP
	}
	// 0 is a jumbogram (RFC 2675 3) or BIG TCP: it ends with the frame.
	if payload := int(be16(header[4:])); payload != 0 {
		p.ends(payload)
	}
	p.protocol = header[6]
	copy(p.key.Exporter[:], header[8:24])
	copy(p.key.Collector[:], header[24:40])

	for range maxExtensions {
		switch p.protocol {
		case protocolHopByHop, protocolRouting, protocolDestination:
			// RFC 8200 4.3, 4.4, 4.6: the length counts 8-byte units
			// beyond the first.
			extension := p.peek(extensionSize)
			if extension == nil || !p.skip((int(extension[1])+1)*8) {
				return bpf.PassBadIP
			}
			p.protocol = extension[0]
		case protocolFragment:
			// RFC 8200 4.5.
			extension := p.take(extensionSize)
			if extension == nil {
				return bpf.PassBadIP
			}
			p.protocol = extension[0]
			bits := be16(extension[2:])
			if bits&ip6FragmentBits == 0 {
				continue // an atomic fragment is whole, RFC 6946 4
			}
			p.position = first
			if bits&ip6OffsetBits != 0 {
				p.position = later
			}
			p.datagram.id = be32(extension[4:])
			return bpf.VerdictNone
		default:
			return bpf.VerdictNone
		}
	}
	return bpf.VerdictNone
}
