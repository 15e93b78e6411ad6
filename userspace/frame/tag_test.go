package frame_test

import (
	"bytes"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/frame"
)

func TestTag(t *testing.T) {
	const (
		none    = 0
		vlan    = bpf.RecordVLAN
		removed = bpf.RecordVLAN | bpf.RecordTagRemoved
	)
	plain := eth(ip4(86, 86), 0x0800)
	for _, tt := range []struct {
		name                string
		data                []byte
		flags               uint32
		tci                 uint16
		encap               bpf.Encap
		auto, never, always bool
	}{
		{"II, En 10", plain, removed, 100, bpf.EncapERSPAN2, true, false, true},
		{"II, En 10, COS", plain, removed, 5<<13 | 100, bpf.EncapERSPAN2, true, false, true},
		{"II, En 10, a priority alone", plain, removed, 5 << 13, bpf.EncapERSPAN2, true, false, false},
		{"II, En 10, nothing", plain, removed, 0, bpf.EncapERSPAN2, false, false, false},
		{"II, En 10, but the tag is there", eth(ip4(86, 86), 0x8100, 100, 0x0800), removed, 100, bpf.EncapERSPAN2, false, false, false},
		{"II, En 10, but another tag is there", eth(ip4(86, 86), 0x88a8, 7, 0x0800), removed, 100, bpf.EncapERSPAN2, false, false, false},
		{"II, En 10, but an old QinQ tag is there", eth(ip4(86, 86), 0x9100, 7, 0x0800), removed, 100, bpf.EncapERSPAN2, false, false, false},
		{"II, En 00 with a VLAN", plain, vlan, 100, bpf.EncapERSPAN2, false, false, true},
		{"II, En 11", plain, none, 100, bpf.EncapERSPAN2, false, false, false},
		{"III", plain, vlan, 100, bpf.EncapERSPAN3, false, false, true},
		{"III, VLAN 0", plain, vlan, 5 << 13, bpf.EncapERSPAN3, false, false, false},
		{"III, tag in the frame", eth(ip4(86, 86), 0x8100, 100, 0x0800), vlan, 100, bpf.EncapERSPAN3, false, false, false},
		{"raw IP", ip4(86, 86), removed | bpf.RecordRawIP, 100, bpf.EncapERSPAN3, false, false, false},
		{"half an Ethernet header", plain[:13], removed, 100, bpf.EncapERSPAN2, false, false, false},
		{"an Ethernet header", eth(nil, 0x88b5), removed, 100, bpf.EncapERSPAN2, true, false, true},
		{"cut in the tag", eth(nil, 0x8100), removed, 100, bpf.EncapERSPAN2, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for way, want := range map[frame.Restore]bool{
				frame.RestoreAuto: tt.auto, frame.RestoreNever: tt.never, frame.RestoreAlways: tt.always,
			} {
				feed := frame.NewFeed(frame.Config{RestoreVLAN: way})
				record := carried(tt.data, tt.flags)
				record.Tci, record.Encap = tt.tci, uint8(tt.encap)
				got := feed.Undo(record, tt.data)
				length := uint32(len(tt.data))
				if want {
					length += 4
				}
				if got.Tag != want || got.Length != length {
					t.Errorf("%v: tag %v, length %d; want %v, %d", way, got.Tag, got.Length, want, length)
				}
			}
		})
	}
}

// A cut frame is longer by its tag, too.
func TestTagOfCut(t *testing.T) {
	data := eth(ip4(1500, 50), 0x0800)
	record := carried(data, bpf.RecordVLAN|bpf.RecordTagRemoved|bpf.RecordTruncated)
	record.Tci = 100
	feed := frame.NewFeed(frame.Default())
	if got := feed.Undo(record, data); !got.Tag || got.Length != 1518 {
		t.Errorf("tag %v, length %d; want one, 1518", got.Tag, got.Length)
	}
}

// A sender that says En 10 and leaves the tag in is not believed again.
func TestTagsKept(t *testing.T) {
	plain := eth(ip4(86, 86), 0x0800)
	for _, tt := range []struct {
		name string
		seen []byte
		want bool
	}{
		{"an untagged frame", plain, true},
		{"the same tag", eth(ip4(86, 86), 0x8100, 0xa064, 0x0800), false},
		{"an inner tag", eth(ip4(86, 86), 0x8100, 0xa065, 0x0800), true},
		{"a frame cut in the tag", eth(nil, 0x8100), true},
	} {
		feed := frame.NewFeed(frame.Default())
		var got frame.Frame
		for _, data := range [][]byte{tt.seen, plain} {
			record := carried(data, bpf.RecordVLAN|bpf.RecordTagRemoved)
			record.Tci, record.Encap = 100, uint8(bpf.EncapERSPAN2)
			got = feed.Undo(record, data)
		}
		if got.Tag != tt.want {
			t.Errorf("after %s: tag %v, want %v", tt.name, got.Tag, tt.want)
		}
	}
}

