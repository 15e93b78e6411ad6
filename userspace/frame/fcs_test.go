package frame_test

import (
	"bytes"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/frame"
)

// told is what Undo says of a frame, with the frame as its length.
type told struct {
	data, length int
	fcs          uint8
}

func undo(feed *frame.Feed, data []byte, wire int, flags uint32) told {
	record := carried(data, flags)
	record.WireLength = uint32(wire)
	got := feed.Undo(record, data)
	return told{len(got.Data), int(got.Length), got.FCS}
}

func TestFCS(t *testing.T) {
	whole := eth(ip4(86, 86), 0x0800) // 100 bytes
	checked := fcs(whole)
	padded := pad(eth(ip4(40, 40), 0x0800), 60)
	bad := bytes.Clone(checked)
	bad[50] ^= 1
	wrong := bytes.Clone(checked)
	wrong[103] ^= 1
	mpls := eth(make([]byte, 86), 0x8847)
	cutInside := checked[:80]     // the sender cut it
	cutWithFCS := fcs(whole[:80]) // and computed a new check sequence
	contentCRC := fcs(whole[:96]) // all of it IP, and yet a CRC

	long := eth(make([]byte, 186), 0x8847) // does not tell how long
	known := eth(ip4(186, 186), 0x0800)    // 200 bytes

	type step struct {
		data       []byte
		wire       int // 0: as long as data
		flags      uint32
		auto, keep told
	}
	learn := func(n int) (steps []step) {
		for range n {
			steps = append(steps, step{checked, 0, 0, told{100, 100, 0}, told{104, 104, 4}})
		}
		return steps
	}
	asIs := func(data []byte, flags uint32) step {
		all := told{len(data), len(data), 0}
		return step{data, 0, flags, all, all}
	}

	for _, tt := range []struct {
		name       string
		steps      []step
		auto, keep int8 // FCSLength in the end
	}{
		{"there", append(learn(10), step{fcs(padded), 0, 0, told{60, 60, 0}, told{64, 64, 4}}), 0, 4},
		{"not there", []step{asIs(whole, 0), asIs(padded, 0), asIs(checked, 0)}, 0, 0},
		{"not there, MPLS", []step{asIs(mpls, 0), asIs(checked, 0)}, 0, 0},
		{"one of eight is not", append(learn(7), asIs(mpls, 0), asIs(checked, 0)), 0, 0},
		{"a wrong one after eight is taken all the same", append(learn(8),
			step{wrong, 0, 0, told{100, 100, 0}, told{104, 104, 4}},
			step{bad, 0, bpf.RecordBad, told{100, 100, 0}, told{104, 104, 4}}), 0, 4},
		{"a damaged frame is no evidence", append([]step{asIs(bad, bpf.RecordBad)}, learn(8)...), 0, 4},
		{"nor is a cut one", append([]step{
			step{cutInside, 0, bpf.RecordTruncated, told{80, 100, 0}, told{80, 100, 0}},
			step{cutInside, 0, 0, told{80, 100, 0}, told{80, 100, 0}},
			step{cutInside, 104, bpf.RecordCut, told{80, 104, 0}, told{80, 104, 0}},
			step{mpls, 104, 0, told{100, 104, 0}, told{100, 104, 0}},
			step{mpls, 0, bpf.RecordClipped, told{100, 100, 0}, told{100, 100, 0}},
		}, learn(8)...), 0, 4},
		{"nothing but cut ones", []step{
			step{cutInside, 0, bpf.RecordTruncated, told{80, 100, 0}, told{80, 100, 0}}}, -1, -1},
		{"one tells already", learn(1), 0, 4},
		{"a CRC in the packet is not one behind it", []step{asIs(contentCRC, 0), asIs(checked, 0)}, 0, 0},
		{"too short for one", []step{asIs(fcs(macs), 0), asIs(checked, 0)}, 0, 0},
		{"raw IP has none", append(learn(8), asIs(fcs(ip4(60, 60))[:60], bpf.RecordRawIP),
			step{fcs(ip4(60, 60)), 0, bpf.RecordRawIP, told{64, 64, 0}, told{64, 64, 0}}), 0, 4},

		{"cut by the sender", append(learn(8),
			step{cutInside, 0, bpf.RecordTruncated, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by the sender, unsaid", append(learn(8),
			step{cutInside, 0, 0, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by the sender, right before it", append(learn(8),
			step{whole, 0, 0, told{100, 100, 0}, told{100, 104, 4}}), 0, 4},
		{"cut by the sender in the middle of it", append(learn(8),
			step{checked[:102], 0, bpf.RecordTruncated, told{102, 102, 0}, told{102, 106, 4}}), 0, 4},
		{"cut by the sender, with a new one", append(learn(8),
			step{cutWithFCS, 0, bpf.RecordTruncated, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut on the way", append(learn(8),
			step{cutInside, 0, bpf.RecordClipped, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by a rule", append(learn(8),
			step{cutInside, 104, bpf.RecordCut, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by a rule, in the middle of it", append(learn(8),
			step{checked[:101], 104, bpf.RecordCut, told{100, 100, 0}, told{101, 104, 4}},
			step{checked[:103], 104, bpf.RecordCut, told{100, 100, 0}, told{103, 104, 4}},
			step{checked[:100], 104, bpf.RecordCut, told{100, 100, 0}, told{100, 104, 4}}), 0, 4},
		{"cut by the sender and by a rule", append(learn(8),
			step{cutInside, 90, bpf.RecordCut | bpf.RecordTruncated, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by the sender, unsaid, and by a rule", append(learn(8),
			step{cutInside, 90, bpf.RecordCut, told{80, 100, 0}, told{80, 104, 4}}), 0, 4},
		{"cut by the sender, and its last bytes by a rule", append(learn(8),
			step{long[:102], 104, bpf.RecordCut | bpf.RecordTruncated, told{102, 104, 0}, told{102, 108, 4}},
			step{known[:102], 104, bpf.RecordCut, told{102, 200, 0}, told{102, 204, 4}}), 0, 4},
		{"next to nothing left", append(learn(8), step{checked[:17], 0, 0, told{17, 17, 0}, told{17, 21, 4}}, step{nil, 0, 0, told{0, 0, 0}, told{0, 4, 4}}), 0, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			auto, keep := frame.NewFeed(frame.Default()), frame.NewFeed(frame.Config{FCS: frame.FCSKeep})
			for i, s := range tt.steps {
				wire := s.wire
				if wire == 0 {
					wire = len(s.data)
				}
				if got := undo(&auto, s.data, wire, s.flags); got != s.auto {
					t.Errorf("step %d, auto: %+v, want %+v", i, got, s.auto)
				}
				if got := undo(&keep, s.data, wire, s.flags); got != s.keep {
					t.Errorf("step %d, keep: %+v, want %+v", i, got, s.keep)
				}
			}
			if a, k := auto.FCSLength(), keep.FCSLength(); a != tt.auto || k != tt.keep {
				t.Errorf("FCSLength %d, kept %d; want %d, %d", a, k, tt.auto, tt.keep)
			}
		})
	}
}
