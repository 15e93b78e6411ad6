package policy

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
)

const (
	etherIP4  = 0x0800
	etherIP6  = 0x86dd
	headerIP4 = 20
	headerIP6 = 40
)

// Digest is a fingerprint of what does not change on a packet's way from one
// mirror to another: its lengths and its first 128 bytes from the IP header on, the
// headers with all their options and what follows them. What lies further back is
// in the length, and in the TCP or UDP checksum when that is compared. Two frames of one packet have the same; two packets have
// different ones but for one chance in 2^64, which a sender cannot raise without
// knowing key.
//
// numbered says that the packet carries a number of its own, an IPv4 identification
// other than 0: its sender would give a retransmission another one (RFC 6864 4.2
// for packets that may be fragmented, and the custom of Linux, Windows and BSD for
// the rest). Without one, a retransmission may be the same to the last bit.
func Digest(frame []byte, rawIP bool, ignore Ignored, key [2]uint64) (digest uint64, numbered bool) {
	h := newSipHash(key)
	packet, ethertype := frame, uint16(0)
	if rawIP {
		ethertype = ipType(packet)
	} else {
		packet, ethertype = digestEthernet(&h, frame, ignore)
	}
	h.word(uint64(ethertype))

	var text [digestBytes]byte
	n := copy(text[:], packet)
	switch {
	case ethertype == etherIP4 && n >= headerIP4 && text[0]>>4 == 4:
		n = min(n, ipLength(int(binary.BigEndian.Uint16(text[2:])), 0))
		numbered = binary.BigEndian.Uint16(text[4:]) != 0
		maskIP4(&text, ignore)
	case ethertype == etherIP6 && n >= headerIP6 && text[0]>>4 == 6:
		n = min(n, ipLength(int(binary.BigEndian.Uint16(text[4:])), headerIP6))
		maskIP6(&text, ignore)
	}
	clear(text[n:]) // padding of short frames
	h.word(uint64(n))
	for at := 0; at < digestBytes; at += 8 {
		h.word(binary.LittleEndian.Uint64(text[at:]))
	}
	return h.sum(), numbered
}

// ipLength is what an IP header says of its packet's length; 0 says nothing (RFC
// 2675, and packets a sender has not cut into segments yet).
func ipLength(length, header int) int {
	if length == 0 {
		return digestBytes
	}
	return length + header
}

func ipType(packet []byte) uint16 {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		return etherIP6
	}
	return etherIP4
}

// digestEthernet takes in what is compared of addresses and tags, and gives what follows them.
func digestEthernet(h *sipHash, frame []byte, ignore Ignored) (packet []byte, ethertype uint16) {
	const addresses, tag = 12, 4
	if len(frame) < addresses+2 {
		return frame, 0
	}
	ethertype = binary.BigEndian.Uint16(frame[addresses:])
	packet = frame[addresses+2:]
	for i := 0; i < 2 && isTag(ethertype) && len(packet) >= tag; i++ {
		if ignore&IgnoreVLAN == 0 {
			h.word(uint64(ethertype)<<16 | uint64(binary.BigEndian.Uint16(packet)))
		}
		ethertype = binary.BigEndian.Uint16(packet[2:])
		packet = packet[tag:]
	}
	routed := ethertype == etherIP4 || ethertype == etherIP6
	if ignore&IgnoreMAC == 0 || !routed {
		h.word(uint64(binary.LittleEndian.Uint32(frame)) | uint64(binary.LittleEndian.Uint16(frame[4:]))<<32)
		h.word(uint64(binary.LittleEndian.Uint32(frame[6:])) | uint64(binary.LittleEndian.Uint16(frame[10:]))<<32)
	}
	return packet, ethertype
}

func isTag(ethertype uint16) bool {
	return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100
}

func maskIP4(text *[digestBytes]byte, ignore Ignored) {
	if ignore&IgnoreTOS != 0 {
		text[1] = 0
	}
	if ignore&IgnoreTTL != 0 {
		text[8] = 0
	}
	if ignore&(IgnoreTTL|IgnoreTOS|IgnoreChecksums) != 0 { // it follows what it covers
		text[10], text[11] = 0, 0
	}
	const offset = 0x1fff
	if binary.BigEndian.Uint16(text[6:])&offset == 0 {
		maskTransport(text, int(text[0]&0xf)*4, text[9], ignore)
	}
}

func maskIP6(text *[digestBytes]byte, ignore Ignored) {
	if ignore&IgnoreTOS != 0 {
		text[0] &= 0xf0
		text[1] &= 0x0f
	}
	if ignore&IgnoreTTL != 0 {
		text[7] = 0
	}
	maskTransport(text, headerIP6, text[6], ignore)
}

// maskTransport takes out the checksum that a NIC may compute behind the mirror's back.
func maskTransport(text *[digestBytes]byte, at int, protocol byte, ignore Ignored) {
	if ignore&IgnoreChecksums == 0 {
		return
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		clear(text[at+16 : at+18])
	case unix.IPPROTO_UDP:
		clear(text[at+6 : at+8])
	case unix.IPPROTO_ICMPV6:
		clear(text[at+2 : at+4])
	case unix.IPPROTO_SCTP:
		clear(text[at+8 : at+12])
	}
}

// sipHash is SipHash-1-3 over whole words (Aumasson and Bernstein 2012): a short
// hash with a key, made for tables whose input comes from strangers.
type sipHash struct{ v0, v1, v2, v3, words uint64 }

func newSipHash(key [2]uint64) sipHash {
	return sipHash{
		v0: key[0] ^ 0x736f6d6570736575,
		v1: key[1] ^ 0x646f72616e646f6d,
		v2: key[0] ^ 0x6c7967656e657261,
		v3: key[1] ^ 0x7465646279746573,
	}
}

func (h *sipHash) round() {
	h.v0 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 13) ^ h.v0
	h.v0 = bits.RotateLeft64(h.v0, 32)
	h.v2 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 16) ^ h.v2
	h.v0 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 21) ^ h.v0
	h.v2 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 17) ^ h.v2
	h.v2 = bits.RotateLeft64(h.v2, 32)
}

func (h *sipHash) word(w uint64) {
	h.v3 ^= w
	h.round()
	h.v0 ^= w
	h.words++
}

// sum ends the hash. The last word holds the length in its highest byte.
func (h *sipHash) sum() uint64 {
	h.word(h.words * 8 << 56)
	h.v2 ^= 0xff
	h.round()
	h.round()
	h.round()
	return h.v0 ^ h.v1 ^ h.v2 ^ h.v3
}
