package pcapng_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/unspan/unspan/pcapng"
)

func isEOF(err error) bool { return err == io.EOF }

func mustRead(t *testing.T, b []byte) *pcapng.Reader {
	t.Helper()
	r, err := pcapng.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// seen is a packet as a test states it.
type seen struct {
	data    string
	time    uint64
	origLen uint32
	flags   pcapng.Flags
	drops   uint64
	iface   string
	comment string
}

// readAll returns the packets of a capture and the error that ended it.
func readAll(input io.Reader) ([]seen, *pcapng.Reader, error) {
	r, err := pcapng.NewReader(input)
	if err != nil {
		return nil, nil, err
	}
	var all []seen
	for {
		var p pcapng.Packet
		if err := r.Next(&p); err != nil {
			return all, r, err
		}
		all = append(all, seen{fmt.Sprintf("%x", p.Data), p.Time, p.OrigLen, p.Flags, p.DropCount,
			fmt.Sprintf("%d %s", p.Interface.LinkType, p.Interface.Name), p.Comment()})
	}
}

// file builds capture files in either byte order.
type file struct {
	binary.AppendByteOrder
	b []byte
}

func (f *file) u16(v ...uint16) *file {
	for _, v := range v {
		f.b = f.AppendUint16(f.b, v)
	}
	return f
}

func (f *file) u32(v ...uint32) *file {
	for _, v := range v {
		f.b = f.AppendUint32(f.b, v)
	}
	return f
}

func (f *file) raw(b ...byte) *file {
	f.b = append(f.b, b...)
	return f
}

// block appends a block with the body that fill writes.
func (f *file) block(kind uint32, fill func(*file)) *file {
	body := &file{AppendByteOrder: f.AppendByteOrder}
	fill(body)
	size := uint32(len(body.b) + 12)
	return f.u32(kind, size).raw(body.b...).u32(size)
}

func (f *file) section() *file {
	return f.block(0x0a0d0d0a, func(b *file) { b.u32(0x1a2b3c4d).u16(1, 0).u32(^uint32(0), ^uint32(0)) })
}

// iface appends an interface block with if_tsresol and if_tsoffset.
func (f *file) iface(name string, link uint16, resolution byte, offset int64) *file {
	return f.block(1, func(b *file) {
		b.u16(link, 0).u32(0)
		b.u16(2, uint16(len(name))).raw([]byte(name)...).raw(make([]byte, -len(name)&3)...)
		b.u16(9, 1).raw(resolution, 0, 0, 0)
		b.u16(14, 8)
		b.b = b.AppendUint64(b.b, uint64(offset))
		b.u16(0, 0)
	})
}

func (f *file) packet(id uint32, ticks uint64, data ...byte) *file {
	return f.block(6, func(b *file) {
		b.u32(id, uint32(ticks>>32), uint32(ticks), uint32(len(data)), uint32(len(data)))
		b.raw(data...).raw(make([]byte, -len(data)&3)...)
	})
}

var orders = map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian}

