package frame_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/frame"
)

var macs = []byte{0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 2}

// eth is a frame: EtherTypes and tag control words in turn, then the payload.
func eth(payload []byte, words ...uint16) []byte {
	f := bytes.Clone(macs)
	for _, w := range words {
		f = binary.BigEndian.AppendUint16(f, w)
	}
	return append(f, payload...)
}

// ip4 is an IPv4 packet that says it is total bytes long, of which there are present.
func ip4(total uint16, present int) []byte {
	p := make([]byte, max(present, 20))
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], total)
	return p[:present]
}

// ip6 is an IPv6 packet that says its payload is so long.
func ip6(payload uint16, next byte, present int) []byte {
	p := make([]byte, max(present, 48))
	p[0] = 0x60
	binary.BigEndian.PutUint16(p[4:], payload)
	p[6] = next
	return p[:present]
}

// jumbo is an IPv6 packet with a jumbo payload option.
func jumbo(payload uint32, present int) []byte {
	p := ip6(0, 0, max(present, 48))
	copy(p[40:], []byte{59, 0, 0xc2, 4})
	binary.BigEndian.PutUint32(p[44:], payload)
	return p[:present]
}

// pad makes a frame size bytes long.
func pad(f []byte, size int) []byte { return append(bytes.Clone(f), make([]byte, size-len(f))...) }

// fcs appends the frame check sequence.
func fcs(f []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(f), crc32.ChecksumIEEE(f))
}

// carried is the record of a whole frame.
func carried(f []byte, flags uint32) *bpf.Record {
	return &bpf.Record{Length: uint32(len(f)), WireLength: uint32(len(f)), Flags: flags}
}

func TestLength(t *testing.T) {
	const raw = bpf.RecordRawIP
	for _, tt := range []struct {
		name  string
		data  []byte
		flags uint32
		want  uint32
	}{
		{"whole", eth(ip4(86, 86), 0x0800), 0, 100},
		{"padded", pad(eth(ip4(40, 40), 0x0800), 60), 0, 60},
		{"short and unpadded", eth(ip4(40, 40), 0x0800), 0, 54},
		{"cut, IPv4", eth(ip4(1500, 50), 0x0800), bpf.RecordTruncated, 1514},
		{"cut and not said", eth(ip4(1500, 50), 0x0800), 0, 1514},
		{"cut with a tag", eth(ip4(1500, 50), 0x8100, 7, 0x0800), bpf.RecordTruncated, 1518},
		{"cut with two", eth(ip4(1500, 50), 0x88a8, 7, 0x8100, 8, 0x0800), bpf.RecordTruncated, 1522},
		{"cut with four", eth(ip4(1500, 50), 0x9100, 7, 0x9100, 8, 0x8100, 9, 0x8100, 1, 0x0800), 0, 1530},
		{"five tags are too many", eth(ip4(1500, 50), 0x8100, 7, 0x8100, 8, 0x8100, 9, 0x8100, 1, 0x8100, 2, 0x0800), 0, 84},
		{"cut in a tag", eth(nil, 0x8100, 7), 0, 16},
		{"cut in the IPv4 length", eth(ip4(1500, 3), 0x0800), 0, 17},
		{"cut behind the IPv4 length", eth(ip4(1500, 4), 0x0800), 0, 1514},
		{"IPv4 total 0, a big packet", eth(ip4(0, 70000), 0x0800), 0, 70014},
		{"IPv4 total shorter than its header", eth(ip4(19, 50), 0x0800), 0, 64},
		{"EtherType of IPv4, not IPv4", eth(ip6(1460, 6, 60), 0x0800), 0, 74},
		{"cut, IPv6", eth(ip6(1460, 6, 60), 0x86dd), bpf.RecordTruncated, 1514},
		{"cut behind the IPv6 next header", eth(ip6(1460, 6, 7), 0x86dd), 0, 1514},
		{"cut before it", eth(ip6(1460, 6, 6), 0x86dd), 0, 20},
		{"EtherType of IPv6, not IPv6", eth(ip4(1500, 60), 0x86dd), 0, 74},
		{"IPv6 payload 0, a big packet", eth(ip6(0, 6, 70000), 0x86dd), 0, 70014},
		{"IPv6 jumbogram", eth(jumbo(100_000, 60), 0x86dd), 0, 14 + 40 + 100_000},
		{"IPv6 jumbogram cut in the option", eth(jumbo(100_000, 47), 0x86dd), 0, 61},
		{"IPv6 jumbogram that is none", eth(jumbo(65535, 60), 0x86dd), 0, 74},
		{"IPv6 jumbogram beyond belief", eth(jumbo(1<<32-1, 60), 0x86dd), 0, 74},
		{"IPv6 hop-by-hop without jumbo", eth(ip6(0, 0, 60), 0x86dd), 0, 74},
		{"802.3 length", eth(make([]byte, 30), 100), 0, 114},
		{"802.3 length with a tag", eth(make([]byte, 30), 0x8100, 7, 100), 0, 118},
		{"802.3 padded", pad(eth(make([]byte, 38), 38), 60), 0, 60},
		{"1500 is a length", eth(make([]byte, 30), 1500), 0, 1514},
		{"1501 is nothing", eth(make([]byte, 30), 1501), 0, 44},
		{"ARP, cut", eth([]byte{0, 1, 8, 0, 6, 4, 0, 1}, 0x0806), 0, 42},
		{"ARP, cut in the sizes", eth([]byte{0, 1, 8, 0, 6, 4, 0}, 0x0806), 0, 21},
		{"MPLS does not tell", eth(append([]byte{0, 0, 0x11, 64}, ip4(1500, 50)...), 0x8847), bpf.RecordTruncated, 68},
		{"raw IPv4", ip4(1500, 50), raw, 1500},
		{"raw IPv6", ip6(1460, 6, 60), raw, 1500},
		{"raw, neither", []byte{0x15, 0, 0, 0, 0, 0, 0}, raw, 7},
		{"raw, nothing", nil, raw, 0},
		{"half an Ethernet header", macs, 0, 12},
		{"nothing", nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			feed := frame.NewFeed(frame.Default())
			got := feed.Undo(carried(tt.data, tt.flags), tt.data)
			if got.Length != tt.want || !bytes.Equal(got.Data, tt.data) || got.Tag || got.FCS != 0 {
				t.Errorf("length %d, %d bytes of data, tag %v, FCS %d; want %d, %d, none, 0",
					got.Length, len(got.Data), got.Tag, got.FCS, tt.want, len(tt.data))
			}
		})
	}
}

