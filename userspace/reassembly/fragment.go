package reassembly

import "encoding/binary"

// A key is the identity of a datagram.
//
// IPv4 names it by addresses, id and protocol (RFC 791, 3.2), IPv6 without the
// protocol: fragments may name different next headers, and only the first one's
// counts (RFC 8200 4.5).
//
// VLANs are part of it. The same addresses and id on two VLANs are two customers who
// use the same addresses, or a tap that sees a packet on both sides of a router;
// together they would make a datagram that nobody sent, and no checksum would tell.
// The price is that fragments which come over two VLANs never meet: a loss that is
// counted. The priority and a tag with VLAN 0, which is only a priority, do not
// matter.
type key struct {
	source, destination [16]byte // IPv4: the first four bytes
	id                  uint32
	vlans               uint32 // outer << 16 | inner
	version             uint8  // of IP
	protocol            uint8  // IPv4
	depth               uint8
	raw                 bool // without Ethernet header: cannot be mixed with those that have one
}

// pair is the part of the key that names sender, receiver and protocol: IPv4 ids are
// unique within it (RFC 6864, 3).
func (k *key) pair() [9]byte {
	var p [9]byte
	copy(p[:4], k.source[:])
	copy(p[4:8], k.destination[:])
	p[8] = k.protocol
	return p
}

// A piece is a fragment taken apart.
type piece struct {
	key     key
	payload []byte
	offset  int // of payload in the datagram
	more    bool

	head       []byte // the headers in front, without the IPv6 fragment header
	network    int    // offset of the IP header in head
	extensions int    // IPv6: bytes of headers between the IPv6 and the fragment header
	next       int    // IPv6: offset in head of the field that names the fragment header
	proto      uint8  // IPv6: the header behind the fragment header
}

func (p *piece) end() int { return p.offset + len(p.payload) }

const (
	ethernetSize = 14
	vlanSize     = 4
	maxVLANs     = 2
	ip4Size      = 20
	ip6Size      = 40
	fragmentSize = 8 // IPv6 fragment header
)

// EtherTypes, and IPv6 next headers that may stand before a fragment header
// (RFC 8200 4.5, the per-fragment headers).
const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8
	etherQinQOld = 0x9100

	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60
)

// parse takes a fragment apart. It returns false and the reason when the fragment
// cannot be used.
func parse(f *Fragment) (piece, Reason, bool) {
	p := piece{key: key{depth: f.Depth, raw: f.RawIP}}
	version := uint8(0)
	if f.RawIP {
		if len(f.Data) > 0 {
			version = f.Data[0] >> 4
		}
	} else {
		version = p.ethernet(f.Data)
	}
	switch version {
	case 4:
		return p.ip4(f.Data)
	case 6:
		return p.ip6(f.Data)
	}
	return p, Malformed, false
}

// ethernet finds the IP header behind the Ethernet header and its VLAN tags. It
// returns the IP version, 0 if there is none.
func (p *piece) ethernet(frame []byte) uint8 {
	if len(frame) < ethernetSize {
		return 0
	}
	at := ethernetSize
	ethertype := binary.BigEndian.Uint16(frame[at-2:])
	for range maxVLANs {
		if ethertype != etherVLAN && ethertype != etherQinQ && ethertype != etherQinQOld {
			break
		}
		if len(frame) < at+vlanSize {
			return 0
		}
		if vlan := binary.BigEndian.Uint16(frame[at:]) & 0x0fff; vlan != 0 {
			p.key.vlans = p.key.vlans<<16 | uint32(vlan)
		}
		at += vlanSize
		ethertype = binary.BigEndian.Uint16(frame[at-2:])
	}
	p.network = at
	switch ethertype {
	case etherIPv4:
		return 4
	case etherIPv6:
		return 6
	}
	return 0
}

// ip4 reads an IPv4 fragment: RFC 791, 3.1.
func (p *piece) ip4(data []byte) (piece, Reason, bool) {
	ip := data[p.network:]
	if len(ip) < ip4Size || ip[0]>>4 != 4 {
		return *p, Malformed, false
	}
	header := int(ip[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(ip[ip4TotalLength:]))
	// What the Ethernet carries behind total is padding. A fragment that was cut
	// on its way would leave a hole.
	if header < ip4Size || total <= header || total > len(ip) {
		return *p, Malformed, false
	}
	fragment := binary.BigEndian.Uint16(ip[ip4Fragment:])
	p.offset = int(fragment&0x1fff) * unit
	p.more = fragment&0x2000 != 0
	if p.offset == 0 && !p.more {
		return *p, Malformed, false // not a fragment
	}
	p.head = data[:p.network+header]
	p.payload = ip[header:total]
	p.key.version = 4
	p.key.protocol = ip[9]
	p.key.id = uint32(binary.BigEndian.Uint16(ip[4:]))
	copy(p.key.source[:], ip[12:16])
	copy(p.key.destination[:], ip[16:20])
	return p.bounded()
}

// ip6 reads an IPv6 fragment: RFC 8200 4.5. The headers in front of the fragment
// header stay, the fragment header goes.
func (p *piece) ip6(data []byte) (piece, Reason, bool) {
	ip := data[p.network:]
	if len(ip) < ip6Size || ip[0]>>4 != 6 {
		return *p, Malformed, false
	}
	length := ip6Size + int(binary.BigEndian.Uint16(ip[ip6PayloadLength:]))
	if length > len(ip) {
		return *p, Malformed, false
	}
	ip = ip[:length]

	field, at := 6, ip6Size // of the next header number, and where that header is
	for ip[field] != nextFragment {
		switch ip[field] {
		case nextHopByHop, nextRouting, nextDestination:
		default:
			return *p, Malformed, false // not a fragment
		}
		if len(ip) < at+2 {
			return *p, Malformed, false
		}
		field, at = at, at+8+8*int(ip[at+1])
		if p.network+at > headroom || len(ip) < at {
			return *p, Malformed, false
		}
	}
	if len(ip) <= at+fragmentSize {
		return *p, Malformed, false
	}
	fragment := binary.BigEndian.Uint16(ip[at+2:])
	p.offset = int(fragment>>3) * unit
	p.more = fragment&1 != 0
	p.head = data[:p.network+at]
	p.extensions = at - ip6Size
	p.next = p.network + field
	p.proto = ip[at]
	p.payload = ip[at+fragmentSize:]
	p.key.version = 6
	p.key.id = binary.BigEndian.Uint32(ip[at+4:])
	copy(p.key.source[:], ip[8:24])
	copy(p.key.destination[:], ip[24:40])
	return p.bounded()
}

// bounded refuses fragments that no datagram can have: one that is not the last and
// not a multiple of eight bytes long, and one that ends beyond the longest payload.
func (p *piece) bounded() (piece, Reason, bool) {
	if p.more && len(p.payload)%unit != 0 {
		return *p, Misaligned, false
	}
	if p.extensions+p.end() > MaxPayload {
		return *p, TooBig, false
	}
	return *p, 0, true
}
