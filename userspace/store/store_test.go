package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// epoch is the time of the first packet of a test.
const epoch = 1_700_000_000_000_000_000

// media are folders on what a store may write to.
func media(t *testing.T) map[string]string {
	t.Helper()
	dirs := map[string]string{"disk": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "store"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs["memory"] = dir
	}
	return dirs
}

// running is a store with its Run going on.
type running struct {
	*store.Store
	done chan error
}

func start(t *testing.T, cfg store.Config) *running {
	t.Helper()
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{s, make(chan error, 1)}
	go func() { r.done <- s.Run() }()
	return r
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// packet is the data of the i-th packet of a lane: it says which it is.
func packet(lane, i, size int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, size)
	copy(b, fmt.Sprintf("%d/%d.", lane, i))
	return b
}

// file is what a test sees of a capture file.
type file struct {
	interfaces []string
	packets    []string // interface name, lane/number
	times      []uint64
	statistics []pcapng.Statistics
	section    pcapng.Section
}

func read(t *testing.T, path string) file {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parse(b)
	if err != io.EOF {
		t.Errorf("%s: %v", path, err)
	}
	return f
}

func parse(b []byte) (file, error) {
	r, err := pcapng.NewReader(bytes.NewReader(b))
	if err != nil {
		return file{}, err
	}
	f := file{section: r.Section()}
	for {
		var p pcapng.Packet
		if err = r.Next(&p); err != nil {
			break
		}
		what, _, _ := bytes.Cut(p.Data, []byte("."))
		f.packets = append(f.packets, p.Interface.Name+" "+string(what))
		f.times = append(f.times, p.Time)
	}
	for _, i := range r.Interfaces() {
		f.interfaces = append(f.interfaces, i.Name)
	}
	f.statistics = r.Statistics()
	return f, err
}

// files are the captures in a folder, in the order they were written.
func files(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func sequence(lane, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("a %d/%d", lane, i))
	}
	return all
}

func writers(t *testing.T, f func(t *testing.T, dir string, w store.Writer)) {
	for _, w := range []store.Writer{store.Inline, store.Thread} {
		for medium, dir := range media(t) {
			t.Run(medium+", "+string(w), func(t *testing.T) { f(t, dir, w) })
		}
	}
}

func TestFile(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		cfg := store.Default()
		cfg.Path = filepath.Join(dir, "one.pcapng")
		if err := os.WriteFile(cfg.Path, bytes.Repeat([]byte("old"), 1e6), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Writer, cfg.Chunk = w, 8<<10
		cfg.Section = pcapng.Section{Application: "test"}
		cfg.Statistics = func(id uint32) pcapng.Statistics {
			return pcapng.Statistics{Received: uint64(id) + 5}
		}
		s := start(t, cfg)
		if got := read(t, cfg.Path); len(got.packets) != 0 || got.section.Application != "test" {
			t.Errorf("before the first packet: %+v, want a header", got)
		}
		id := s.AddInterface(pcapng.Interface{Name: "a"})
		lane := s.Lane(0)
		const n = 1000
		var bytes uint64
		for i := range n {
			if i == n/2 {
				if got := s.AddInterface(pcapng.Interface{Name: "b"}); got != 1 {
					t.Errorf("second interface has id %d", got)
				}
			}
			if got := s.AddInterface(pcapng.Interface{Name: "a"}); got != id {
				t.Errorf("the same interface has id %d, then %d", id, got)
			}
			size := 20 + i%100
			bytes += uint64(size)
			lane.Append(id, epoch+uint64(i), 1500, 0, 0, packet(0, i, size))
		}
		lane.Close()
		s.wait(t)

		got := read(t, cfg.Path)
		if !slices.Equal(got.packets, sequence(0, n)) {
			t.Errorf("%d packets, want %d in order", len(got.packets), n)
		}
		if want := []string{"a", "b"}; !slices.Equal(got.interfaces, want) {
			t.Errorf("interfaces %v, want %v", got.interfaces, want)
		}
		if len(got.statistics) != 2 || got.statistics[0].Received != 5 || got.statistics[1].Received != 6 {
			t.Errorf("statistics %+v", got.statistics)
		}
		if got, want := s.Counters(), (store.Counters{Written: n, WrittenBytes: bytes}); got != want {
			t.Errorf("counters %+v, want %+v", got, want)
		}
		info, err := os.Stat(cfg.Path)
		if err != nil || uint64(info.Size()) != s.Size() || s.Files() != 1 {
			t.Errorf("%d files of %d bytes, want 1 of %v", s.Files(), s.Size(), info.Size())
		}
		tools(t, cfg.Path)
	})
}

