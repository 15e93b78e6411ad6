// Package frame undoes what the sender of a mirror feed did to the frames it copied:
// took out the VLAN tag, left the frame check sequence on, cut the end off.
//
//	on the wire   [ dst src | 8100 tci | type  payload ...................... ] FCS
//	sent          [ dst src | type  payload ............ | FCS ]     tci in the header
//	written       [ dst src | 8100 tci | type  payload ............ ]  length on the wire
//
// Senders do not say what they did, or say it wrongly, so each is decided from the
// frames themselves, feed by feed, and only where that cannot spoil a frame:
//
//   - The tag goes back where the sender says that it took it out (ERSPAN II, En 10),
//     as long as its frames do not prove otherwise, and for ERSPAN III, which cannot
//     say, where padding proves it (see evidence). Never into a frame that has a tag.
//   - The check sequence is looked for in the first frames of a feed, by computing it.
//   - The length on the wire is what the frame's own headers say, where that is more
//     than there is.
//
// A Feed belongs to one worker's goroutine.
package frame

import (
	"fmt"

	"github.com/unspan/unspan/bpf"
)

// Restore says when the 802.1Q tag is put back: --restore-vlan.
type Restore uint8

// The ways of Restore. In none of them a frame that has a tag gets another.
const (
	RestoreAuto   Restore = iota // where it was taken out, by the sender's word or by proof
	RestoreNever                 // frames stay as they were carried
	RestoreAlways                // wherever the mirror's header names a VLAN
)

// FCS says what becomes of the frame check sequence that some senders leave at the end
// of frames: --fcs.
type FCS uint8

// The ways of FCS.
const (
	FCSAuto  FCS = iota // taken off the feeds that are found to have one
	FCSStrip            // all feeds have one: taken off without looking
	FCSKeep             // left on and declared, on the feeds that are found to have one
	FCSNone             // no feed has one
)

// Config is how frames are treated. It may differ from feed to feed.
type Config struct {
	RestoreVLAN Restore
	FCS         FCS
}

// Default returns the configuration that finds out by itself. It is the zero value.
func Default() Config { return Config{} }

var (
	restoreNames = [...]string{RestoreAuto: "auto", RestoreNever: "never", RestoreAlways: "always"}
	fcsNames     = [...]string{FCSAuto: "auto", FCSStrip: "strip", FCSKeep: "keep", FCSNone: "none"}
)

// String is the way as --restore-vlan takes it.
func (r Restore) String() string {
	if int(r) < len(restoreNames) {
		return restoreNames[r]
	}
	return fmt.Sprintf("restore(%d)", uint8(r))
}

// UnmarshalText is the inverse of String, for flags and the configuration file.
func (r *Restore) UnmarshalText(text []byte) error {
	for way, name := range restoreNames {
		if name == string(text) {
			*r = Restore(way)
			return nil
		}
	}
	return fmt.Errorf("restore-vlan %q: want auto, never or always", text)
}

// String is the way as --fcs takes it.
func (f FCS) String() string {
	if int(f) < len(fcsNames) {
		return fcsNames[f]
	}
	return fmt.Sprintf("fcs(%d)", uint8(f))
}

// UnmarshalText is the inverse of String, for flags and the configuration file.
func (f *FCS) UnmarshalText(text []byte) error {
	for way, name := range fcsNames {
		if name == string(text) {
			*f = FCS(way)
			return nil
		}
	}
	return fmt.Errorf("fcs %q: want auto, strip, keep or none", text)
}

// A Feed is what one worker knows of the frames of one mirror feed.
type Feed struct {
	config Config
	trailer
	tags
}

// NewFeed returns a feed that nothing is known of.
func NewFeed(config Config) Feed {
	f := Feed{config: config}
	switch config.FCS {
	case FCSStrip:
		f.state = present
	case FCSNone:
		f.state = absent
	}
	return f
}

// A Frame is what is to be written of a frame.
type Frame struct {
	// Data is the frame as carried, without a check sequence that is taken off.
	// It is a part of what Undo was given.
	Data []byte
	// Length is what the frame had on the wire, in bytes: that of Data or more.
	// The tag that is to be put back and a check sequence that is kept count.
	Length uint32
	// Tag says that the tag in the record has to be put back: Push or Splice.
	Tag bool
	// FCS is the length of the check sequence that Length counts, 0 or 4: for
	// bits 5 to 8 of epb_flags.
	FCS uint8
}

// Undo tells what is to be written of a frame: data, that record says the mirror
// carried. It keeps neither and changes neither. Frames are told in the order in which
// they came; what the first ones prove holds for those behind them.
func (f *Feed) Undo(record *bpf.Record, data []byte) Frame {
	raw := record.Flags&bpf.RecordRawIP != 0
	own := ownLength(data, raw)
	// What the mirror delivered, before a rule or the limit of a capture cut it.
	length := max(int(record.WireLength), len(data))
	body, kind := data, none
	if !raw && f.state != absent {
		body, kind = f.find(record, data, own)
	}
	if kind != none {
		length -= fcsSize
	}
	out := Frame{Data: body}
	length = max(length, own)
	if !raw && f.restores(record, body, own) {
		out.Tag = true
		length += tagSize
	}
	if f.config.FCS == FCSKeep && !raw && (kind == original || f.state == present) {
		// Of cut frames, too: readers take the last four of Length for it.
		out.FCS = fcsSize
		length += fcsSize
		if kind == original {
			out.Data = data
		}
	}
	out.Length = uint32(length)
	return out
}

// FCSLength is what the feed's interface block should say of check sequences: 4 where
// they are kept, 0 where packets have none, -1 where that is not known. The first whole
// frame tells, so it is to be asked after Undo of the first frame.
func (f *Feed) FCSLength() int8 {
	switch {
	case f.state == unsure && f.matches == 0:
		return -1
	case f.config.FCS == FCSKeep && f.state != absent:
		return fcsSize
	}
	return 0
}
