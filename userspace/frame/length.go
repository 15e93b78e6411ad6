package frame

import "encoding/binary"

// EtherTypes, IEEE 802.3 and the assigned numbers of the IEEE. Below etherFirst the
// field is a length.
const (
	etherIPv4    = 0x0800
	etherARP     = 0x0806
	etherVLAN    = 0x8100 // 802.1Q C-tag
	etherIPv6    = 0x86dd
	etherQinQ    = 0x88a8 // 802.1Q S-tag
	etherQinQOld = 0x9100 // before the standard, still sent
	etherMaxLLC  = 1500   // longest length, IEEE 802.3 3.2.6
)

const (
	addressesSize = 12 // destination and source MAC
	tagSize       = 4
	maxTags       = 4
	ip6Size       = 40
	jumboOption   = 0xc2
	// mostJumbo is beyond any frame that the Linux kernel makes of what it
	// received or is about to send (BIG TCP); more is an invention.
	mostJumbo = 1 << 20
)

func isTag(ethertype uint16) bool {
	return ethertype == etherVLAN || ethertype == etherQinQ || ethertype == etherQinQOld
}

// ownLength is how long the frame is by its own headers, in bytes from the first of
// data on, without padding. 0 says that they do not tell: an EtherType without a
// length, a header that was cut, or a packet too big for the field.
func ownLength(data []byte, raw bool) int {
	if raw {
		if len(data) > 0 && data[0]>>4 == 6 {
			return ip6Length(data, 0)
		}
		return ip4Length(data, 0)
	}
	if len(data) < ethernetSize {
		return 0
	}
	at := ethernetSize
	ethertype := binary.BigEndian.Uint16(data[at-2:])
	for range maxTags {
		if !isTag(ethertype) {
			break
		}
		if len(data) < at+tagSize {
			return 0
		}
		at += tagSize
		ethertype = binary.BigEndian.Uint16(data[at-2:])
	}
	switch {
	case ethertype <= etherMaxLLC:
		return at + int(ethertype)
	case ethertype == etherIPv4:
		return ip4Length(data, at)
	case ethertype == etherIPv6:
		return ip6Length(data, at)
	case ethertype == etherARP:
		return arpLength(data, at)
	}
	return 0
}

// ip4Length adds the total length of the IPv4 packet at at (RFC 791, 3.1). Linux writes
// 0 into packets longer than the field can say.
func ip4Length(data []byte, at int) int {
	if len(data) < at+4 || data[at]>>4 != 4 {
		return 0
	}
	total := int(binary.BigEndian.Uint16(data[at+2:]))
	if total < int(data[at]&0x0f)*4 {
		return 0
	}
	return at + total
}

// ip6Length adds header and payload of the IPv6 packet at at (RFC 8200, 3). A payload
// length of 0 refers to the jumbo payload option (RFC 2675, 2), whose alignment makes
// it the first one of its header.
func ip6Length(data []byte, at int) int {
	if len(data) < at+7 || data[at]>>4 != 6 {
		return 0
	}
	if payload := int(binary.BigEndian.Uint16(data[at+4:])); payload > 0 {
		return at + ip6Size + payload
	}
	const hopByHop = 0
	options := at + ip6Size
	if data[at+6] != hopByHop || len(data) < options+8 ||
		data[options+2] != jumboOption || data[options+3] != 4 {
		return 0
	}
	payload := binary.BigEndian.Uint32(data[options+4:])
	if payload <= 0xffff || payload > mostJumbo {
		return 0
	}
	return at + ip6Size + int(payload)
}

// arpLength adds the ARP packet at at: eight bytes and two addresses of each kind
// (RFC 826).
func arpLength(data []byte, at int) int {
	if len(data) < at+8 {
		return 0
	}
	return at + 8 + 2*(int(data[at+4])+int(data[at+5]))
}