// TestPacketLargerThanChunk: nothing is too large for a chunk.
func TestPacketLargerThanChunk(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		cfg := store.Default()
		cfg.Path = filepath.Join(dir, "large.pcapng")
		cfg.Writer, cfg.Chunk = w, 4<<10
		s := start(t, cfg)
		id := s.AddInterface(pcapng.Interface{Name: "a"})
		for i, size := range []int{100, 4050, 9000, 65536, 100, 300_000, 100} {
			s.Lane(0).Append(id, epoch, uint32(size), 0, 0, packet(0, i, size))
		}
		s.Lane(0).Close()
		s.wait(t)
		if got := read(t, cfg.Path); !slices.Equal(got.packets, sequence(0, 7)) {
			t.Errorf("packets %v", got.packets)
		}
	})
}

// TestTick hands over what waits, so that a slow feed is seen.
func TestTick(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		cfg := store.Default()
		cfg.Path = filepath.Join(dir, "slow.pcapng")
		cfg.Writer, cfg.Flush = w, time.Second
		s := start(t, cfg)
		lane := s.Lane(0)
		lane.Tick(epoch)
		lane.Append(s.AddInterface(pcapng.Interface{Name: "a"}), epoch, 1, 0, 0, packet(0, 0, 20))
		lane.Tick(epoch)
		lane.Tick(epoch + 999_999_999)
		if got := s.Counters(); got != (store.Counters{}) {
			t.Errorf("before the time: %+v", got)
		}
		lane.Tick(epoch + 1_000_000_000)
		for s.Counters().Written == 0 { // the writer is on it
			time.Sleep(time.Millisecond)
		}
		if got := read(t, cfg.Path); len(got.packets) != 1 {
			t.Errorf("after the time: %v", got.packets)
		}
		lane.Close()
		s.wait(t)
	})
}

func TestRotateSize(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		dir = filepath.Join(dir, "made") + "/"
		cfg := store.Default()
		cfg.Path, cfg.Writer, cfg.RotateSize = dir, w, 64<<10
		s := start(t, cfg)
		id := s.AddInterface(pcapng.Interface{Name: "a"})
		const n = 2000
		for i := range n {
			if i == n/2 {
				s.AddInterface(pcapng.Interface{Name: "b"})
			}
			s.Lane(0).Append(id, epoch+uint64(i)*1e6, 1, 0, 0, packet(0, i, 200))
		}
		s.Lane(0).Close()
		s.wait(t)

		paths := files(t, dir)
		if len(paths) < 7 || len(paths) > 10 || uint64(len(paths)) != s.Files() {
			t.Errorf("%d files, %d opened, want about 8", len(paths), s.Files())
		}
		name := regexp.MustCompile(`^unspan-\d{8}T\d{6}\.\d{3}-(\d{5})\.pcapng$`)
		var all []string
		for i, path := range paths {
			m := name.FindStringSubmatch(filepath.Base(path))
			if m == nil || m[1] != fmt.Sprintf("%05d", i+1) {
				t.Errorf("file %d is called %s", i, filepath.Base(path))
			}
			got := read(t, path)
			if info, _ := os.Stat(path); info.Size() > cfg.RotateSize {
				t.Errorf("%s has %d bytes", path, info.Size())
			}
			if at := time.Unix(0, int64(got.times[0])).UTC().Format("20060102T150405.000"); !strings.Contains(path, at) {
				t.Errorf("%s begins at %s", path, at)
			}
			all = append(all, got.packets...)
		}
		if w == store.Inline { // slow, and the files are the same
			tools(t, paths...)
		}
		if !slices.Equal(all, sequence(0, n)) {
			t.Errorf("%d packets, want %d in order", len(all), n)
		}
		last := read(t, paths[len(paths)-1])
		if want := []string{"a", "b"}; !slices.Equal(last.interfaces, want) {
			t.Errorf("the last file knows interfaces %v, want %v", last.interfaces, want)
		}
	})
}