// What a rule or a capture cut is counted by WireLength.
func TestLengthOfCut(t *testing.T) {
	data := eth(make([]byte, 50), 0x8847)
	for _, tt := range []struct {
		name  string
		wire  uint32
		flags uint32
		want  uint32
	}{
		{"by a rule", 1000, bpf.RecordCut, 1000},
		{"by the capture's limit", 1000, 0, 1000},
		{"wire length not set", 0, 0, 64},
	} {
		feed := frame.NewFeed(frame.Default())
		got := feed.Undo(&bpf.Record{Length: 64, WireLength: tt.wire, Flags: tt.flags}, data)
		if got.Length != tt.want || len(got.Data) != 64 {
			t.Errorf("%s: %d of %d bytes, want 64 of %d", tt.name, len(got.Data), got.Length, tt.want)
		}
	}
	// The sender cut it before a rule did.
	data = eth(ip4(1500, 50), 0x0800)
	feed := frame.NewFeed(frame.Default())
	if got := feed.Undo(&bpf.Record{WireLength: 128, Flags: bpf.RecordCut | bpf.RecordTruncated}, data); got.Length != 1514 {
		t.Errorf("cut twice: length %d, want 1514", got.Length)
	}
}

func TestConfig(t *testing.T) {
	for _, way := range []frame.Restore{frame.RestoreAuto, frame.RestoreNever, frame.RestoreAlways} {
		var got frame.Restore
		if err := got.UnmarshalText([]byte(way.String())); err != nil || got != way {
			t.Errorf("%v: read as %v, %v", way, got, err)
		}
	}
	for _, way := range []frame.FCS{frame.FCSAuto, frame.FCSStrip, frame.FCSKeep, frame.FCSNone} {
		var got frame.FCS
		if err := got.UnmarshalText([]byte(way.String())); err != nil || got != way {
			t.Errorf("%v: read as %v, %v", way, got, err)
		}
	}
	var r frame.Restore
	if err := r.UnmarshalText([]byte("yes")); err == nil || !strings.Contains(err.Error(), "auto, never or always") {
		t.Errorf("error %v, want one that names the ways", err)
	}
	var f frame.FCS
	if err := f.UnmarshalText([]byte("yes")); err == nil || !strings.Contains(err.Error(), "auto, strip, keep or none") {
		t.Errorf("error %v, want one that names the ways", err)
	}
	if got := frame.Restore(9).String() + frame.FCS(9).String(); got != "restore(9)fcs(9)" {
		t.Errorf("got %q", got)
	}
}

