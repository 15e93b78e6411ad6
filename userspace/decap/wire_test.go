package decap_test

import (
	"encoding/binary"
	"slices"
)

// The packets of the tests: built by hand, header by header, so that what they
// hold is what the row says.

const (
	exporter  = "192.0.2.7"
	collector = "198.51.100.9"
	exporter6 = "2001:db8::7"
	collectr6 = "2001:db8::9"
)

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// with is frame with bytes written over it at offset.
func with(frame []byte, offset int, bytes ...byte) []byte {
	changed := slices.Clone(frame)
	copy(changed[offset:], bytes)
	return changed
}

// cut is frame without its last n bytes.
func cut(frame []byte, n int) []byte { return frame[: len(frame)-n : len(frame)-n] }

func eth(ethertype uint16, payload ...[]byte) []byte {
	return join([]byte{0, 0, 0x5e, 0, 0x53, 1}, []byte{0, 0, 0x5e, 0, 0x53, 2}, u16(ethertype), join(payload...))
}

// vlan is what stands between the addresses' EtherType and what follows.
func vlan(tci, ethertype uint16) []byte { return join(u16(tci), u16(ethertype)) }

func ip4(protocol byte, payload ...[]byte) []byte {
	body := join(payload...)
	return join([]byte{0x45, 0}, u16(uint16(20+len(body))), []byte{0x12, 0x34, 0, 0, 64, protocol, 0, 0},
		[]byte{192, 0, 2, 7}, []byte{198, 51, 100, 9}, body)
}

func ip6(next byte, payload ...[]byte) []byte {
	body := join(payload...)
	return join([]byte{0x60, 0, 0, 0}, u16(uint16(len(body))), []byte{next, 64},
		[]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7},
		[]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, body)
}

func udp(port uint16, payload ...[]byte) []byte {
	body := join(payload...)
	return join(u16(49152), u16(port), u16(uint16(8+len(body))), u16(0), body)
}

func gre(flags, protocol uint16, words ...uint32) []byte {
	b := join(u16(flags), u16(protocol))
	for _, w := range words {
		b = append(b, u32(w)...)
	}
	return b
}

// erspan2 is a type II header: version 1, VLAN 100, COS 5, session 1000.
func erspan2(en, t uint16) []byte {
	return join(u16(0x1000|100), u16(5<<13|en<<11|t<<10|1000), u32(7))
}

// erspan3 is a type III header: version 2, VLAN 100, COS 5, session 1000; flags
// is P 1, FT 5, HwID 6, D 1, Gra 2, O 1.
func erspan3(bso, flags uint16) []byte {
	return join(u16(0x2000|100), u16(5<<13|bso<<11|1000), u32(0xfeedbeef), u16(0), u16(flags))
}

// platform is the subheader of a type III header.
func platform(id byte, more uint32) []byte { return join([]byte{id << 2, 0, 0, 0}, u32(more)) }

func vxlan(flags byte, vni uint32) []byte { return join([]byte{flags, 0, 0, 0}, u32(vni<<8)) }

func geneve(protocol uint16, vni uint32, options ...byte) []byte {
	return join([]byte{byte(len(options) / 4), 0}, u16(protocol), u32(vni<<8), options)
}

// inside is the mirrored frame: UDP over IPv4, 60 bytes, with an address of its own.
var inside = join([]byte{0, 0, 0x5e, 0, 0x53, 0x11}, []byte{0, 0, 0x5e, 0, 0x53, 0x12}, u16(0x0800), insideIP)

var insideIP = join([]byte{0x45, 0}, u16(46), []byte{0, 1, 0, 0, 64, 17, 0, 0},
	[]byte{203, 0, 113, 5}, []byte{203, 0, 113, 6}, u16(5353), u16(53), u16(26), u16(0), make([]byte, 18))

var insideIP6 = join([]byte{0x60, 0, 0, 0}, u16(12), []byte{6, 64},
	[]byte{0x20, 1, 0xd, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5},
	[]byte{0x20, 1, 0xd, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6}, u16(443), u16(50000), make([]byte, 8))
