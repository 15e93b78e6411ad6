package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// memory is a folder in memory.
func memory(t *testing.T) string {
	t.Helper()
	dir, ok := media(t)["memory"]
	if !ok {
		t.Skip("no /dev/shm to write to: mount -t tmpfs none /dev/shm")
	}
	return dir
}

// fill appends packets of all lengths until n bytes are on their way.
func fill(s *running, id uint32, from, n int) int {
	i := from
	for bytes := 0; bytes < n; i++ {
		size := 20 + i%3000
		s.Lane(0).Append(id, epoch+uint64(i), uint32(size), 0, 0, packet(0, i, size))
		bytes += size
	}
	return i
}

// TestMemoryFile: a file that goes over cells and chunks of all sizes is good
// at every moment and ends without a trace of how it was made.
func TestMemoryFile(t *testing.T) {
	dir := memory(t)
	cfg := store.Default()
	cfg.Path = filepath.Join(dir, "one.pcapng")
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	sent := 0
	for step := range 40 {
		sent = fill(s, id, sent, step*20_000)
		for range 2 { // hands over what there is
			s.Lane(0).Tick(uint64(step)*1e9 + 1)
		}
		s.Lane(0).Tick(uint64(step)*1e9 + 5e8)
		if got := read(t, cfg.Path); len(got.packets) != sent {
			t.Fatalf("step %d: %d packets in the file, %d sent", step, len(got.packets), sent)
		}
	}
	s.Lane(0).Close()
	s.wait(t)
	if got := read(t, cfg.Path); !slices.Equal(got.packets, sequence(0, sent)) {
		t.Errorf("%d packets, want %d in order", len(got.packets), sent)
	}
	info, err := os.Stat(cfg.Path)
	if err != nil || uint64(info.Size()) != s.Size() {
		t.Errorf("%v bytes, %d counted: fillers left?", info.Size(), s.Size())
	}
	tools(t, cfg.Path)
}

// TestRecycle: rotation uses the memory of old files again, and no byte of them
// is seen in the new ones.
func TestRecycle(t *testing.T) {
	dir := memory(t)
	cfg := store.Default()
	cfg.Path, cfg.RotateSize, cfg.Keep = dir, 10<<20, 2
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	inodes := map[uint64]bool{}
	sent := 0
	for range 12 {
		sent = fill(s, id, sent, 5<<20)
		for _, path := range files(t, dir) {
			info, err := os.Stat(path)
			if err != nil {
				continue // just removed
			}
			inodes[info.Sys().(*syscall.Stat_t).Ino] = true
			read(t, path) // good, and its packets are in it
		}
	}
	s.Lane(0).Close()
	s.wait(t)
	if n := s.Files(); n < 5 || len(inodes) != 2 {
		t.Errorf("%d files were %d in memory, want 2", n, len(inodes))
	}
	var all []string
	for _, path := range files(t, dir) {
		all = append(all, read(t, path).packets...)
	}
	if !slices.Equal(all, sequence(0, sent)[sent-len(all):]) || len(all) < 5000 {
		t.Errorf("%d packets, want the last of %d in order", len(all), sent)
	}
	if got := s.Counters(); got.Written != uint64(sent) {
		t.Errorf("counters %+v, want %d written", got, sent)
	}
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(hidden) > 0 {
		t.Errorf("left behind: %v", hidden)
	}
	tools(t, files(t, dir)...)
}

// TestPrepare: files made in advance become the first ones, and are not there
// before nor after.
func TestPrepare(t *testing.T) {
	dir := memory(t)
	cfg := store.Default()
	cfg.Path, cfg.RotateSize, cfg.Keep, cfg.Prepare = dir, 5<<20, 4, 3
	s := start(t, cfg)
	made, _ := filepath.Glob(filepath.Join(dir, ".*"))
	inodes := map[uint64]bool{}
	for _, path := range made {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		inodes[info.Sys().(*syscall.Stat_t).Ino] = true
	}
	if len(made) != 3 || len(files(t, dir)) > 0 {
		t.Errorf("made in advance: %v, to be seen: %v", made, files(t, dir))
	}
	sent := fill(s, s.AddInterface(pcapng.Interface{Name: "a"}), 0, 6<<20)
	s.Lane(0).Close()
	s.wait(t)
	var all []string
	for _, path := range files(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !inodes[info.Sys().(*syscall.Stat_t).Ino] {
			t.Errorf("%s was not made in advance", path)
		}
		all = append(all, read(t, path).packets...)
	}
	if !slices.Equal(all, sequence(0, sent)) {
		t.Errorf("%d packets, want %d in order", len(all), sent)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRecycleLeavesToOthers: who has an old file open, or another name for it,
// keeps it as it was.
func TestRecycleLeavesToOthers(t *testing.T) {
	for _, test := range []struct {
		name string
		hold func(t *testing.T, path, aside string) func() []byte
	}{
		{"open", func(t *testing.T, path, _ string) func() []byte {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return func() []byte {
				defer f.Close()
				var b bytes.Buffer
				if _, err := b.ReadFrom(f); err != nil {
					t.Fatal(err)
				}
				return b.Bytes()
			}
		}},
		{"linked", func(t *testing.T, path, aside string) func() []byte {
			if err := os.Link(path, aside); err != nil {
				t.Fatal(err)
			}
			return func() []byte {
				b, err := os.ReadFile(aside)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := memory(t)
			cfg := store.Default()
			cfg.Path, cfg.RotateSize, cfg.Keep = filepath.Join(dir, "cap")+"/", 8<<20, 2
			s := start(t, cfg)
			id := s.AddInterface(pcapng.Interface{Name: "a"})
			sent := fill(s, id, 0, 9<<20) // the first is full
			first := files(t, cfg.Path)[0]
			want, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			held := test.hold(t, first, filepath.Join(dir, "aside"))
			fill(s, id, sent, 30<<20)
			s.Lane(0).Close()
			s.wait(t)
			if slices.Contains(files(t, cfg.Path), first) {
				t.Errorf("%s is still there", first)
			}
			if got := held(); !bytes.Equal(got, want) {
				t.Errorf("the file that was held has changed: %d bytes of %d", len(got), len(want))
			}
		})
	}
}

// TestFileCutByOthers: to write where there is no page any more would end the
// process. The packets are counted, and the next ones get a new file.
func TestFileCutByOthers(t *testing.T) {
	dir := memory(t)
	cfg := store.Default()
	cfg.Path, cfg.RotateSize = dir, 1<<30
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	sent := fill(s, id, 0, 2<<20)
	if err := os.Truncate(files(t, dir)[0], 0); err != nil {
		t.Fatal(err)
	}
	sent = fill(s, id, sent, 2<<20)
	s.Lane(0).Close()
	s.wait(t)
	c := s.Counters()
	if c.Refused == 0 || c.Written+c.Refused != uint64(sent) {
		t.Errorf("counters %+v of %d", c, sent)
	}
	paths := files(t, dir)
	if len(paths) != 2 {
		t.Fatalf("files %v, want 2", paths)
	}
	got := read(t, paths[1])
	if len(got.packets) == 0 || !strings.HasPrefix(got.packets[len(got.packets)-1], "a 0/") {
		t.Errorf("%d packets in the new file", len(got.packets))
	}
}
