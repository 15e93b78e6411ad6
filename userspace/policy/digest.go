package policy

import (
	"crypto/rand"
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

// DigestKey makes digests unpredictable: who does not know it cannot send frames
// that pass for another's.
type DigestKey [digestPasses][digestWords]uint64

// NewDigestKey draws a key.
func NewDigestKey() *DigestKey {
	var raw [digestPasses * digestWords * 8]byte
	rand.Read(raw[:]) // never fails: crypto/rand
	k := new(DigestKey)
	for i := range digestPasses * digestWords {
		k[i/digestWords][i%digestWords] = binary.NativeEndian.Uint64(raw[i*8:])
	}
	return k
}

// hash is NH, the universal hash under UMAC (RFC 4418, 5.2), twice with keys of
// their own: two different packets agree in both with a chance of 2^-64.
func (k *DigestKey) hash(words *[digestWords]uint64) uint64 {
	var one, two uint64
	for i, w := range words {
		low, high := uint32(w), uint32(w>>32)
		one += uint64(low+uint32(k[0][i])) * uint64(high+uint32(k[0][i]>>32))
		two += uint64(low+uint32(k[1][i])) * uint64(high+uint32(k[1][i]>>32))
	}
	one ^= bits.RotateLeft64(two, 32)
	one *= 0x9e3779b97f4a7c15
	return one ^ one>>32
}

// likeness is what is compared of a packet, each thing in its place, zero where it
// may differ: struct likeness in bpf/duplicate.h.
type likeness struct {
	ethertype           uint16
	bytes               int // of the text that belong to the packet
	tags                uint64
	destination, source uint64
	text                [digestBytes]byte
}

func (l *likeness) words() *[digestWords]uint64 {
	words := &[digestWords]uint64{uint64(l.bytes)<<16 | uint64(l.ethertype), l.tags, l.destination, l.source}
	for i := range digestBytes / 8 {
		words[4+i] = binary.LittleEndian.Uint64(l.text[i*8:])
	}
	return words
}

// Digest is a fingerprint of what does not change on a packet's way from one
// mirror to another: its lengths and its first 128 bytes from the IP header on, the
// headers with all their options and what follows them. What lies further back is
// in the length, and in the TCP or UDP checksum when that is compared. Two frames of
// one packet have the same digest.
//
// numbered says that the packet carries a number of its own, an IPv4 identification
// other than 0: its sender would give a retransmission another one (RFC 6864 4.2
// for packets that may be fragmented, and the custom of Linux, Windows and BSD for
// the rest). Without one, a retransmission may be the same to the last bit.
func Digest(frame []byte, rawIP bool, ignore Ignored, key *DigestKey) (digest uint64, numbered bool) {
	var l likeness
	packet := frame
	if rawIP {
		l.ethertype = ipType(packet)
	} else {
		packet = l.ethernet(frame, ignore)
	}
	l.bytes = copy(l.text[:], packet)
	switch {
	case l.ethertype == etherIP4 && l.bytes >= headerIP4 && l.text[0]>>4 == 4:
		l.bytes = min(l.bytes, ipLength(int(binary.BigEndian.Uint16(l.text[2:])), 0))
		numbered = binary.BigEndian.Uint16(l.text[4:]) != 0
		maskIP4(&l.text, ignore)
	case l.ethertype == etherIP6 && l.bytes >= headerIP6 && l.text[0]>>4 == 6:
		l.bytes = min(l.bytes, ipLength(int(binary.BigEndian.Uint16(l.text[4:])), headerIP6))
		maskIP6(&l.text, ignore)
	}
	clear(l.text[l.bytes:]) // padding of short frames
	return key.hash(l.words()), numbered
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

// ethernet takes in what is compared of addresses and tags, and gives what follows them.
func (l *likeness) ethernet(frame []byte, ignore Ignored) (packet []byte) {
	const addresses, tag = 12, 4
	if len(frame) < addresses+2 {
		return frame
	}
	l.ethertype = binary.BigEndian.Uint16(frame[addresses:])
	packet = frame[addresses+2:]
	for i := 0; i < 2 && isTag(l.ethertype) && len(packet) >= tag; i++ {
		if ignore&IgnoreVLAN == 0 {
			l.tags = l.tags<<32 | uint64(l.ethertype)<<16 | uint64(binary.BigEndian.Uint16(packet))
		}
		l.ethertype = binary.BigEndian.Uint16(packet[2:])
		packet = packet[tag:]
	}
	routed := l.ethertype == etherIP4 || l.ethertype == etherIP6
	if ignore&IgnoreMAC == 0 || !routed {
		l.destination = uint64(binary.LittleEndian.Uint32(frame)) | uint64(binary.LittleEndian.Uint16(frame[4:]))<<32
		l.source = uint64(binary.LittleEndian.Uint32(frame[6:])) | uint64(binary.LittleEndian.Uint16(frame[10:]))<<32
	}
	return packet
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
