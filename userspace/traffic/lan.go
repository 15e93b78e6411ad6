package traffic

import (
	"net/netip"
	"strings"
	"time"
)

// datagram sends one UDP datagram.
func (m *mixer) datagram(p *path, fromServer bool, clientPort, serverPort uint16, payload []byte) {
	from, to := p.ends(fromServer)
	fromPort, toPort := clientPort, serverPort
	if fromServer {
		fromPort, toPort = serverPort, clientPort
	}
	m.emit(p.packet(fromServer, protocolUDP, udp(from.address, to.address, fromPort, toPort, payload)))
}

// dns is a question and its answer (RFC 1035, 4).
func (m *mixer) dns(p *path) {
	const (
		answered  = 0x8180 // response, recursion desired and available
		recursive = 0x0100
		classIN   = 1
	)
	port, id := uint16(m.between(32768, 60999)), uint16(m.Uint32())
	name := m.name()
	typeA, data := uint16(1), []byte{203, 0, 113, byte(m.between(121, 240))}
	if m.IntN(3) == 0 {
		typeA, data = 28, netip.MustParseAddr("2001:db8:2::80").AsSlice() // AAAA
	}
	var question []byte
	for label := range strings.SplitSeq(name, ".") {
		question = appendVector8(question, []byte(label))
	}
	question = append(question, 0)
	question = be.AppendUint16(question, typeA)
	question = be.AppendUint16(question, classIN)

	message := func(flags, answers uint16) []byte {
		var b []byte
		for _, word := range []uint16{id, flags, 1, answers, 0, 0} {
			b = be.AppendUint16(b, word)
		}
		return append(b, question...)
	}
	m.datagram(p, false, port, 53, message(recursive, 0))
	m.wait(p.delay)
	response := message(answered, 1)
	response = append(response, 0xc0, 12) // the name of the question
	response = be.AppendUint16(response, typeA)
	response = be.AppendUint16(response, classIN)
	response = be.AppendUint32(response, 300)
	m.datagram(p, true, port, 53, appendVector16(response, data))
}

// ping is some echo requests and replies (RFC 792, RFC 4443).
func (m *mixer) ping(p *path) {
	id := uint16(m.Uint32())
	for i := range m.between(2, 4) {
		for _, reply := range []bool{false, true} {
			m.emit(p.packet(reply, echoProtocol(p), p.echo(reply, id, uint16(i+1))))
			m.wait(p.delay)
		}
		m.now += time.Second
	}
}

func echoProtocol(p *path) byte {
	if p.client.address.Is4() {
		return protocolICMP
	}
	return protocolICMPv6
}

func (p *path) echo(reply bool, id, sequence uint16) []byte {
	from, to := p.ends(reply)
	message := make([]byte, 8+56)
	be.PutUint16(message[4:], id)
	be.PutUint16(message[6:], sequence)
	for i := range message[8:] {
		message[8+i] = byte(i)
	}
	start := uint16(0)
	if from.address.Is4() {
		if !reply {
			message[0] = 8
		}
	} else {
		message[0] = 128
		if reply {
			message[0] = 129
		}
		start = pseudo(from.address, to.address, protocolICMPv6, len(message))
	}
	be.PutUint16(message[2:], ^sum(start, message))
	return message
}

// arp asks who has the server's address (RFC 826).
func (m *mixer) arp(p *path) {
	message := func(operation byte, sender, target host, targetMAC mac) []byte {
		b := []byte{0, 1, 8, 0, 6, 4, 0, operation}
		b = append(append(b, sender.mac[:]...), sender.address.AsSlice()...)
		return append(append(b, targetMAC[:]...), target.address.AsSlice()...)
	}
	broadcast := mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	m.emit(p.client.frame(broadcast, nil, etherTypeARP, message(1, p.client, p.server, mac{})))
	m.wait(p.delay)
	m.emit(p.server.frame(p.client.mac, nil, etherTypeARP, message(2, p.server, p.client, p.client.mac)))
}

