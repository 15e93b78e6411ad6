package flow

import "math/bits"

// key is what makes two packets one flow: six words, the same for both
// directions because the endpoints stand in order. An endpoint's address is two
// words, IPv4 as ::ffff:a.b.c.d; a MAC address of a flow that is not IP is the
// second word alone.
//
//	0,1  address of the lower endpoint
//	2,3  address of the higher endpoint
//	4    lower's port 16 | higher's port 16 | protocol 8 | message 8 | EtherType 16
//	5    scope 32 | outer VLAN 16 | inner VLAN 16
//
// The scope is the feed, or the capture domain with its top bit set. A key of a
// live flow never has word 4 zero.
type key [6]uint64

// notIP stands in the protocol of a flow that is not IP; IANA reserves 255.
const notIP = 255

// domainScope tells a capture domain from a feed in the scope of a key.
const domainScope = 1 << 31

func (k *key) equal(o *key) bool {
	return (k[0]^o[0])|(k[1]^o[1])|(k[2]^o[2])|(k[3]^o[3])|(k[4]^o[4])|(k[5]^o[5]) == 0
}

func (k *key) setTransport(source, destination uint16, protocol, message uint8, etherType uint16) {
	k[4] = uint64(source)<<48 | uint64(destination)<<32 | uint64(protocol)<<24 | uint64(message)<<16 | uint64(etherType)
}

func (k *key) protocol() uint8   { return uint8(k[4] >> 24) }
func (k *key) message() uint8    { return uint8(k[4] >> 16) }
func (k *key) etherType() uint16 { return uint16(k[4]) }
func (k *key) scope() uint32     { return uint32(k[5] >> 32) }

func (k *key) port(side uint8) uint16 { return uint16(k[4] >> (48 - 16*side)) }

// order turns a key built as source and destination into its one form and
// returns the side that sent: 0 the lower endpoint, 1 the higher.
func (k *key) order() uint8 {
	if k[1] < k[3] && k[0] == k[2] {
		return 0 // IPv4 or a common prefix, already in order
	}
	swap := k[0] > k[2] || k[0] == k[2] && (k[1] > k[3] || k[1] == k[3] && k.port(0) > k.port(1))
	if !swap {
		return 0
	}
	k[0], k[2] = k[2], k[0]
	k[1], k[3] = k[3], k[1]
	ports := uint32(k[4] >> 32)
	k[4] = k[4]&0xffffffff | uint64(bits.RotateLeft32(ports, 16))<<32
	return 1
}

// seed makes the hash unpredictable: whoever sends the mirrored packets chooses
// the keys and must not choose the buckets, nor find two keys that look alike.
type seed [8]uint64

// hash is the identity of a key: 64 bits that stand in the flow's hot line for
// all 384 of the key, and 64 more for its place in the index, of which a bucket
// and its tags tell some 30 apart. Two live flows taken for one need more than
// 90 equal bits; the full key is kept to be shown, not to be compared, which
// saves a cache miss per packet.
//
// Words are mixed in pairs by the full product of two 64-bit numbers. The
// record's flow hash is not used: it has no secret, and it hashes a fragment by
// addresses alone, so that a fragment would not find its flow.
func (s *seed) hash(k *key) (id, place uint64) {
	a, b := bits.Mul64(k[0]^s[0], k[1]^s[1])
	c, d := bits.Mul64(k[2]^s[2], k[3]^s[3])
	e, f := bits.Mul64(k[4]^s[4], k[5]^s[5])
	x, y := a^c^f, b^d^e
	g, h := bits.Mul64(x^s[1], y^s[2])
	i, j := bits.Mul64(x^s[6], y^s[7])
	return g ^ h | 1, i ^ j
}
