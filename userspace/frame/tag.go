package frame

import (
	"encoding/binary"

	"github.com/unspan/unspan/bpf"
)

// vlanMask is the VLAN in the tag control information; the priority is above it.
const vlanMask = 0x0fff

// Push puts a tag back into the frame that begins at start in buf, and returns where
// it begins then: the addresses move four bytes to the front, nothing else moves. The
// four bytes before the frame are overwritten. Behind an AF_XDP socket they are the end
// of the record (encap and what follows): what is needed of it has to be taken before.
//
// buf must have tagSize bytes before start and the addresses behind it. tci is host
// byte order: COS << 13 | VLAN, as in the record.
func Push(buf []byte, start int, tci uint16) int {
	front := start - tagSize
	copy(buf[front:], buf[start:start+addressesSize])
	binary.BigEndian.PutUint32(buf[front+addressesSize:], etherVLAN<<16|uint32(tci))
	return front
}

// Splice is Push where nothing may be overwritten: the frame with its tag is head and,
// behind it, rest.
func Splice(frame []byte, tci uint16) (head [addressesSize + tagSize]byte, rest []byte) {
	copy(head[:], frame[:addressesSize])
	binary.BigEndian.PutUint32(head[addressesSize:], etherVLAN<<16|uint32(tci))
	return head, frame[addressesSize:]
}

// tags is what is known of a feed's VLAN tags.
type tags struct {
	// kept says that the sender leaves tags in: frames with the very tag that
	// its header says was taken out, or of a type III feed with any tag. Nexus
	// switches send En 10 with the tag in the frame.
	kept     bool
	evidence [maxEvidence]evidence
}

// restores reports whether the tag in the record belongs into the frame: of own bytes
// by its own headers, 0 if they do not tell.
func (f *Feed) restores(record *bpf.Record, data []byte, own int) bool {
	if f.config.RestoreVLAN == RestoreNever || record.Flags&bpf.RecordVLAN == 0 || len(data) < ethernetSize {
		return false
	}
	tagged := isTag(binary.BigEndian.Uint16(data[addressesSize:]))
	vlan := record.Tci & vlanMask
	if f.config.RestoreVLAN == RestoreAlways {
		return !tagged && vlan != 0
	}
	if record.Flags&bpf.RecordTagRemoved != 0 {
		if tagged {
			f.kept = f.kept || sameVLAN(data, vlan)
			return false
		}
		// VLAN 0 with a priority is a tag, too. All zero is none.
		return !f.kept && record.Tci != 0
	}
	if bpf.Encap(record.Encap) != bpf.EncapERSPAN3 || vlan == 0 {
		return false
	}
	if tagged {
		f.kept = true
		return false
	}
	return !f.kept && f.provenTaken(record, vlan, len(data), own)
}

// sameVLAN reports whether the tag of a tagged frame is of this VLAN.
func sameVLAN(data []byte, vlan uint16) bool {
	return len(data) >= ethernetSize+2 && binary.BigEndian.Uint16(data[ethernetSize:])&vlanMask == vlan
}
