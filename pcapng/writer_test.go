package pcapng_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/unspan/unspan/pcapng"
)

// golden is what each Append function must give, byte for byte: the draft's
// figures with the values written in.
var golden = []struct {
	name   string
	append func([]byte) []byte
	want   string
}{
	{
		"section",
		func(b []byte) []byte {
			return pcapng.AppendSection(b, pcapng.Section{Hardware: "x86", OS: "Linux", Application: "unspan 1", Comment: "c"})
		},
		`0a0d0d0a 48000000 4d3c2b1a 0100 0000 ffffffffffffffff
		 0200 0300 78383600
		 0300 0500 4c696e7578000000
		 0400 0800 756e7370616e2031
		 0100 0100 63000000
		 0000 0000 48000000`,
	},
	{
		"section without options",
		func(b []byte) []byte { return pcapng.AppendSection(b, pcapng.Section{}) },
		`0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000`,
	},
	{
		"interface",
		func(b []byte) []byte {
			return pcapng.AppendInterface(b, pcapng.Interface{
				Name: "a/1", Description: "feed", Filter: "ip", OS: "o", Hardware: "hw", Comment: "cc",
				LinkType: pcapng.LinkEthernet, SnapLen: 128, FCSLength: 4,
			})
		},
		`01000000 58000000 0100 0000 80000000
		 0200 0300 612f3100
		 0300 0400 66656564
		 0900 0100 09000000
		 0b00 0300 00697000
		 0c00 0100 6f000000
		 0d00 0100 04000000
		 0f00 0200 68770000
		 0100 0200 63630000
		 0000 0000 58000000`,
	},
	{
		"interface with nothing known",
		func(b []byte) []byte {
			return pcapng.AppendInterface(b, pcapng.Interface{LinkType: pcapng.LinkRaw, FCSLength: -1})
		},
		`01000000 20000000 6500 0000 00000000 0900 0100 09000000 0000 0000 20000000`,
	},
	{
		"packet",
		func(b []byte) []byte {
			return pcapng.AppendPacket(b, 7, 0x1122334455667788, 1500, 0, 0, []byte{1, 2, 3, 4})
		},
		`06000000 24000000 07000000 44332211 88776655 04000000 dc050000 01020304 24000000`,
	},
	{
		"packet with all options and padding",
		func(b []byte) []byte {
			return pcapng.AppendPacket(b, 0, 1, 5, pcapng.Outbound|pcapng.BadCRC|pcapng.TooShort, 3, []byte{1, 2, 3, 4, 5})
		},
		`06000000 40000000 00000000 00000000 01000000 05000000 05000000 01020304 05000000
		 0200 0400 02000005
		 0400 0800 0300000000000000
		 0000 0000 40000000`,
	},
	{
		"packet with comment",
		func(b []byte) []byte {
			return pcapng.AppendPacketComment(b, 0, 1, 1, pcapng.Inbound, 0, "late", []byte{9})
		},
		`06000000 38000000 00000000 00000000 01000000 01000000 01000000 09000000
		 0100 0400 6c617465
		 0200 0400 01000000
		 0000 0000 38000000`,
	},
	{
		"statistics",
		func(b []byte) []byte {
			return pcapng.AppendStatistics(b, pcapng.Statistics{
				Interface: 2, Time: 1 << 32, Start: 2<<32 | 1, End: 3 << 32,
				Received: 10, Dropped: 1, Accepted: 9, OSDropped: pcapng.Unknown, Delivered: 8,
			})
		},
		`05000000 64000000 02000000 01000000 00000000
		 0200 0800 02000000 01000000
		 0300 0800 03000000 00000000
		 0400 0800 0a00000000000000
		 0500 0800 0100000000000000
		 0600 0800 0900000000000000
		 0800 0800 0800000000000000
		 0000 0000 64000000`,
	},
	{
		"names",
		func(b []byte) []byte {
			return pcapng.AppendNames(b, []pcapng.Name{
				{Address: []byte{192, 0, 2, 1}, Names: []string{"a", "b"}},
				{Address: []byte{0x20, 1, 0xd, 0xb8, 15: 1}, Names: []string{"six"}},
				{Address: []byte{0, 0, 0x5e, 0, 0x53, 1}, Names: []string{"mac"}},
				{Address: []byte{1, 2, 3}, Names: []string{"no such kind"}},
				{Address: []byte{192, 0, 2, 2}},
			})
		},
		`04000000 44000000
		 0100 0800 c0000201 61006200
		 0200 1400 20010db8 00000000 00000000 00000001 73697800
		 0300 0a00 00005e00 53016d61 63000000
		 0000 0000 44000000`,
	},
	{
		"no names",
		func(b []byte) []byte { return pcapng.AppendNames(b, []pcapng.Name{{Address: []byte{1}}}) },
		``,
	},
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppend(t *testing.T) {
	for _, test := range golden {
		t.Run(test.name, func(t *testing.T) {
			want := unhex(t, test.want)
			if got := test.append(nil); !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
			// Old contents of the memory must not shine through the padding,
			// and what is before must stay.
			dirty := bytes.Repeat([]byte{0xee}, 4096)
			if got := test.append(dirty[:5]); !bytes.Equal(got[:5], dirty[:5]) || !bytes.Equal(got[5:], want) {
				t.Errorf("in used memory: got  %x\nwant %x", got[5:], want)
			}
		})
	}
}

func TestOptionTooLongIsCutBetweenCharacters(t *testing.T) {
	long := strings.Repeat("é", 40000) // 80000 bytes, an option holds 65535
	r := mustRead(t, pcapng.AppendSection(nil, pcapng.Section{Comment: long, OS: "a\xffb"}))
	if got, want := r.Section().Comment, long[:65534]; got != want {
		t.Errorf("comment has %d bytes, want %d", len(got), len(want))
	}
	if got, want := r.Section().OS, "a\uFFFDb"; got != want {
		t.Errorf("os %q, want %q", got, want)
	}
}

func TestNamesTooManyForOneRecord(t *testing.T) {
	names := make([]string, 70000)
	for i := range names {
		names[i] = "x"
	}
	got := pcapng.AppendNames(nil, []pcapng.Name{{Address: make([]byte, 4), Names: names}})
	if len(got) > 0xffff+32 {
		t.Errorf("a record of %d bytes", len(got))
	}
}

// What is written is read; what is wrong with names costs
// nothing but names.
func TestNamesAreRead(t *testing.T) {
	section := pcapng.AppendSection(nil, pcapng.Section{})
	good := []pcapng.Name{
		{Address: []byte{192, 0, 2, 1}, Names: []string{"a", "b"}},
		{Address: []byte{0x20, 1, 0xd, 0xb8, 15: 1}, Names: []string{"six"}},
		{Address: []byte{0, 0, 0x5e, 0, 0x53, 1}, Names: []string{"mac"}},
	}
	for _, test := range []struct {
		name   string
		change func([]byte) []byte // of the block
		want   []pcapng.Name
	}{
		{"as written", func(b []byte) []byte { return b }, good},
		{"two blocks", func(b []byte) []byte { return append(b, b...) }, append(good, good...)},
		{"a record of an unknown kind", func(b []byte) []byte { b[8] = 9; return b }, good[1:]},
		{"a record longer than the block", func(b []byte) []byte { b[8+12+2] = 200; return b }, good[:1]},
		{"a record without a name", func(b []byte) []byte { b[8+2] = 4; return b }, nil},
	} {
		block := test.change(pcapng.AppendNames(nil, good))
		file := pcapng.AppendInterface(append(bytes.Clone(section), block...), pcapng.Interface{})
		file = pcapng.AppendPacket(file, 0, 1, 1, 0, 0, []byte{1})
		r := mustRead(t, file)
		var p pcapng.Packet
		if err := r.Next(&p); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := r.Names(); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Very many names are in several blocks, none of which is large.
func TestNamesTooManyForOneBlock(t *testing.T) {
	var names []pcapng.Name
	for i := range 100_000 {
		names = append(names, pcapng.Name{Address: []byte{10, byte(i >> 16), byte(i >> 8), byte(i)}, Names: []string{"name.example"}})
	}
	blocks := 0
	for b := pcapng.AppendNames(nil, names); len(b) > 0; blocks++ {
		size := binary.LittleEndian.Uint32(b[4:])
		if kind := binary.LittleEndian.Uint32(b); kind != 4 || size > 512<<10 || int(size) > len(b) || binary.LittleEndian.Uint32(b[size-4:]) != size {
			t.Fatalf("block %d is of type %d and %d bytes", blocks, kind, size)
		}
		b = b[size:]
	}
	if size := 24 * len(names); blocks != size/(256<<10)+1 {
		t.Errorf("%d blocks for %d bytes of records", blocks, size)
	}
}

func TestPacketHead(t *testing.T) {
	b := pcapng.AppendPacket(nil, 0, 0x1122334455667788, 3, 0, 9, []byte{1, 2, 3})
	size, captured, time := pcapng.PacketHead(b)
	if size != len(b) || captured != 3 || time != 0x1122334455667788 {
		t.Errorf("size %d captured %d time %#x, want %d 3 0x1122334455667788", size, captured, time, len(b))
	}
}

// broken fails after n bytes, as a full disk does.
type broken struct {
	n   int
	got int
}

func (b *broken) Write(p []byte) (int, error) {
	if b.got+len(p) > b.n {
		return 0, errors.New("no space left")
	}
	b.got += len(p)
	return len(p), nil
}

func TestWriterAfterError(t *testing.T) {
	w := pcapng.NewWriter(&broken{n: 100_000}, pcapng.Section{})
	if err := w.WritePacket(0, 0, 0, 0, 0, nil); err == nil {
		t.Error("a packet of an interface that was never added: no error")
	}
	id, err := w.AddInterface(pcapng.Interface{})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err = w.WritePacket(id, 0, 1000, 0, 0, make([]byte, 1000)); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("error %v, want no space left", err)
	}
	if again := w.Flush(); again != err {
		t.Errorf("after the error: %v, want the same again", again)
	}
}

// TestWriterHandsOverWholeBlocks: what has arrived after each write is a file.
func TestWriterHandsOverWholeBlocks(t *testing.T) {
	var file bytes.Buffer
	writes := 0
	w := pcapng.NewWriter(writerFunc(func(p []byte) (int, error) {
		writes++
		file.Write(p)
		r := mustRead(t, file.Bytes())
		for {
			var p pcapng.Packet
			if err := r.Next(&p); err != nil {
				if !isEOF(err) {
					t.Errorf("after write %d: %v", writes, err)
				}
				break
			}
		}
		return len(p), nil
	}), pcapng.Section{})
	id, _ := w.AddInterface(pcapng.Interface{Name: "x"})
	for i := range 1000 {
		if err := w.WritePacket(id, uint64(i), 2000, 0, 0, make([]byte, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil || writes < 3 {
		t.Errorf("%d writes, error %v: want several and none", writes, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestWiresharkReads: every block is understood by the tools users have.
func TestWiresharkReads(t *testing.T) {
	b := pcapng.AppendSection(nil, pcapng.Section{Hardware: "x86", OS: "Linux", Application: "unspan", Comment: "test"})
	b = pcapng.AppendInterface(b, pcapng.Interface{Name: "192.0.2.7/erspan2/1000", Description: "top of rack", Filter: "ip", LinkType: pcapng.LinkEthernet, SnapLen: 128})
	b = pcapng.AppendInterface(b, pcapng.Interface{Name: "raw", LinkType: pcapng.LinkRaw, FCSLength: -1})
	b = pcapng.AppendNames(b, []pcapng.Name{
		{Address: []byte{192, 0, 2, 7}, Names: []string{"leaf7.example"}},
		{Address: []byte{0, 0, 0x5e, 0, 0x53, 1}, Names: []string{"host1"}},
	})
	const day = 1_700_000_000_123_456_789
	frame := unhex(t, "00005e005301 00005e005302 88b5"+strings.Repeat("00", 46))
	b = pcapng.AppendPacket(b, 0, day, 60, pcapng.Inbound, 0, frame)
	b = pcapng.AppendPacket(b, 0, day+1, 1500, pcapng.Outbound|pcapng.BadCRC, 17, frame)
	filler := make([]byte, 64)
	pcapng.PutFillerHead(filler, 64)
	pcapng.PutFillerTail(filler[60:], 64)
	b = append(b, filler...)
	b = pcapng.AppendPacketComment(b, 1, day+2, 20, 0, 0, "a bare packet", unhex(t, "45000014 00000000 40fd0000 c0000207 c0000208"))
	b = pcapng.AppendStatistics(b, pcapng.Statistics{Interface: 0, Time: day + 3, Start: day, End: day + 3, Received: 20, Dropped: 17, Accepted: 3, OSDropped: 0, Delivered: 3})
	path := filepath.Join(t.TempDir(), "all.pcapng")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}

	fields := []string{"-r", path, "-n", "-T", "fields"}
	for _, f := range []string{"frame.time_epoch", "frame.len", "frame.interface_name", "frame.interface_description", "frame.packet_flags", "frame.drop_count", "frame.comment"} {
		fields = append(fields, "-e", f)
	}
	want := "1700000000.123456789\t60\t192.0.2.7/erspan2/1000\ttop of rack\t0x00000001\t\t\n" +
		"1700000000.123456790\t1500\t192.0.2.7/erspan2/1000\ttop of rack\t0x01000002\t17\t\n" +
		"1700000000.123456791\t20\traw\t\t\t\ta bare packet\n"
	if got := tool(t, "tshark", fields...); got != want {
		t.Errorf("tshark:\n%swant:\n%s", got, want)
	}
	if got := tool(t, "tshark", "-r", path, "-q", "-z", "hosts"); !strings.Contains(got, "192.0.2.7\tleaf7.example") {
		t.Errorf("tshark does not know the name:\n%s", got)
	}
	info := tool(t, "capinfos", path)
	for _, line := range []string{"Number of packets:   3", "Strict time order:   True", "Capture hardware:    x86", "Capture application: unspan", "Number of interfaces in file: 2"} {
		if !strings.Contains(info, line) {
			t.Errorf("capinfos does not say %q:\n%s", line, info)
		}
	}
}

// tool runs one of Wireshark's and returns what it prints; a warning fails.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatalf("%s is not installed: apt-get install tshark", name)
		}
		t.Skipf("%s is not installed: apt-get install tshark", name)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=") // nobody's preferences
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	warnings := slices.DeleteFunc(strings.Split(stderr.String(), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "Running as user")
	})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%s %q: %v: %s", name, args, err, strings.Join(warnings, "\n"))
	}
	return stdout.String()
}