func TestReadBlocks(t *testing.T) {
	for name, o := range orders {
		t.Run(name+"-endian", func(t *testing.T) {
			f := (&file{AppendByteOrder: o}).section().
				iface("one", 1, 6, 0).
				iface("two", 101, 9, 0).
				packet(0, 5, 1, 2, 3).
				block(0x40000001, func(b *file) { b.u32(1, 2, 3) }). // unknown
				block(6, func(b *file) {
					b.u32(1, 1, 2, 4, 99).raw(1, 2, 3, 4)
					b.u16(1, 2).raw('h', 'i', 0, 0)
					b.u16(2, 4).u32(uint32(pcapng.Outbound))
					b.u16(4, 8)
					b.b = b.AppendUint64(b.b, 7)
					b.u16(0, 0)
				}).
				block(2, func(b *file) { b.u16(1, 3).u32(0, 9, 2, 2).raw(8, 9, 0, 0).u16(2, 4).u32(1) }).
				block(2, func(b *file) { b.u16(1, 0xffff).u32(0, 9, 2, 2).raw(8, 9, 0, 0) }).
				block(3, func(b *file) { b.u32(3).raw(7, 7, 7, 0) }).
				block(5, func(b *file) {
					b.u32(1, 0, 4).u16(4, 8)
					b.b = b.AppendUint64(b.b, 100)
					b.u16(2, 8).u32(1, 2).u16(1, 2).raw('o', 'k', 0, 0)
				})
			got, r, err := readAll(bytes.NewReader(f.b))
			want := []seen{
				{"010203", 5000, 3, 0, 0, "1 one", ""},
				{"01020304", 1<<32 | 2, 99, pcapng.Outbound, 7, "101 two", "hi"},
				{"0809", 9, 2, pcapng.Inbound, 3, "101 two", ""},
				{"0809", 9, 2, 0, 0, "101 two", ""},
				{"070707", 0, 3, 0, 0, "1 one", ""},
			}
			if err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("got  %v, %v\nwant %v", got, err, want)
			}
			u := uint64(pcapng.Unknown)
			stats := []pcapng.Statistics{{Interface: 1, Time: 4, Start: 1<<32 | 2, Received: 100, Dropped: u, Accepted: u, OSDropped: u, Delivered: u, Comment: "ok"}}
			if got := r.Statistics(); !slices.Equal(got, stats) {
				t.Errorf("statistics %+v, want %+v", got, stats)
			}
			if r.Offset() != int64(len(f.b)) {
				t.Errorf("offset %d, want %d", r.Offset(), len(f.b))
			}
		})
	}
}

func TestReadSectionsOfDifferentByteOrder(t *testing.T) {
	f := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("le", 1, 9, 0).packet(0, 1, 1)
	f.AppendByteOrder = binary.BigEndian
	f.section().iface("be", 101, 9, 0).packet(0, 2, 2)
	got, r, err := readAll(bytes.NewReader(f.b))
	want := []seen{{"01", 1, 1, 0, 0, "1 le", ""}, {"02", 2, 1, 0, 0, "101 be", ""}}
	if err != io.EOF || !slices.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	if all := r.Interfaces(); len(all) != 1 || all[0].Name != "be" {
		t.Errorf("interfaces %v, want the one of the last section", all)
	}
}

func TestReadTimes(t *testing.T) {
	const max = ^uint64(0)
	tests := []struct {
		name       string
		resolution byte
		offset     int64
		ticks      uint64
		want       uint64
	}{
		{"seconds", 0, 0, 3, 3_000_000_000},
		{"milliseconds", 3, 0, 3, 3_000_000},
		{"microseconds", 6, 0, 3, 3_000},
		{"nanoseconds", 9, 0, max, max},
		{"picoseconds", 12, 0, 3_999, 3},
		{"10^-28 s", 28, 0, max, 1},
		{"10^-29 s", 29, 0, max, 0},
		{"10^-127 s", 127, 0, max, 0},
		{"2^0 s", 0x80, 0, 2, 2_000_000_000},
		{"2^-10 s", 0x80 | 10, 0, 1024 + 512, 1_500_000_000},
		{"2^-32 s, NTP", 0x80 | 32, 0, 1<<63 | 1<<31, (1<<31)*1_000_000_000 + 500_000_000},
		{"2^-64 s", 0x80 | 64, 0, 1 << 63, 500_000_000},
		{"2^-66 s", 0x80 | 66, 0, 1 << 63, 125_000_000},
		{"2^-127 s", 0x80 | 127, 0, max, 0},
		{"later", 9, 10, 5, 10_000_000_005},
		{"earlier", 6, -2, 2_000_001, 1000},
		{"before 1970", 9, -1, 5, 0},
		{"long before 1970", 9, -1 << 63, 5, 0},
		{"past the range", 0, 0, max, max},
		{"past the range in binary", 0x80, 0, max, max},
		{"moved past the range", 9, 1 << 62, 5, max},
		{"moved just past the range", 9, 18446744073, max, max},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("", 1, test.resolution, test.offset).packet(0, test.ticks)
			got, _, err := readAll(bytes.NewReader(f.b))
			if err != io.EOF || len(got) != 1 || got[0].time != test.want {
				t.Errorf("got %v, %v, want %d", got, err, test.want)
			}
		})
	}
}