// FuzzUndo gives a feed any frames at all: two bytes of length, two of WireLength
// beyond it, four of flags and two of tci each.
func FuzzUndo(f *testing.F) {
	frames := func(list ...[]byte) []byte {
		var b []byte
		for i, data := range list {
			b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
			b = binary.BigEndian.AppendUint16(b, uint16(i%3))
			b = binary.BigEndian.AppendUint32(b, []uint32{0, bpf.RecordVLAN | bpf.RecordTagRemoved, bpf.RecordVLAN}[i%3])
			b = binary.BigEndian.AppendUint16(b, 0xa064)
			b = append(b, data...)
		}
		return b
	}
	tcp := pad(eth(ip4(40, 40), 0x0800), 56)
	f.Add(frames(tcp, fcs(tcp), eth(ip4(1500, 50), 0x8100, 100, 0x0800)), byte(0))
	f.Add(frames(fcs(tcp), fcs(tcp), fcs(tcp), fcs(tcp), fcs(tcp), fcs(tcp), fcs(tcp), fcs(tcp), tcp[:20]), byte(2))
	f.Add(frames(eth(jumbo(100_000, 60), 0x86dd), eth(nil, 100), ip6(8, 0, 50)), byte(9))
	f.Fuzz(func(t *testing.T, script []byte, config byte) {
		feed := frame.NewFeed(frame.Config{RestoreVLAN: frame.Restore(config % 3), FCS: frame.FCS(config / 3 % 4)})
		for len(script) >= 10 {
			n := min(int(binary.BigEndian.Uint16(script)), len(script)-10)
			record := &bpf.Record{
				Length: uint32(n), WireLength: uint32(n) + uint32(binary.BigEndian.Uint16(script[2:])),
				Flags: binary.BigEndian.Uint32(script[4:]), Tci: binary.BigEndian.Uint16(script[8:]), Encap: script[9] % 10,
			}
			data := script[10 : 10+n : 10+n]
			script = script[10+n:]
			before := bytes.Clone(data)
			got := feed.Undo(record, data)
			if !bytes.Equal(data, before) {
				t.Fatal("the frame was written to")
			}
			if len(got.Data) > n || !bytes.Equal(got.Data, data[:len(got.Data)]) || len(got.Data) < n-4 {
				t.Fatalf("%d bytes became %d", n, len(got.Data))
			}
			if got.FCS != 0 && got.FCS != 4 {
				t.Fatalf("FCS of %d bytes", got.FCS)
			}
			length := len(got.Data)
			if got.Tag {
				buf := append(make([]byte, 4), got.Data...)
				start := frame.Push(buf, 4, record.Tci)
				head, rest := frame.Splice(got.Data, record.Tci)
				if start != 0 || !bytes.Equal(buf, append(head[:], rest...)) {
					t.Fatalf("Push made % x, Splice % x % x", buf, head, rest)
				}
				length = len(buf)
			}
			if got.Length < uint32(length) {
				t.Fatalf("%d bytes of %d", length, got.Length)
			}
			if l := feed.FCSLength(); l != -1 && l != 0 && l != 4 {
				t.Fatalf("FCSLength %d", l)
			}
		}
	})
}

func TestNoGarbage(t *testing.T) {
	data := eth(ip4(86, 86), 0x0800)
	record := carried(data, bpf.RecordVLAN|bpf.RecordTagRemoved)
	record.Tci = 100
	feed := frame.NewFeed(frame.Default())
	buf := make([]byte, 4+len(data))
	if n := testing.AllocsPerRun(100, func() {
		if got := feed.Undo(record, data); !got.Tag {
			t.Fatal("no tag")
		}
		frame.Push(buf, 4, record.Tci)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkUndo(b *testing.B) {
	whole := eth(ip4(1486, 1486), 0x0800)
	removed := carried(whole, bpf.RecordVLAN|bpf.RecordTagRemoved)
	removed.Tci = 100
	type3 := carried(whole, bpf.RecordVLAN)
	type3.Tci, type3.Encap = 100, uint8(bpf.EncapERSPAN3)
	checked := fcs(whole)
	for _, bb := range []struct {
		name   string
		record *bpf.Record
		data   []byte
	}{
		{"plain", carried(whole, 0), whole},
		{"tag", removed, whole},
		{"erspan3", type3, whole},
		{"fcs", carried(checked, 0), checked},
	} {
		b.Run(bb.name, func(b *testing.B) {
			feed := frame.NewFeed(frame.Default())
			for range 100 {
				feed.Undo(bb.record, bb.data)
			}
			b.ReportAllocs()
			for b.Loop() {
				feed.Undo(bb.record, bb.data)
			}
		})
	}
	b.Run("push", func(b *testing.B) {
		buf := append(make([]byte, 56), whole...)
		b.ReportAllocs()
		for b.Loop() {
			frame.Push(buf, 56, 100)
		}
	})
}