// TestRotateInterval: files change exactly at the interval, whatever chunks do.
func TestRotateInterval(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		cfg := store.Default()
		cfg.Path = filepath.Join(dir, "cap.x.pcapng")
		cfg.Writer, cfg.RotateInterval = w, time.Minute
		s := start(t, cfg)
		id := s.AddInterface(pcapng.Interface{Name: "a"})
		const n, step = 500, 1_000_000_007 // a bit more than a second
		want := map[uint64]int{}
		for i := range n {
			at := uint64(epoch + i*step)
			want[at/60e9]++
			s.Lane(0).Append(id, at, 1, 0, 0, packet(0, i, 50))
		}
		s.Lane(0).Close()
		s.wait(t)
		got := map[uint64]int{}
		var all []string
		for i, path := range files(t, dir) {
			if want := fmt.Sprintf("-%05d.pcapng", i+1); !strings.HasPrefix(filepath.Base(path), "cap.x-20") || !strings.HasSuffix(path, want) {
				t.Errorf("file %d is called %s", i, path)
			}
			f := read(t, path)
			for _, at := range f.times {
				got[at/60e9]++
				if at/60e9 != f.times[0]/60e9 {
					t.Errorf("%s has packets of two intervals", path)
				}
			}
			all = append(all, f.packets...)
		}
		if !maps.Equal(got, want) || len(files(t, dir)) != len(want) {
			t.Errorf("%d files, intervals %v\nwant %v", len(files(t, dir)), got, want)
		}
		if !slices.Equal(all, sequence(0, n)) {
			t.Errorf("%d packets, want %d in order", len(all), n)
		}
		if c := s.Counters(); c != (store.Counters{Written: n, WrittenBytes: n * 50}) {
			t.Errorf("counters %+v", c)
		}
	})
}

// TestKeep removes the oldest of its own files, those of an earlier run
// included, and no other.
func TestKeep(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		foreign := []string{".a.pcapng", "a.pcapng", "unspan-1.pcapng", "unspan-20200101T000000.000-00001.pcap",
			"other-20200101T000000.000-00001.pcapng", "unspan-0-20200101T000000.000-00001.pcapng", "xunspan-20200101T000000.000-00001.pcapng"}
		earlier := []string{".unspan-20200101T000002.000-00010.pcapng", "unspan-20200101T000000.000-00008.pcapng", "unspan-20200101T000001.000-00009.pcapng"}
		for _, name := range slices.Concat(foreign, earlier) {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := store.Default()
		cfg.Path, cfg.Writer, cfg.RotateSize, cfg.Keep = dir, w, 16<<10, 3
		s := start(t, cfg)
		id := s.AddInterface(pcapng.Interface{Name: "a"})
		const n = 2000
		for i := range n {
			s.Lane(0).Append(id, epoch+uint64(i), 1, 0, 0, packet(0, i, 50))
		}
		s.Lane(0).Close()
		s.wait(t)

		own := regexp.MustCompile(`^unspan-\d{8}T\d{6}\.\d{3}-(\d{5})\.pcapng$`)
		var others, numbers, packets []string
		paths, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, path := range paths {
			if m := own.FindStringSubmatch(filepath.Base(path)); m != nil {
				numbers = append(numbers, m[1])
				packets = append(packets, read(t, path).packets...)
			} else {
				others = append(others, filepath.Base(path))
			}
		}
		slices.Sort(foreign)
		if !slices.Equal(others, foreign) {
			t.Errorf("other files %v, want %v", others, foreign)
		}
		first := 9 + int(s.Files()) - 2 // numbers go on where the earlier run ended
		want := []string{fmt.Sprintf("%05d", first), fmt.Sprintf("%05d", first+1), fmt.Sprintf("%05d", first+2)}
		if !slices.Equal(numbers, want) {
			t.Errorf("own files %v, want %v", numbers, want)
		}
		if len(packets) == 0 || packets[len(packets)-1] != fmt.Sprintf("a 0/%d", n-1) {
			t.Errorf("the newest packets are not there")
		}
	})
}

// TestKeepFile: a single file rotates beside itself, and an existing name is
// never reused.
func TestKeepFile(t *testing.T) {
	dir := t.TempDir()
	cfg := store.Default()
	cfg.Path, cfg.RotateSize, cfg.Keep = filepath.Join(dir, "cap"), 16<<10, 1
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	for i := range 1000 {
		s.Lane(0).Append(id, epoch, 1, 0, 0, packet(0, i, 50))
	}
	s.Lane(0).Close()
	s.wait(t)
	paths := files(t, dir)
	if len(paths) != 1 || !regexp.MustCompile(`/cap-\d{8}T\d{6}\.\d{3}-\d{5}$`).MatchString(paths[0]) {
		t.Errorf("files %v, want one", paths)
	}
}

