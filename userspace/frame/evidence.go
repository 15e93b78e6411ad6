package frame

import "github.com/unspan/unspan/bpf"

// What proves that a sender takes tags out, for ERSPAN III, which has no En field.
//
// Not that the header names a VLAN: it does for untagged frames of an access port, too,
// and for those of several VLANs where a session has several ports. Not a COS: switches
// give one to what they send themselves. A tag put into a frame that never had one
// would be a forgery, so only physics counts.
//
// Ethernet pads short frames to 60 bytes (64 with the check sequence, IEEE 802.3
// 3.2.8), before a tag is taken out of them. So a frame that ends in padding and is 56
// bytes long had four more: nobody pads to 56. One that is padded to 60 had no tag.
// ARP and bare TCP acknowledgements are such frames; every network is full of them.
//
// A VLAN may be tagged on one port of a session and not on another, so proof counts for
// a VLAN, takes proofFrames of it, and a single frame that speaks against it ends it
// for good.
const (
	proofFrames = 16
	maxEvidence = 8  // VLANs of a feed that are looked at: the first ones seen
	minFrame    = 60 // without check sequence
	maxPadded   = 64 // padded to more: another's padding or trailer, says nothing
)

// evidence is what speaks for and against one VLAN's tags being taken out.
type evidence struct {
	vlan    uint16
	taken   uint8 // frames padded to 56 bytes, up to proofFrames
	against bool  // a frame was padded to another length
}

// provenTaken reports whether the VLAN's tags are proven to be taken out. The frame is
// of size bytes, and of own by its own headers.
func (f *Feed) provenTaken(record *bpf.Record, vlan uint16, size, own int) bool {
	e := f.about(vlan)
	if e == nil {
		return false
	}
	padded := own > 0 && own < size && size <= maxPadded
	const cut = bpf.RecordTruncated | bpf.RecordClipped | bpf.RecordCut
	// While nothing is known of check sequences, four bytes may be one.
	if padded && record.Flags&cut == 0 && f.state != unsure {
		if size == minFrame-tagSize {
			e.taken = min(e.taken+1, proofFrames)
		} else {
			e.against = true
		}
	}
	return e.taken == proofFrames && !e.against
}

// about returns what is known of a VLAN, nil when there are too many.
func (f *Feed) about(vlan uint16) *evidence {
	for i := range f.evidence {
		e := &f.evidence[i]
		if e.vlan == vlan {
			return e
		}
		if e.vlan == 0 {
			e.vlan = vlan
			return e
		}
	}
	return nil
}
