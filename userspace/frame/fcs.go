package frame

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/unspan/unspan/bpf"
)

const (
	ethernetSize = 14
	fcsSize      = 4
)

// sample is how many whole frames of a feed must all end in their check sequence. One
// frame does by chance once in 4,294,967,296; the others are for frames that somebody
// made to look so. A single one that does not decides at once, so a feed without pays
// for one CRC, and nothing is paid after the decision.
const sample = 8

// What is known of a feed's frames.
const (
	unsure = iota
	present
	absent
)

// A trailer finds out whether a feed's frames end in a frame check sequence (IEEE 802.3,
// 3.2.9): the CRC-32 of the frame, as the Nexus 3548 leaves it on.
//
// No frame is held back meanwhile. One that ends in its own CRC proves for itself that
// it has one, and what is taken off then is no loss: it can be computed again.
type trailer struct {
	state   uint8
	matches uint8 // whole frames that ended in their check sequence
}

// Where the bytes at the end of a frame come from.
type ending uint8

const (
	none       ending = iota // part of the frame, or cut on the way
	original                 // the check sequence of the frame on the wire
	recomputed               // that of the shorter frame that the sender cut out of it
)

// find returns data without the check sequence at its end, and whose that was. The
// frame's own length tells frames that were cut and do not say so.
func (t *trailer) find(record *bpf.Record, data []byte, own int) (body []byte, kind ending) {
	missing := max(0, int(record.WireLength)-len(data)) // cut on this side of the mirror
	const cutBySender = bpf.RecordTruncated | bpf.RecordClipped
	if t.state == unsure {
		const noEvidence = cutBySender | bpf.RecordCut | bpf.RecordBad
		if record.Flags&noEvidence != 0 || missing > 0 || own > len(data) {
			return data, none
		}
		if len(data)-fcsSize < max(own, ethernetSize) || !endsInFCS(data) {
			t.state = absent
			return data, none
		}
		if t.matches++; t.matches == sample {
			t.state = present
		}
		return data[:len(data)-fcsSize], original
	}

	end := len(data) + missing - fcsSize // of the frame that the mirror delivered
	switch {
	case end < ethernetSize:
		return data, none
	case missing > 0 && (own > end || record.Flags&bpf.RecordTruncated != 0):
		return data, none
	case missing > 0:
		return data[:min(end, len(data))], original
	case own <= end && record.Flags&cutBySender == 0:
		return data[:end], original
	case endsInFCS(data):
		return data[:end], recomputed
	}
	return data, none
}

// endsInFCS reports whether the last four bytes are the CRC of the others. It is sent
// with the coefficient of x^31 first, bytes are sent with their lowest bit first: that
// makes it little-endian.
func endsInFCS(data []byte) bool {
	n := len(data) - fcsSize
	return crc32.ChecksumIEEE(data[:n]) == binary.LittleEndian.Uint32(data[n:])
}
