package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// small mounts a file system of 16 MiB: in memory, or on a disk that is a file.
func small(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal("needs root to mount a small file system")
		}
		t.Skip("needs root to mount a small file system: sudo go test")
	}
	dir := t.TempDir()
	mount := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "none", dir)
	if kind == "ext4" {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 16<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ext4: %v: %s", err, out)
		}
		mount = exec.Command("mount", "-o", "loop", image, dir)
	}
	if out, err := mount.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return dir
}

// TestDiskFull: packets that do not fit are counted, the file stays good, and
// the capture goes on when there is space again.
func TestDiskFull(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(*store.Config)
	}{
		{"inline", func(c *store.Config) { c.Writer = store.Inline }},
		{"thread", func(c *store.Config) { c.Writer = store.Thread }},
		{"rotating", func(c *store.Config) { c.RotateSize = 1 << 20 }},
	} {
		for _, kind := range []string{"tmpfs", "ext4"} {
			t.Run(test.name+" on "+kind, func(t *testing.T) { full(t, small(t, kind), test.alter) })
		}
	}
}

func full(t *testing.T, dir string, alter func(*store.Config)) {
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "captures")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := store.Default()
	cfg.Path, cfg.Chunk = filepath.Join(dir, "cap.pcapng"), 64<<10
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	alter(&cfg)
	s := start(t, cfg)
	lane := s.Lane(0)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const size = 1000
	sent := 0
	send := func(until func(store.Counters) bool) {
		for deadline := time.Now().Add(30 * time.Second); !until(lane.Counters()); sent++ {
			if time.Now().After(deadline) {
				t.Fatalf("counters %+v after %d packets", lane.Counters(), sent)
			}
			lane.Append(id, epoch+uint64(sent), size, 0, 0, packet(0, sent, size))
			if sent%64 == 63 { // give a thread its turn
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	send(func(c store.Counters) bool { return c.Refused > 2000 })
	full := lane.Counters().Written
	for _, path := range files(t, dir) {
		read(t, path) // good, at the very moment
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	send(func(c store.Counters) bool { return c.Written > full+500 })
	lane.Close()
	s.wait(t)

	c := lane.Counters()
	if c.Written+c.Refused+c.Backlog != uint64(sent) || c.WrittenBytes != c.Written*size {
		t.Errorf("counters %+v of %d", c, sent)
	}
	var packets []string
	var times []uint64
	for _, path := range files(t, dir) {
		f := read(t, path)
		packets, times = append(packets, f.packets...), append(times, f.times...)
	}
	tools(t, files(t, dir)...)
	if uint64(len(packets)) != c.Written || !slices.IsSorted(times) {
		t.Errorf("%d packets in files, %d counted written; in order: %v", len(packets), c.Written, slices.IsSorted(times))
	}
	text := log.String()
	// It may be full once more before the test ends.
	refuses, again := strings.Count(text, "output refuses packets"), strings.Count(text, "output takes packets again")
	if again == 0 || refuses < again || refuses > again+1 ||
		!strings.Contains(text, "pcapng: no space left on device: free space") || !strings.Contains(text, dir) {
		t.Errorf("log:\n%s", text)
	}
}