// TestDirectoryOfLanes: each lane has its files, with the same interface ids.
func TestDirectoryOfLanes(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		cfg := store.Default()
		cfg.Path, cfg.Writer, cfg.Lanes, cfg.Prefix = dir, w, 3, "cap"
		s := start(t, cfg)
		s.AddInterface(pcapng.Interface{Name: "unused"})
		for lane := range 3 {
			id := s.AddInterface(pcapng.Interface{Name: "a"})
			for i := range 100 {
				s.Lane(lane).Append(id, epoch, 1, 0, 0, packet(lane, i, 50))
			}
			s.Lane(lane).Close()
		}
		s.wait(t)
		paths := files(t, dir)
		if len(paths) != 3 {
			t.Fatalf("files %v, want 3", paths)
		}
		for lane, path := range paths {
			if !strings.HasPrefix(filepath.Base(path), fmt.Sprintf("cap-%d-", lane)) {
				t.Errorf("file of lane %d is called %s", lane, path)
			}
			if got := read(t, path); !slices.Equal(got.packets, sequence(lane, 100)) || len(got.interfaces) != 2 {
				t.Errorf("lane %d: interfaces %v, packets %v", lane, got.interfaces, got.packets)
			}
		}
	})
}

// TestBacklog: a writer that stands still costs packets, each is counted, and
// the worker never waits.
func TestBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // both ends: opening does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cfg := store.Default()
	cfg.Path, cfg.Chunk, cfg.Backlog = path, 64<<10, 256<<10
	s := start(t, cfg)
	lane := s.Lane(0)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const n, size = 10_000, 500
	for i := range n {
		lane.Append(id, epoch+uint64(i), 1, 0, 0, packet(0, i, size))
	}
	if lost := lane.Counters().Backlog; lost < n/2 {
		t.Errorf("%d of %d lost to backlog: the pipe held the rest?", lost, n)
	}
	var got bytes.Buffer
	copied := make(chan error)
	go func() {
		r, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(&got, r)
			r.Close()
		}
		copied <- err
	}()
	for lane.Counters().Written == 0 {
		time.Sleep(time.Millisecond)
	}
	lane.Close()
	s.wait(t)
	reader.Close()
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	f, err := parse(got.Bytes())
	c := s.Counters()
	if err != io.EOF || uint64(len(f.packets)) != c.Written || c.Refused != 0 || c.Written+c.Backlog != n || c.WrittenBytes != c.Written*size {
		t.Errorf("read %d packets, %v; counters %+v of %d", len(f.packets), err, c, n)
	}
	if !slices.IsSorted(f.times) || f.packets[0] != "a 0/0" {
		t.Error("the packets are not in order from the first")
	}
}

