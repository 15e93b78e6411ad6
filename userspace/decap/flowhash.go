package decap

import "encoding/binary"

// The flow hash of bpf/inner.h. Addresses and ports are read as they lie in
// memory, little-endian, because the kernel half reads them so.
const (
	hashK1        = 0x9e3779b97f4a7c15 // 2^64 / golden ratio
	hashK2        = 0xff51afd7ed558ccd // from MurmurHash3's finalizer, public domain
	hashPortShift = 40                 // beside the 32 bits of an IPv4 address
)

const (
	protocolTCP  = 6
	protocolSCTP = 132
)

func le16(b []byte) uint64 { return uint64(binary.LittleEndian.Uint16(b)) }
func le32(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// hashEndpoint mixes one end of a flow. Odd multiplications spread upward, the
// shift brings that back down: sums of two do not collide by structure.
func hashEndpoint(address, port uint64) uint64 {
	e := (address ^ port<<hashPortShift) * hashK1
	return e ^ e>>29
}

// hashFlow is the same for both directions: a sum does not know its order.
func hashFlow(one, other, protocol uint64) uint32 {
	h := (one + other + protocol) * hashK2
	return uint32(h>>32 ^ h)
}

func foldIP6(address []byte) uint64 { return le64(address)*hashK1 ^ le64(address[8:]) }

func foldMAC(mac []byte) uint64 { return le32(mac) | le16(mac[4:])<<32 }

func hasPorts(protocol uint8) bool {
	return protocol == protocolTCP || protocol == protocolUDP || protocol == protocolSCTP
}

// ports reads the source and destination port, 0 when there are none to read.
func (c *cursor) ports(protocol uint8) (source, destination uint64) {
	if !hasPorts(protocol) {
		return 0, 0
	}
	ports := c.peek(4)
	if ports == nil {
		return 0, 0
	}
	return le16(ports), le16(ports[2:])
}

// hashIP4 hashes the flow of the IPv4 packet at the cursor. Only the first
// fragment has ports: none is asked, so all of them meet the same worker.
func (c cursor) hashIP4() uint32 {
	header := c.take(ip4Size)
	if header == nil || header[0]&0x0f < 5 {
		return 0
	}
	protocol := header[9]
	var source, destination uint64
	options := int(header[0]&0x0f)*4 - ip4Size
	if be16(header[6:])&ip4FragmentBits == 0 && c.skip(options) {
		source, destination = c.ports(protocol)
	}
	return hashFlow(hashEndpoint(le32(header[12:]), source),
		hashEndpoint(le32(header[16:]), destination), uint64(protocol))
}

// hashIP6 hashes the flow of the IPv6 packet at the cursor. Behind an extension
// header the flow is its addresses: fragments and whole packets stay together.
func (c cursor) hashIP6() uint32 {
	header := c.take(ip6Size)
	if header == nil {
		return 0
	}
	protocol := header[6]
	source, destination := c.ports(protocol)
	if !hasPorts(protocol) {
		protocol = 0
	}
	return hashFlow(hashEndpoint(foldIP6(header[8:]), source),
		hashEndpoint(foldIP6(header[24:]), destination), uint64(protocol))
}

// hashEthernet hashes the flow of an Ethernet frame: its IP flow, or its
// addresses and EtherType. addresses are its two MACs, the cursor stands behind
// its EtherType.
func (c cursor) hashEthernet(addresses []byte, ethertype uint16) uint32 {
	for i := 0; i < maxVLANs && isVLAN(ethertype); i++ {
		tag := c.take(vlanSize)
		if tag == nil {
			break
		}
		ethertype = be16(tag[2:])
	}
	switch ethertype {
	case etherIPv4:
		return c.hashIP4()
	case etherIPv6:
		return c.hashIP6()
	}
	return hashFlow(hashEndpoint(foldMAC(addresses[6:]), 0), hashEndpoint(foldMAC(addresses), 0), uint64(ethertype))
}