func savefile(o binary.AppendByteOrder, magic uint32, minor uint16, snap, link uint32) *file {
	return (&file{AppendByteOrder: o}).u32(magic).u16(2, minor).u32(0, 0, snap, link)
}

func TestReadSavefile(t *testing.T) {
	tests := []struct {
		name string
		file func(o binary.AppendByteOrder) *file
		want []seen
		fcs  int8
	}{
		{"microseconds", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 4, 65535, 1).u32(3, 5, 2, 60).raw(1, 2).u32(4, 0, 0, 0)
		}, []seen{{"0102", 3_000_005_000, 60, 0, 0, "1 ", ""}, {"", 4_000_000_000, 0, 0, 0, "1 ", ""}}, -1},
		{"nanoseconds", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b23c4d, 4, 65535, 113).u32(0xffffffff, 5, 1, 1).raw(9)
		}, []seen{{"09", 4_294_967_295_000_000_005, 1, 0, 0, "113 ", ""}}, -1},
		{"FCS of two 16-bit words", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 4, 65535, 0x24000001).u32(0, 0, 1, 1).raw(9)
		}, []seen{{"09", 0, 1, 0, 0, "1 ", ""}}, 4},
		{"FCS length without the bit that says so", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 4, 65535, 0x20000001).u32(0, 0, 1, 1).raw(9)
		}, []seen{{"09", 0, 1, 0, 0, "1 ", ""}}, -1},
		{"version 2.2 has the lengths swapped", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 2, 65535, 1).u32(0, 0, 60, 1).raw(9)
		}, []seen{{"09", 0, 60, 0, 0, "1 ", ""}}, -1},
		{"version 2.3 may have them swapped", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 3, 65535, 1).u32(0, 0, 60, 1).raw(9).u32(0, 0, 1, 60).raw(8)
		}, []seen{{"09", 0, 60, 0, 0, "1 ", ""}, {"08", 0, 60, 0, 0, "1 ", ""}}, -1},
		{"longer than the snap length says", func(o binary.AppendByteOrder) *file {
			return savefile(o, 0xa1b2c3d4, 4, 1, 1).u32(0, 0, 2, 2).raw(9, 9)
		}, []seen{{"0909", 0, 2, 0, 0, "1 ", ""}}, -1},
	}
	for _, test := range tests {
		for name, o := range orders {
			t.Run(test.name+", "+name+"-endian", func(t *testing.T) {
				got, r, err := readAll(bytes.NewReader(test.file(o).b))
				if err != io.EOF || !slices.Equal(got, test.want) {
					t.Errorf("got  %v, %v\nwant %v", got, err, test.want)
				}
				if fcs := r.Interfaces()[0].FCSLength; fcs != test.fcs {
					t.Errorf("FCS length %d, want %d", fcs, test.fcs)
				}
			})
		}
	}
}

