package bpf_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/unspan/unspan/bpf"
)

func TestSizesAndOffsets(t *testing.T) {
	var r bpf.Record
	var k bpf.FeedKey
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"sizeof record", unsafe.Sizeof(r), 56},
		{"record.source_time", unsafe.Offsetof(r.SourceTime), 8},
		{"record.feed", unsafe.Offsetof(r.Feed), 16},
		{"record.length", unsafe.Offsetof(r.Length), 32},
		{"record.flags", unsafe.Offsetof(r.Flags), 44},
		{"record.encap", unsafe.Offsetof(r.Encap), 52},
		{"record.version", unsafe.Offsetof(r.Version), 55},
		{"sizeof feed_key", unsafe.Sizeof(k), 40},
		{"feed_key.key", unsafe.Offsetof(k.Key), 32},
		{"feed_key.keyed", unsafe.Offsetof(k.Keyed), 39},
		{"sizeof sequence", unsafe.Sizeof(bpf.Sequence{}), 72},
		{"sizeof feed_state", unsafe.Sizeof(bpf.FeedState{}), 136},
		{"sizeof tally", unsafe.Sizeof(bpf.Tally{}), 16},
	} {
		if c.got != c.want {
			t.Errorf("%s = %d, want %d", c.what, c.got, c.want)
		}
	}
}

func TestEveryVerdictHasAName(t *testing.T) {
	seen := map[string]bool{}
	for v := bpf.VerdictNone; v < bpf.VerdictCount; v++ {
		name := bpf.VerdictName(v)
		if name == "" || seen[name] {
			t.Errorf("verdict %d is named %q: empty or twice", v, name)
		}
		seen[name] = true
		kinds := 0
		for _, is := range []bool{bpf.Passes(v), bpf.Drops(v), strings.HasPrefix(name, "redirect_")} {
			if is {
				kinds++
			}
		}
		if want := map[bool]int{true: 0, false: 1}[v == bpf.VerdictNone]; kinds != want {
			t.Errorf("verdict %s is of %d kinds, want %d", name, kinds, want)
		}
	}
	// The program tells the kinds apart by order: all that pass, all that drop, all that are redirected.
	for v := bpf.PassNotIP; v < bpf.VerdictCount; v++ {
		if bpf.Passes(v) != (v <= bpf.PassNoSocket) || bpf.Drops(v) != (v > bpf.PassNoSocket && v < bpf.RedirectFragment) {
			t.Errorf("verdict %s stands in the wrong place of the enum", bpf.VerdictName(v))
		}
	}
}

func TestEveryEncapHasAName(t *testing.T) {
	for e := bpf.EncapNone + 1; e < bpf.EncapCount; e++ {
		got, ok := bpf.ParseEncap(bpf.EncapName(e))
		if !ok || got != e {
			t.Errorf("ParseEncap(%q) = %v, %v, want %v", bpf.EncapName(e), got, ok, e)
		}
	}
	if _, ok := bpf.ParseEncap("none"); ok {
		t.Error(`ParseEncap("none") is taken, but no feed has no encapsulation`)
	}
}

func TestSplit(t *testing.T) {
	good := bpf.Record{Length: 3, Version: bpf.RecordVersion, Feed: 7}
	short := good
	short.Length = 4
	old := good
	old.Version++
	for _, c := range []struct {
		name  string
		buf   []byte
		frame string
		ok    bool
	}{
		{"record and frame", append(good.Append(nil), "abc"...), "abc", true},
		{"padding is not frame", append(good.Append(nil), "abcdef"...), "abc", true},
		{"frame cut", append(short.Append(nil), "abc"...), "", false},
		{"other version", append(old.Append(nil), "abc"...), "", false},
		{"half a record", good.Append(nil)[:20], "", false},
		{"nothing", nil, "", false},
	} {
		rec, frame, ok := bpf.Split(c.buf)
		if ok != c.ok || string(frame) != c.frame || (ok && rec.Feed != 7) {
			t.Errorf("%s: Split = %+v, %q, %v", c.name, rec, frame, ok)
		}
	}
}