// TestPipeReaderGone: the store says so, counts what it cannot write, and ends.
func TestPipeReaderGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := store.Default()
	cfg.Path = path
	cfg.Statistics = func(uint32) pcapng.Statistics { return pcapng.Statistics{Received: 7} }
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const n = 5000
	for i := range n {
		s.Lane(0).Append(id, epoch+uint64(i), 1, 0, 0, packet(0, i, 1000))
		if i == 0 {
			// With the interface written there are statistics to fail at the end.
			for now := uint64(epoch); s.Counters().Written == 0; now += 1e9 {
				s.Lane(0).Tick(now)
				time.Sleep(time.Millisecond)
			}
			reader.Close()
		}
	}
	<-s.Failed()
	s.Lane(0).Close()
	if err := <-s.done; !errors.Is(err, syscall.EPIPE) || strings.Count(err.Error(), "the reader of the pipe has gone") != 1 {
		t.Errorf("Run: %v, want EPIPE, told once", err)
	}
	if c := s.Counters(); c.Refused == 0 || c.Written+c.Refused+c.Backlog != n {
		t.Errorf("counters %+v of %d", c, n)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		alter func(*store.Config)
		want  string
	}{
		{"no path", func(c *store.Config) { c.Path = "" }, "path is empty"},
		{"no folder", func(c *store.Config) { c.Path = filepath.Join(dir, "no/such") }, dir + "/no/such: no such file or directory: make the directory first"},
		{"folder in a file", func(c *store.Config) { c.Path = plain + "/x" }, "not a directory: a part of the path is a file"},
		{"new folder in no folder", func(c *store.Config) { c.Path = filepath.Join(dir, "no/such") + "/" }, "making output directory"},
		{"prefix", func(c *store.Config) { c.Prefix = "a/b" }, "prefix"},
		{"rotate size", func(c *store.Config) { c.RotateSize = 1000 }, "rotate size 1000"},
		{"rotate interval", func(c *store.Config) { c.RotateInterval = 5 }, "rotate interval 5ns"},
		{"keep", func(c *store.Config) { c.Keep = -1 }, "keep -1"},
		{"keep without rotation", func(c *store.Config) { c.Keep = 3 }, "keep: needs a rotate size"},
		{"prepare", func(c *store.Config) { c.Prepare = -1 }, "prepare -1"},
		{"prepare without a size", func(c *store.Config) { c.Prepare = 1 }, "prepare: needs a rotate size"},
		{"rotation of standard output", func(c *store.Config) { c.Path, c.RotateSize = "-", 1<<20 }, "standard output is one stream"},
		{"lanes", func(c *store.Config) { c.Lanes = 0 }, "lanes 0"},
		{"writer", func(c *store.Config) { c.Writer = "x" }, `writer "x"`},
		{"inline merge", func(c *store.Config) { c.Writer, c.Lanes = store.Inline, 2 }, "merged by a thread"},
		{"chunk", func(c *store.Config) { c.Chunk = 5000 }, "chunk 5000"},
		{"backlog", func(c *store.Config) { c.Backlog = 100 }, "backlog 100"},
		{"flush", func(c *store.Config) { c.Flush = 0 }, "flush 0s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := store.Default()
			cfg.Path = filepath.Join(dir, "out.pcapng")
			test.alter(&cfg)
			s, err := store.Open(cfg)
			if s != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if got := files(t, dir); !slices.Equal(got, []string{plain}) {
		t.Errorf("left behind: %v", got)
	}
}

// TestNoPackets: a capture of nothing is a file that says so.
func TestNoPackets(t *testing.T) {
	cfg := store.Default()
	cfg.Path, cfg.RotateSize, cfg.Keep = t.TempDir(), 1<<20, 2
	cfg.Statistics = func(uint32) pcapng.Statistics { return pcapng.Statistics{Received: 7} }
	s := start(t, cfg)
	s.AddInterface(pcapng.Interface{Name: "a"})
	s.Lane(0).Close()
	s.wait(t)
	paths := files(t, cfg.Path)
	if len(paths) != 1 {
		t.Fatalf("files %v, want one", paths)
	}
	if got := read(t, paths[0]); len(got.statistics) != 1 || got.statistics[0].Received != 7 {
		t.Errorf("statistics %+v", got.statistics)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	cfg := store.Default()
	cfg.Path = filepath.Join(t.TempDir(), "x.pcapng")
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if got := read(t, cfg.Path); len(got.packets) != 0 {
		t.Errorf("packets %v", got.packets)
	}
}

// tools lets Wireshark's own read the file: a warning fails.
func tools(t *testing.T, paths ...string) {
	t.Helper()
	for _, name := range []string{"capinfos", "tshark"} {
		tool, err := exec.LookPath(name)
		if err != nil {
			if os.Getenv("UNSPAN_CI") == "1" {
				t.Fatalf("%s is not installed: apt-get install tshark", name)
			}
			t.Logf("not checked with %s, it is not installed: apt-get install tshark", name)
			continue
		}
		args := paths
		if name == "tshark" { // slow to start
			args = []string{"-n", "-q", "-r", paths[len(paths)-1]}
		}
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(tool, args...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=") // nobody's preferences
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err = cmd.Run()
		warnings := slices.DeleteFunc(strings.Split(stderr.String(), "\n"), func(line string) bool {
			return line == "" || strings.HasPrefix(line, "Running as user")
		})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s %s: %v: %s", name, paths, err, strings.Join(warnings, "\n"))
		}
		if n := strings.Count(stdout.String(), "Strict time order:   True"); name == "capinfos" && n != len(paths) {
			t.Errorf("capinfos %s: %d of %d files in strict time order", paths, n, len(paths))
		}
	}
}