// TestReadMalformed changes one thing of a good file per row. The packet
// before the fault is delivered, the error says where, and stays.
func TestReadMalformed(t *testing.T) {
	good := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("a", 1, 9, 0).packet(0, 1, 0xaa)
	at := len(good.b)
	le := binary.LittleEndian
	tests := []struct {
		name string
		more func(*file)
		want string
	}{
		{"block length 0", func(f *file) { f.u32(6, 0, 0) }, "says it has 0 bytes"},
		{"block length 4", func(f *file) { f.u32(6, 4, 4) }, "says it has 4 bytes"},
		{"block length not of 4", func(f *file) { f.u32(6, 14, 14).u32(0) }, "not a multiple of 4"},
		{"tail of a large block differs", func(f *file) { f.u32(7, 1<<20).raw(make([]byte, 1<<20-12)...).u32(16) }, "1048576 bytes at its head and 16 at its tail"},
		{"tail differs", func(f *file) { f.u32(7, 12, 16) }, "12 bytes at its head and 16 at its tail"},
		{"packet block of 4 GiB", func(f *file) { f.u32(6, 0xfffffffc, 0) }, "4294967292 bytes, 16777216 are believed"},
		{"interface block of 4 GiB", func(f *file) { f.u32(1, 0xfffffffc, 0) }, "16777216 are believed"},
		{"section of 4 GiB", func(f *file) { f.u32(0x0a0d0d0a, 0xfffffffc, 0x1a2b3c4d) }, "16777216 are believed"},
		{"section magic", func(f *file) { f.u32(0x0a0d0d0a, 28, 0x1a2b3c00).u32(0, 0, 0, 28) }, "byte-order magic"},
		{"section too short", func(f *file) { f.block(0x0a0d0d0a, func(b *file) { b.u32(0x1a2b3c4d) }) }, "too short"},
		{"section version", func(f *file) {
			f.block(0x0a0d0d0a, func(b *file) { b.u32(0x1a2b3c4d).u16(2, 0).u32(0, 0) })
		}, "version 2.0 is not known"},
		{"section option", func(f *file) {
			f.block(0x0a0d0d0a, func(b *file) { b.u32(0x1a2b3c4d).u16(1, 0).u32(0, 0).u16(2, 9).u32(0) })
		}, "option of type 2 says it has 9 bytes, the block has 4 left"},
		{"interface too short", func(f *file) { f.block(1, func(b *file) { b.u32(1) }) }, "too short"},
		{"if_tsresol", func(f *file) { f.block(1, func(b *file) { b.u32(1, 0).u16(9, 4).u32(9) }) }, "if_tsresol option of 4 bytes"},
		{"if_tsoffset", func(f *file) { f.block(1, func(b *file) { b.u32(1, 0).u16(14, 3).u32(9) }) }, "if_tsoffset option of 3 bytes"},
		{"if_fcslen", func(f *file) { f.block(1, func(b *file) { b.u32(1, 0).u16(13, 2).u32(9) }) }, "if_fcslen option of 2 bytes"},
		{"packet too short", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, 0) }) }, "too short"},
		{"packet longer than its block", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, 5, 5, 0) }) }, "says it holds a packet of 5"},
		{"packet of 4 GiB", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, ^uint32(0), 5, 0) }) }, "packet of 4294967295"},
		{"packet of no interface", func(f *file) { f.packet(1, 0) }, "interface 1, 1 are described"},
		{"packet option", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, 0, 0).u16(2, 8).u32(0) }) }, "option of type 2 says it has 8 bytes"},
		{"epb_flags", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, 0, 0).u16(2, 2).u32(0) }) }, "packet option of type 2 with 2 bytes"},
		{"epb_dropcount", func(f *file) { f.block(6, func(b *file) { b.u32(0, 0, 0, 0, 0).u16(4, 4).u32(0) }) }, "packet option of type 4 with 4 bytes"},
		{"old packet too short", func(f *file) { f.block(2, func(b *file) { b.u32(0, 0, 0, 0) }) }, "too short"},
		{"old packet longer than its block", func(f *file) { f.block(2, func(b *file) { b.u32(0, 0, 0, 5, 5, 0) }) }, "packet of 5"},
		{"old packet of no interface", func(f *file) { f.block(2, func(b *file) { b.u32(1, 0, 0, 0, 0) }) }, "interface 1, 1 are described"},
		{"simple packet too short", func(f *file) { f.block(3, func(b *file) {}) }, "too short"},
		{"simple packet of no interface", func(f *file) { f.section().block(3, func(b *file) { b.u32(0) }) }, "no interface is described"},
		{"statistics too short", func(f *file) { f.block(5, func(b *file) { b.u32(0) }) }, "too short"},
		{"statistics of no interface", func(f *file) { f.block(5, func(b *file) { b.u32(1, 0, 0) }) }, "interface 1, 1 are described"},
		{"statistics option", func(f *file) { f.block(5, func(b *file) { b.u32(0, 0, 0).u16(4, 4).u32(0) }) }, "type 4 with 4 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &file{AppendByteOrder: le, b: slices.Clone(good.b)}
			test.more(f)
			f.packet(0, 2, 0xbb) // never reached
			packets, r, err := readAll(bytes.NewReader(f.b))
			if len(packets) != 1 || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%d packets, error %v, want 1 and %q", len(packets), err, test.want)
			}
			if errors.Is(err, pcapng.ErrTruncated) {
				t.Errorf("%v: is said to be truncated", err)
			}
			where := at
			switch test.name {
			case "simple packet of no interface":
				where += 28
			case "tail of a large block differs":
				where += 1<<20 - 4 // it is not kept
			}
			if text := fmt.Sprintf("at byte %d: ", where); !strings.Contains(err.Error(), text) {
				t.Errorf("%v: does not say %q", err, text)
			}
			if again := r.Next(new(pcapng.Packet)); again != err {
				t.Errorf("second error %v, want the first again", again)
			}
		})
	}
}

