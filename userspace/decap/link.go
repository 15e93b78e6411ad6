package decap

import (
	"encoding/binary"

	"github.com/unspan/unspan/bpf"
)

// LinkType says with which header the packets of a capture file begin. The
// numbers are those of the files: https://www.tcpdump.org/linktypes.html.
type LinkType uint16

// Link types that can carry a mirror feed.
const (
	Null      LinkType = 0   // BSD loopback: address family in the capturer's byte order
	Ethernet  LinkType = 1   // IEEE 802.3
	RawBSD    LinkType = 12  // an IP packet, as some old files say it
	RawOld    LinkType = 14  // the same on OpenBSD
	Raw       LinkType = 101 // an IPv4 or IPv6 packet
	Loop      LinkType = 108 // OpenBSD loopback: address family, big-endian
	LinuxSLL  LinkType = 113 // Linux "any" device, cooked capture
	IPv4      LinkType = 228
	IPv6      LinkType = 229
	LinuxSLL2 LinkType = 276
)

// Known reports whether packets of this link type can be decapsulated.
func (l LinkType) Known() bool {
	switch l {
	case Null, Ethernet, RawBSD, RawOld, Raw, Loop, LinuxSLL, IPv4, IPv6, LinuxSLL2:
		return true
	}
	return false
}

const (
	familySize = 4
	sllSize    = 16
	sll2Size   = 20
)

// linkLayer takes the header in front of IP and finds the EtherType.
func (e *Engine) linkLayer(p *packet) bpf.Verdict {
	switch p.link {
	case Ethernet:
		return e.ethernet(p)
	case LinuxSLL:
		header := p.take(sllSize)
		if header == nil {
			return bpf.PassNotIP
		}
		p.ethertype = be16(header[14:])
		return e.vlans(p)
	case LinuxSLL2:
		header := p.take(sll2Size)
		if header == nil {
			return bpf.PassNotIP
		}
		p.ethertype = be16(header)
		return e.vlans(p)
	case Null, Loop:
		header := p.take(familySize)
		if header == nil {
			return bpf.PassNotIP
		}
		p.ethertype = familyEthertype(header)
	case IPv4:
		p.ethertype = etherIPv4
	case IPv6:
		p.ethertype = etherIPv6
	case Raw, RawBSD, RawOld:
		if first := p.peek(1); first != nil {
			p.ethertype = versionEthertype(first[0] >> 4)
		}
	}
	return bpf.VerdictNone
}

// familyEthertype reads an address family in either byte order: a file does not
// say which its capturer had. AF_INET is 2 everywhere, AF_INET6 is 10 on Linux,
// 24 on NetBSD and OpenBSD, 28 on FreeBSD and 30 on macOS.
func familyEthertype(header []byte) uint16 {
	family := binary.LittleEndian.Uint32(header)
	if family > 0xffff {
		family = binary.BigEndian.Uint32(header)
	}
	switch family {
	case 2:
		return etherIPv4
	case 10, 24, 28, 30:
		return etherIPv6
	}
	return 0
}

func versionEthertype(version byte) uint16 {
	switch version {
	case 4:
		return etherIPv4
	case 6:
		return etherIPv6
	}
	return 0
}
