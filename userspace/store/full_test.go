package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// small mounts a file system in memory that holds size bytes.
func small(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal("needs root to mount a small file system")
		}
		t.Skip("needs root to mount a small file system: sudo go test")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
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
		{"rotating", func(c *store.Config) { c.RotateSize = 256 << 10 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := small(t, "4m")
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			cfg := store.Default()
			cfg.Path, cfg.Chunk = filepath.Join(dir, "cap.pcapng"), 64<<10
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			test.alter(&cfg)
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
				if path != ballast {
					read(t, path) // good, at the very moment
				}
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
			if strings.Count(text, "output refuses packets") != 1 || strings.Count(text, "output takes packets again") != 1 ||
				!strings.Contains(text, "no space left on device: free space") || !strings.Contains(text, dir) {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}
