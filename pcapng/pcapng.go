// Package pcapng writes and reads capture files.
//
// A pcapng file is a chain of blocks. Each says its length twice, so that a
// reader can walk it from either end and skip what it does not know:
//
//	section     who wrote the file, on what machine, byte order
//	interface   one per source of packets: name, link type, resolution   id 0, 1, ...
//	packet      interface id, time, lengths, bytes, options
//	statistics  what an interface received and lost
//	names       addresses and what they are called
//
// Writing is appending to a byte slice: every Append function puts one whole
// block behind what the slice holds and returns it, as append does. Nothing is
// allocated while the slice has room, and the owner of the slice decides when
// and where it goes; a [Writer] is such a slice in front of an [io.Writer].
// Blocks are written in little-endian order with times in nanoseconds.
//
// Reading takes whatever capture file there is: pcapng of any byte order,
// resolution and number of sections, and the classic pcap of libpcap. A
// [Reader] borrows its packets from its own buffer; a packet is the caller's
// until the next call.
//
// The format is that of draft-ietf-opsawg-pcapng and draft-ietf-opsawg-pcap.
package pcapng

import "encoding/binary"

// LinkType is the link-layer header a packet begins with, a LINKTYPE_ value
// of https://www.tcpdump.org/linktypes.html.
type LinkType uint16

// The link types this project meets.
const (
	LinkNull     LinkType = 0   // BSD loopback
	LinkEthernet LinkType = 1   // Ethernet
	LinkRaw      LinkType = 101 // a bare IPv4 or IPv6 packet
	LinkSLL      LinkType = 113 // Linux "any" device
	LinkSLL2     LinkType = 276 // Linux "any" device, version 2
)

// MaxBlock is the largest block the Reader holds in memory, and the largest
// that Wireshark and libpcap read (16 MiB).
const MaxBlock = 16 << 20

const (
	blockInterface  = 0x00000001
	blockOldPacket  = 0x00000002
	blockSimple     = 0x00000003
	blockNames      = 0x00000004
	blockStatistics = 0x00000005
	blockPacket     = 0x00000006
	blockSection    = 0x0a0d0d0a // reads the same in both byte orders

	// blockFiller is of the range the draft sets aside for local use
	// (section 3.1, most significant bit set), so every reader skips it.
	blockFiller = 0x80756e73

	byteOrderMagic = 0x1a2b3c4d

	minBlock = 12 // type, length, length
)

var order = binary.LittleEndian

// openBlock starts a block; closeBlock sets its length at both ends.
func openBlock(buf []byte, kind uint32) []byte {
	buf = order.AppendUint32(buf, kind)
	return order.AppendUint32(buf, 0)
}

func closeBlock(buf []byte, start int) []byte {
	size := uint32(len(buf) - start + 4)
	order.PutUint32(buf[start+4:], size)
	return order.AppendUint32(buf, size)
}