func TestReadNoCapture(t *testing.T) {
	tests := []struct{ name, input, want string }{
		{"empty", "", "it has 0 bytes"},
		{"one byte", "x", "it has 1 bytes"},
		{"text", "hello, world", "neither pcap nor pcapng"},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00", "zcat"},
		{"zstd", "\x28\xb5\x2f\xfd\x00", "zstdcat"},
		{"xz", "\xfd7zXZ\x00", "xzcat"},
		{"bzip2", "BZh91AY", "bzcat"},
		{"lz4", "\x04\x22\x4d\x18", "lz4cat"},
		{"modified pcap", "\x34\xcd\xb2\xa1", "editcap"},
		{"snoop", "snoop\x00\x00\x00", "snoop"},
		{"pcap of version 3", "\xd4\xc3\xb2\xa1\x03\x00\x00\x00" + strings.Repeat("\x00", 16), "version 3.0"},
		{"pcap, cut header", "\xd4\xc3\xb2\xa1\x02\x00\x04\x00", "inside a packet or block"},
		{"pcapng, cut header", "\x0a\x0d\x0d\x0a\x1c\x00\x00\x00\x4d", "inside a packet or block"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := pcapng.NewReader(strings.NewReader(test.input))
			if r != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("reader %v, error %v, want %q", r, err, test.want)
			}
		})
	}
}

// TestReadCut cuts good files at every byte: all packets before the cut come,
// then ErrTruncated, or io.EOF where the cut is between blocks.
func TestReadCut(t *testing.T) {
	ng := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("a", 1, 9, 0)
	ends := map[int]int{28: 0, len(ng.b): 0} // a cut here is no cut: packets before it
	for i := range 3 {
		ng.packet(0, uint64(i), byte(i), 1, 2, 3, 4)
		ends[len(ng.b)] = i + 1
	}
	pcap := savefile(binary.BigEndian, 0xa1b2c3d4, 4, 65535, 1)
	pcapEnds := map[int]int{len(pcap.b): 0}
	for i := range 3 {
		pcap.u32(0, 0, 3, 3).raw(byte(i), 1, 2)
		pcapEnds[len(pcap.b)] = i + 1
	}
	for _, test := range []struct {
		name string
		b    []byte
		ends map[int]int
	}{{"pcapng", ng.b, ends}, {"pcap", pcap.b, pcapEnds}} {
		t.Run(test.name, func(t *testing.T) {
			whole := 0
			for n := range len(test.b) + 1 {
				packets, _, err := readAll(bytes.NewReader(test.b[:n]))
				if before, clean := test.ends[n]; clean {
					whole = before
					if err != io.EOF {
						t.Errorf("cut at %d, between blocks: %v, want EOF", n, err)
					}
				} else if !errors.Is(err, pcapng.ErrTruncated) {
					t.Errorf("cut at %d: %v, want ErrTruncated", n, err)
				}
				if len(packets) != whole {
					t.Errorf("cut at %d: %d packets, want %d", n, len(packets), whole)
				}
			}
		})
	}
}

