package pcapng_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/unspan/unspan/pcapng"
)

// FuzzReader: whatever the input, the Reader ends, with packets that lie in
// what it read and an error that is one of those it documents; and the same
// bytes in small pieces give the same.
func FuzzReader(f *testing.F) {
	for _, o := range orders {
		ng := (&file{AppendByteOrder: o}).section().iface("a", 1, 9, 0).packet(0, 1, 2, 3).
			block(2, func(b *file) { b.u16(0, 3).u32(0, 9, 2, 2).raw(8, 9, 0, 0).u16(2, 4).u32(1) }).
			block(3, func(b *file) { b.u32(3).raw(7, 7, 7, 0) }).
			block(5, func(b *file) { b.u32(0, 0, 4).u16(4, 8).u32(0, 1).u16(0, 0) }).
			block(6, func(b *file) {
				b.u32(0, 1, 2, 1, 1).raw(1, 0, 0, 0).u16(1, 2).raw('h', 'i', 0, 0).u16(2, 4).u32(1).u16(4, 8).u32(0, 7).u16(0, 0)
			}).
			section().iface("b", 101, 0x8a, -5).packet(0, 9)
		f.Add(ng.b)
		f.Add(savefile(o, 0xa1b2c3d4, 4, 65535, 1).u32(3, 5, 2, 60).raw(1, 2).u32(4, 0, 0, 0).b)
		f.Add(savefile(o, 0xa1b23c4d, 3, 0, 0x24000001).u32(3, 5, 60, 2).raw(1, 2).b)
	}
	seeds, _ := filepath.Glob(filepath.Join(captures(), "*.pcapng"))
	for _, path := range seeds {
		if b, err := os.ReadFile(path); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		packets, r, err := readAll(bytes.NewReader(b))
		if err == nil {
			t.Fatal("ended without an error, io.EOF included")
		}
		if err != io.EOF && !strings.Contains(err.Error(), "reading capture") {
			t.Errorf("error %q does not say what was done", err)
		}
		total := 0
		for _, p := range packets {
			total += len(p.data) / 2
		}
		if total > len(b) {
			t.Errorf("%d bytes of packets out of %d", total, len(b))
		}
		if r != nil && r.Offset() > int64(len(b)) {
			t.Errorf("offset %d of %d", r.Offset(), len(b))
		}
		again, _, errAgain := readAll(oneByte{bytes.NewReader(b)})
		if !slices.Equal(packets, again) || (err == io.EOF) != (errAgain == io.EOF) ||
			errors.Is(err, pcapng.ErrTruncated) != errors.Is(errAgain, pcapng.ErrTruncated) {
			t.Errorf("in one piece %v, %v\nin bytes %v, %v", packets, err, again, errAgain)
		}
	})
}

type oneByte struct{ io.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// FuzzRoundTrip: what is written is read again, whatever it is.
func FuzzRoundTrip(f *testing.F) {
	f.Add("name", "comment", uint16(1), uint64(1), uint32(9), uint32(1), uint64(3), uint64(4), []byte("data"))
	f.Add("", "", uint16(0), ^uint64(0), ^uint32(0), ^uint32(0), ^uint64(0), uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, text, comment string, link uint16, time uint64, length, flags uint32, dropped, counter uint64, data []byte) {
		if !utf8.ValidString(text) || !utf8.ValidString(comment) || len(text) > 0xfffe || len(comment) > 0xffff || len(data) > 1<<20 {
			t.Skip("not what a caller may write")
		}
		about := pcapng.Section{Hardware: text, OS: comment, Application: text, Comment: comment}
		iface := pcapng.Interface{Name: text, Description: comment, Filter: text, OS: text, Hardware: comment, Comment: text,
			LinkType: pcapng.LinkType(link), SnapLen: length, FCSLength: int8(flags&0x7f) - 1}
		if iface.FCSLength < 0 {
			iface.FCSLength = -1
		}
		stat := pcapng.Statistics{Time: time, Start: time, End: counter, Received: counter, Dropped: dropped, Accepted: time, OSDropped: pcapng.Unknown, Delivered: counter, Comment: comment}

		b := pcapng.AppendSection(nil, about)
		b = pcapng.AppendInterface(b, iface)
		b = pcapng.AppendNames(b, []pcapng.Name{{Address: []byte{192, 0, 2, 1}, Names: []string{text}}})
		head := len(b)
		b = pcapng.AppendPacket(b, 0, time, length, pcapng.Flags(flags), dropped, data)
		if n := len(b) - head; n > len(data)+pcapng.PacketOverhead {
			t.Errorf("a packet of %d took %d bytes: more than PacketOverhead says", len(data), n)
		}
		if size, captured, at := pcapng.PacketHead(b[head:]); size != len(b)-head || captured != len(data) || at != time {
			t.Errorf("PacketHead %d %d %d, want %d %d %d", size, captured, at, len(b)-head, len(data), time)
		}
		b = pcapng.AppendPacketComment(b, 0, time, length, pcapng.Flags(flags), dropped, comment, data)
		b = pcapng.AppendStatistics(b, stat)

		r := mustRead(t, b)
		for i, wantComment := range []string{"", comment} {
			var p pcapng.Packet
			if err := r.Next(&p); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.Data, data) || p.Time != time || p.OrigLen != length || p.Flags != pcapng.Flags(flags) || p.DropCount != dropped || p.Comment() != wantComment {
				t.Errorf("packet %d: %+v %q", i, p, p.Comment())
			}
			if *p.Interface != iface {
				t.Errorf("interface %+v, want %+v", *p.Interface, iface)
			}
		}
		if err := r.Next(new(pcapng.Packet)); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		if got := r.Section(); got != about {
			t.Errorf("section %+v, want %+v", got, about)
		}
		if got := r.Statistics(); len(got) != 1 || got[0] != stat {
			t.Errorf("statistics %+v, want %+v", got, stat)
		}
		if len(b)%4 != 0 || binary.LittleEndian.Uint32(b[len(b)-4:])%4 != 0 {
			t.Errorf("blocks are not aligned: %d bytes", len(b))
		}
	})
}
