package decap_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
)

// FuzzDecap gives the engine anything, behind any link type, and holds what
// comes out to what every caller relies on.
func FuzzDecap(f *testing.F) {
	for _, frame := range rowFrames() {
		f.Add(uint16(decap.Ethernet), uint16(0), false, frame)
	}
	f.Add(uint16(decap.Raw), uint16(40), false, type2[l3:])
	f.Add(uint16(decap.LinuxSLL), uint16(0), true, join(make([]byte, 14), tail4[12:]))
	s := everything()
	rspan(&s)
	s.config.AnyDestination = 1
	tunnels := s.engine()
	also(bpf.EncapNative)(&s)
	tap := s.engine()
	f.Fuzz(func(t *testing.T, link, cut uint16, native bool, frame []byte) {
		e := tunnels
		if native {
			e = tap
		}
		want := e.Frames()
		wire := len(frame) + int(cut)
		given := slices.Clone(frame)
		rec, inner, v := e.Captured(decap.LinkType(link), given, wire, now)

		if v <= bpf.VerdictNone || v >= bpf.VerdictCount {
			t.Fatalf("verdict %d", v)
		}
		want[v].Packets++
		want[v].Bytes += uint64(wire)
		if got := e.Frames(); got != want {
			t.Fatalf("tallies %v, want %v", got, want)
		}
		if rec.Encap != uint8(bpf.EncapRSPAN) && !bytes.Equal(given, frame) {
			t.Fatal("the frame was changed")
		}
		if v < bpf.RedirectFragment {
			if inner != nil {
				t.Fatalf("%s delivers % x", bpf.VerdictName(v), inner)
			}
			return
		}
		if len(inner) != int(rec.Length) || rec.WireLength < rec.Length || int(rec.WireLength) > wire {
			t.Fatalf("%d bytes, record %+v", len(inner), rec)
		}
		if rec.Encap != uint8(bpf.EncapRSPAN) && !bytes.Contains(frame, inner) {
			t.Fatal("the inner frame is not a part of the frame")
		}
		if len(inner) > 0 { // what is written to it must not reach what lies behind it
			_ = append(inner, 0)
			if !bytes.Equal(given[len(given)-1:], frame[len(frame)-1:]) {
				t.Fatal("the inner frame has room beyond its end")
			}
		}
		if v == bpf.RedirectFragment != (rec.Flags&bpf.RecordFragment != 0) {
			t.Fatalf("%s, flags %#x", bpf.VerdictName(v), rec.Flags)
		}
		raw := rec.Flags&bpf.RecordRawIP != 0
		switch {
		case !raw && v == bpf.RedirectInner && len(inner) < 14:
			t.Fatalf("an Ethernet frame of %d bytes", len(inner))
		case raw && (len(inner) < 20 || inner[0]>>4 != 4 && inner[0]>>4 != 6):
			t.Fatalf("no IP packet: % x", inner)
		}
	})
}