// TestReadPieces: the input may come in pieces of any size, with its end or
// after it, and blocks may be larger than the first memory.
func TestReadPieces(t *testing.T) {
	f := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("a", 1, 9, 0)
	var want []string
	for _, n := range []int{1, 2000, 400_000, 3, 1_500_000, 70} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		f.packet(0, 1, data...)
		want = append(want, fmt.Sprintf("%x", data))
	}
	f.u32(0x40000001, 32<<20).raw(make([]byte, 32<<20-12)...).u32(32 << 20) // larger than MaxBlock, of no interest
	f.packet(0, 1, 5)
	want = append(want, "05")
	for name, input := range map[string]io.Reader{
		"whole":        bytes.NewReader(f.b),
		"halves":       iotest.HalfReader(bytes.NewReader(f.b)),
		"end and data": iotest.DataErrReader(bytes.NewReader(f.b)),
	} {
		t.Run(name, func(t *testing.T) {
			packets, _, err := readAll(input)
			var got []string
			for _, p := range packets {
				got = append(got, p.data)
			}
			if err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("%d packets, %v, want %d", len(got), err, len(want))
			}
		})
	}
}

func TestReadInputFails(t *testing.T) {
	f := (&file{AppendByteOrder: binary.LittleEndian}).section().iface("a", 1, 9, 0).packet(0, 1, 5)
	wrong := errors.New("cable pulled")
	for name, input := range map[string]io.Reader{
		"error":    iotest.ErrReader(wrong),
		"no bytes": readerFunc(func([]byte) (int, error) { return 0, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			packets, _, err := readAll(io.MultiReader(bytes.NewReader(f.b), input))
			if len(packets) != 1 || !errors.Is(err, wrong) && !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("%d packets, %v", len(packets), err)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReadFlood: a file cannot make the Reader remember without bound.
func TestReadFlood(t *testing.T) {
	small := (&file{AppendByteOrder: binary.LittleEndian}).iface("", 1, 9, 0).b
	large := (&file{AppendByteOrder: binary.LittleEndian}).block(1, func(b *file) {
		b.u32(1, 0)
		for range 8 {
			b.u16(2, 65532).raw(make([]byte, 65532)...)
		}
	}).b
	for name, block := range map[string][]byte{"interfaces": small, "text": large} {
		t.Run(name, func(t *testing.T) {
			head := (&file{AppendByteOrder: binary.LittleEndian}).section().b
			endless := io.MultiReader(bytes.NewReader(head), &loop{block: block})
			_, _, err := readAll(endless)
			if err == nil || !strings.Contains(err.Error(), "a section") {
				t.Errorf("error %v, want a limit", err)
			}
		})
	}
}

// loop gives the same block over and over.
type loop struct {
	block []byte
	at    int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.block[l.at:])
	l.at = (l.at + n) % len(l.block)
	return n, nil
}

// captures is the folder of public captures, which are not part of the project.
func captures() string {
	if dir := os.Getenv("UNSPAN_CAPTURES"); dir != "" {
		return dir
	}
	return "../../shared/captures"
}

// TestReadCaptures reads every public capture there is: as many packets as
// its answer says, or an error where the answer says the file is malformed.
func TestReadCaptures(t *testing.T) {
	dir := captures()
	answers, _ := filepath.Glob(filepath.Join(dir, "*.expected.json"))
	more, _ := filepath.Glob(filepath.Join(dir, "synth", "*.expected.json"))
	answers = append(answers, more...)
	if len(answers) == 0 {
		t.Skipf("no captures in %s: set UNSPAN_CAPTURES to a folder that has them", dir)
	}
	for _, path := range answers {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want struct {
				File       string
				Packets    int
				Categories []string
				LinkTypes  map[string]int
			}
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(filepath.Join(filepath.Dir(path), want.File))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			packets, _, err := readAll(f)
			if slices.Contains(want.Categories, "malformed-file") {
				if err == nil || err == io.EOF || !strings.Contains(err.Error(), "at byte") {
					t.Errorf("%d packets, error %v, want one that says where", len(packets), err)
				}
				t.Log(err)
				return
			}
			if err != io.EOF || len(packets) != want.Packets {
				t.Errorf("%d packets, error %v, want %d", len(packets), err, want.Packets)
			}
			links := map[string]int{}
			for _, p := range packets {
				links[strings.Fields(p.iface)[0]]++
			}
			if fmt.Sprint(links) != fmt.Sprint(want.LinkTypes) {
				t.Errorf("link types %v, want %v", links, want.LinkTypes)
			}
		})
	}
}