// Type III: what padding proves.
func TestEvidence(t *testing.T) {
	tcp := eth(ip4(40, 40), 0x0800) // 54 bytes by its own headers
	arp := eth([]byte{0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0x0806)
	taken, takenARP := pad(tcp, 56), pad(arp, 56)
	full := eth(ip4(86, 86), 0x0800)
	type step struct {
		times int
		data  []byte
		vlan  uint16
		flags uint32
		want  bool // of the last one
	}
	for _, tt := range []struct {
		name  string
		fcs   frame.FCS
		steps []step
	}{
		{"sixteen proofs", 0, []step{{1, full, 7, 0, false}, {15, taken, 7, 0, false}, {1, full, 7, 0, false}, {1, takenARP, 7, 0, true}, {1, full, 7, 0, true}}},
		{"proofs of another VLAN", 0, []step{{1, full, 7, 0, false}, {20, taken, 7, 0, true}, {1, full, 8, 0, false}}},
		{"a frame of 60 speaks against it", 0, []step{{1, full, 7, 0, false}, {20, taken, 7, 0, true}, {1, pad(tcp, 60), 7, 0, false}, {20, taken, 7, 0, false}}},
		{"against one VLAN only", 0, []step{{1, full, 7, 0, false}, {1, pad(arp, 60), 8, 0, false}, {20, taken, 7, 0, true}}},
		{"a frame padded to 57 speaks against it", 0, []step{{1, pad(tcp, 57), 7, 0, false}, {20, taken, 7, 0, false}}},
		{"software does not pad", 0, []step{{1, full, 7, 0, false}, {99, tcp, 7, 0, false}, {99, arp, 7, 0, false}}},
		{"a frame that is 56 bytes long", 0, []step{{1, full, 7, 0, false}, {99, eth(ip4(42, 42), 0x0800), 7, 0, false}}},
		{"nor does a long one with a trailer matter", 0, []step{{1, full, 7, 0, false}, {20, taken, 7, 0, true}, {1, pad(full, 110), 7, 0, true}}},
		{"cut frames prove nothing", 0, []step{{1, full, 7, 0, false}, {99, taken, 7, bpf.RecordTruncated, false}, {99, taken, 7, bpf.RecordClipped, false}}},
		{"what does not tell its length", 0, []step{{1, full, 7, 0, false}, {99, eth(make([]byte, 42), 0x8847), 7, 0, false}}},
		{"a tag in the feed ends it", 0, []step{{1, full, 7, 0, false}, {20, taken, 7, 0, true}, {1, eth(ip4(86, 86), 0x8100, 9, 0x0800), 9, 0, false}, {20, taken, 7, 0, false}}},
		{"no VLAN", 0, []step{{1, full, 0, 0, false}, {20, taken, 0, 0, false}}},
		{"under a check sequence", frame.FCSAuto, []step{{8, fcs(taken), 7, 0, false}, {14, fcs(taken), 7, 0, false}, {1, fcs(taken), 7, 0, true}}},
		{"under a check sequence that is kept", frame.FCSKeep, []step{{8, fcs(taken), 7, 0, false}, {14, fcs(taken), 7, 0, false}, {1, fcs(taken), 7, 0, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			feed := frame.NewFeed(frame.Config{FCS: tt.fcs})
			for i, s := range tt.steps {
				var got frame.Frame
				for range s.times {
					record := carried(s.data, s.flags|bpf.RecordVLAN)
					record.Tci, record.Encap = s.vlan, uint8(bpf.EncapERSPAN3)
					got = feed.Undo(record, s.data)
				}
				if got.Tag != s.want {
					t.Errorf("step %d: tag %v, want %v", i, got.Tag, s.want)
				}
			}
		})
	}

	// The ninth VLAN of a feed is not looked at.
	feed := frame.NewFeed(frame.Config{FCS: frame.FCSNone})
	for vlan := uint16(1); vlan <= 9; vlan++ {
		for range 16 {
			record := carried(taken, bpf.RecordVLAN)
			record.Tci, record.Encap = vlan, uint8(bpf.EncapERSPAN3)
			feed.Undo(record, taken)
		}
		record := carried(full, bpf.RecordVLAN)
		record.Tci, record.Encap = vlan, uint8(bpf.EncapERSPAN3)
		if got := feed.Undo(record, full); got.Tag != (vlan <= 8) {
			t.Errorf("VLAN %d: tag %v", vlan, got.Tag)
		}
	}
}

func TestPush(t *testing.T) {
	plain := eth(ip4(86, 86), 0x0800)
	want := eth(ip4(86, 86), 0x8100, 0xa064, 0x0800)
	buf := append(make([]byte, 56), plain...)
	start := frame.Push(buf, 56, 0xa064)
	if start != 52 || !bytes.Equal(buf[start:], want) {
		t.Errorf("begins at %d:\n got % x\nwant % x", start, buf[start:], want)
	}
	if !bytes.Equal(buf[:start], make([]byte, 52)) {
		t.Errorf("bytes in front changed: % x", buf[:start])
	}
	before := bytes.Clone(plain)
	head, rest := frame.Splice(plain, 0xa064)
	if got := append(head[:], rest...); !bytes.Equal(got, want) {
		t.Errorf("spliced\n got % x\nwant % x", got, want)
	}
	if !bytes.Equal(plain, before) {
		t.Error("Splice wrote to the frame")
	}
}
