package traffic

import (
	"net/netip"
	"time"
)

// mac is an Ethernet address.
type mac [6]byte

// host is one end of a conversation as the mirror sees it.
type host struct {
	mac     mac
	address netip.Addr
	ttl     byte
	id      uint16 // of the next IPv4 packet
	mss     int
	padded  bool // its frames crossed a wire and have 60 bytes; a hypervisor's may have fewer
}

// path is the way between the two ends of a conversation.
type path struct {
	client, server host
	tags           []uint16      // 802.1Q tag controls, outermost first
	delay          time.Duration // from the mirror to the server and back
}

// Properties of a path.
const (
	remote  = 1 << iota // behind the router, else on the same segment
	ipv6                // else IPv4
	tagged              // one 802.1Q tag
	stacked             // an 802.1ad tag and one of 802.1Q within
	jumbo               // an MTU of 9000
)

// The addresses of RFC 7042, 2.1.2; the router has the last but one.
func macOf(n int) mac { return mac{0x00, 0x00, 0x5e, 0x00, 0x53, byte(n)} }

const routerMAC = 0xfe

// path picks two hosts.
func (m *mixer) path(properties int) *path {
	has := func(property int) bool { return properties&property != 0 }
	client, server := m.between(10, 120), m.between(121, 240)
	p := &path{
		client: host{mac: macOf(client), ttl: 64, padded: client%2 == 0},
		server: host{mac: macOf(server), ttl: 64, padded: server%2 == 0},
		delay:  time.Duration(m.between(80, 400)) * time.Microsecond,
	}
	if has(remote) {
		p.server.mac = macOf(routerMAC)
		p.server.ttl = byte(m.between(46, 58))
		p.server.padded = true
		p.delay = time.Duration(m.between(2000, 40000)) * time.Microsecond
	}
	mtu, header := 1500, ipv4HeaderLen
	if has(jumbo) {
		mtu = 9000
	}
	if has(ipv6) {
		header = ipv6HeaderLen
		segment := [2]byte{1, 1}
		if has(remote) {
			segment[1] = 2
		}
		p.client.address = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, segment[0], 15: byte(client)})
		p.server.address = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, segment[1], 15: byte(server)})
	} else {
		p.client.address = netip.AddrFrom4([4]byte{198, 51, 100, byte(client)})
		p.server.address = netip.AddrFrom4([4]byte{198, 51, 100, byte(server)})
		if has(remote) {
			p.server.address = netip.AddrFrom4([4]byte{203, 0, 113, byte(server)})
		}
	}
	p.client.id, p.server.id = uint16(m.Uint32()), uint16(m.Uint32())
	p.client.mss = mtu - header - tcpHeaderLen
	p.server.mss = p.client.mss
	switch {
	case has(tagged):
		p.tags = []uint16{uint16(m.between(0, 5))<<13 | uint16(100*m.between(1, 3))}
	case has(stacked):
		p.tags = []uint16{uint16(1000 + m.between(1, 3)), uint16(100 * m.between(1, 3))}
	}
	return p
}

// ends are the sender and the receiver of a packet.
func (p *path) ends(fromServer bool) (from, to *host) {
	if fromServer {
		return &p.server, &p.client
	}
	return &p.client, &p.server
}

// packet is the frame that carries a transport segment.
func (p *path) packet(fromServer bool, protocol byte, segment []byte) []byte {
	from, to := p.ends(fromServer)
	etherType := uint16(etherTypeIPv6)
	var ip []byte
	if from.address.Is4() {
		etherType = etherTypeIPv4
		ip = ipv4(from.address, to.address, protocol, from.ttl, from.id, dontFragment, segment)
		from.id++
	} else {
		ip = ipv6Packet(from.address, to.address, protocol, from.ttl, segment)
	}
	return from.frame(to.mac, p.tags, etherType, ip)
}

// frame is a frame from this host.
func (h *host) frame(to mac, tags []uint16, etherType uint16, payload []byte) []byte {
	frame := ethernet(to, h.mac, tags, etherType, payload)
	for h.padded && len(frame) < 60 {
		frame = append(frame, 0)
	}
	return frame
}