// neighbour is the same for IPv6 (RFC 4861, 4.3 and 4.4).
func (m *mixer) neighbour(p *path) {
	const solicitation, advertisement, hops = 135, 136, 255
	message := func(kind, flags, option byte, source, destination netip.Addr, about host, sender mac) []byte {
		b := []byte{kind, 0, 0, 0, flags, 0, 0, 0}
		b = append(b, about.address.AsSlice()...)
		b = append(append(b, option, 1), sender[:]...)
		be.PutUint16(b[2:], ^sum(pseudo(source, destination, protocolICMPv6, len(b)), b))
		return ipv6Packet(source, destination, protocolICMPv6, hops, b)
	}
	target := p.server.address.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]})
	m.emit(p.client.frame(mac{0x33, 0x33, 0xff, target[13], target[14], target[15]}, nil, etherTypeIPv6,
		message(solicitation, 0, 1, p.client.address, group, p.server, p.client.mac)))
	m.wait(p.delay)
	m.emit(p.server.frame(p.client.mac, nil, etherTypeIPv6,
		message(advertisement, 0x60, 2, p.server.address, p.client.address, p.server, p.server.mac)))
}

// fragments is a datagram of 4000 bytes, as a file server of old sends it.
func (m *mixer) fragments(p *path) {
	datagram := udp(p.server.address, p.client.address, 2049, 800, m.bytes(4000))
	const room = 1480
	for offset := 0; offset < len(datagram); offset += room {
		end := min(offset+room, len(datagram))
		flags := uint16(offset / 8)
		if end < len(datagram) {
			flags |= moreFragments
		}
		m.emit(p.server.frame(p.client.mac, nil, etherTypeIPv4,
			ipv4(p.server.address, p.client.address, protocolUDP, p.server.ttl, p.server.id, flags, datagram[offset:end])))
		m.wait(12 * time.Microsecond)
	}
	p.server.id++
}

// stream is somebody joining a multicast group (RFC 2236) and some of what is
// sent there. Groups for documentation are those of RFC 6676.
func (m *mixer) stream(p *path) {
	group := netip.AddrFrom4([4]byte{233, 252, 0, byte(m.between(1, 9))})
	address := group.As4()
	groupMAC := mac{0x01, 0x00, 0x5e, address[1] & 0x7f, address[2], address[3]}
	report := append([]byte{0x16, 0, 0, 0}, address[:]...)
	be.PutUint16(report[2:], ^sum(0, report))
	m.emit(p.client.frame(groupMAC, nil, etherTypeIPv4, ipv4(p.client.address, group, protocolIGMP, 1, p.client.id, 0, report)))

	source, sequence := m.Uint32(), uint16(m.Uint32())
	for i := range 10 {
		m.now += 40 * time.Millisecond
		rtp := []byte{0x80, 33} // RFC 3550, 5.1; MPEG-2 transport
		rtp = be.AppendUint16(rtp, sequence+uint16(i))
		rtp = be.AppendUint32(rtp, uint32(i)*3600)
		rtp = be.AppendUint32(rtp, source)
		for range 3 {
			rtp = append(append(rtp, 0x47, 0x1f, 0xff, 0x10), make([]byte, 184)...) // null packets
		}
		m.emit(p.server.frame(groupMAC, nil, etherTypeIPv4,
			ipv4(p.server.address, group, protocolUDP, 16, p.server.id, dontFragment, udp(p.server.address, group, 5004, 5004, rtp))))
		p.server.id++
	}
}

// lldp is a switch that introduces itself (IEEE 802.1AB, 8).
func (m *mixer) lldp() {
	element := func(b []byte, kind int, value []byte) []byte {
		return append(be.AppendUint16(b, uint16(kind<<9|len(value))), value...)
	}
	from := macOf(0xfd)
	b := element(nil, 1, append([]byte{4}, from[:]...))
	b = element(b, 2, append([]byte{5}, "Ethernet1/7"...))
	b = element(b, 3, []byte{0, 120})
	b = element(b, 5, []byte("switch.example"))
	b = element(b, 0, nil)
	h := host{mac: from, padded: true}
	m.emit(h.frame(mac{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}, nil, etherTypeLLDP, b))
}

// stp is the hello of a bridge (IEEE 802.1D, 9.3.1) in an 802.3 frame: a length
// where others have an EtherType.
func (m *mixer) stp() {
	from := macOf(0xfd)
	bridge := append([]byte{0x80, 0x00}, from[:]...)
	b := []byte{0x42, 0x42, 0x03, 0, 0, 0, 0, 0}
	b = append(b, bridge...)
	b = append(b, 0, 0, 0, 0) // this bridge is the root
	b = append(b, bridge...)
	b = append(b, 0x80, 0x07, 0, 0, 20, 0, 2, 0, 15, 0)
	h := host{mac: from, padded: true}
	m.emit(h.frame(mac{0x01, 0x80, 0xc2, 0x00, 0x00, 0x00}, nil, uint16(len(b)), b))
}
