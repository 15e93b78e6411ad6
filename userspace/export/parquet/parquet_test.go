package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// noon is a time of the tests' clock.
var noon = time.Date(2026, 11, 22, 12, 0, 10, 0, time.UTC)

func flows(first, n int) []flow.Flow {
	all := make([]flow.Flow, n)
	for i := range all {
		all[i] = flow.Flow{
			ID: uint64(first + i), First: 1_764_000_000_123_456_789, Last: 1_764_000_001_123_456_789, Weight: 1,
			Address: [2][16]byte{{10: 0xff, 11: 0xff, 12: 198, 13: 51, 14: 100, 15: 7}, {10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 1}},
			Packets: [2]uint64{uint64(i), 1}, EtherType: 0x0800, Protocol: 6, TCPState: flow.StateClosed, End: flow.EndIdle,
		}
	}
	return all
}

// newSink makes a sink with a clock that the test sets.
func newSink(t *testing.T, change func(*Config)) (*Sink, *time.Time) {
	t.Helper()
	c := Default()
	c.Files.Dir = t.TempDir()
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	clock := noon
	s.now = func() time.Time { return clock }
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, &clock
}

func write(t *testing.T, s *Sink, records []flow.Flow) {
	t.Helper()
	if n, err := s.Write(context.Background(), records); n != len(records) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(records), err)
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func rows(t *testing.T, path string) []export.Row {
	t.Helper()
	all, err := parquet.ReadFile[export.Row](path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRows reads back what was written, through several row groups.
func TestRows(t *testing.T) {
	s, _ := newSink(t, func(c *Config) { c.Group = 100 })
	records := flows(1, 450)
	for part := range slices.Chunk(records, 64) {
		write(t, s, part)
	}
	if got := names(t, s.config.Files.Dir); !slices.Equal(got, []string{".flows-20261122T120010Z.parquet.part"}) {
		t.Errorf("while it grows: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s.config.Files.Dir); !slices.Equal(got, []string{"flows-20261122T120010Z.parquet"}) {
		t.Fatalf("when it is whole: %v", got)
	}
	path := filepath.Join(s.config.Files.Dir, "flows-20261122T120010Z.parquet")
	got := rows(t, path)
	if len(got) != len(records) {
		t.Fatalf("%d rows, want %d", len(got), len(records))
	}
	for i := range got {
		if want := export.RowOf(&records[i], nil); got[i] != want {
			t.Fatalf("row %d\n got %+v\nwant %+v", i, got[i], want)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := parquet.OpenFile(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(opened.RowGroups()); n != 5 {
		t.Errorf("%d row groups, want 5", n)
	}
}

// TestRotation begins files by the clock, though nothing arrives, and when they
// are long enough.
func TestRotation(t *testing.T) {
	s, clock := newSink(t, func(c *Config) { c.Rows = 10 })
	write(t, s, flows(1, 4))
	*clock = noon.Add(4 * time.Minute)
	write(t, s, flows(5, 1))
	*clock = noon.Add(5 * time.Minute)
	write(t, s, nil)
	if got := names(t, s.config.Files.Dir); !slices.Equal(got, []string{"flows-20261122T120010Z.parquet"}) {
		t.Errorf("after five minutes: %v", got)
	}
	write(t, s, flows(6, 25))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	var counts []int
	for _, name := range names(t, s.config.Files.Dir) {
		got := rows(t, filepath.Join(s.config.Files.Dir, name))
		counts = append(counts, len(got))
		for _, r := range got {
			ids = append(ids, r.FlowID)
		}
	}
	slices.Sort(counts)
	if !slices.Equal(counts, []int{5, 5, 10, 10}) {
		t.Errorf("files of %v rows", counts)
	}
	slices.Sort(ids)
	for i, id := range ids {
		if id != uint64(i+1) {
			t.Fatalf("flow %d is missing: %v", i+1, ids)
		}
	}
}

// TestNothing makes no file when there is no flow.
func TestNothing(t *testing.T) {
	s, clock := newSink(t, nil)
	write(t, s, nil)
	*clock = noon.Add(time.Hour)
	write(t, s, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s.config.Files.Dir); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestFull runs out of space: the error says what is lost, nothing unreadable
// stays, and the next file is good.
func TestFull(t *testing.T) {
	s, _ := newSink(t, func(c *Config) { c.Group = 1000 })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 4096
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	written, err := s.Write(context.Background(), flows(1, 5000))
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); e != nil {
		t.Fatal(e)
	}
	lost := fmt.Sprintf("flows-20261122T120010Z.parquet, %d flows lost: ", written)
	if !errors.Is(err, syscall.EFBIG) || written == 0 || !strings.Contains(err.Error(), lost) {
		t.Fatalf("wrote %d: %v", written, err)
	}
	if got := names(t, s.config.Files.Dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	write(t, s, flows(1, 10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, filepath.Join(s.config.Files.Dir, "flows-20261122T120010Z.parquet")); len(got) != 10 {
		t.Errorf("%d rows in the next file", len(got))
	}
}

func TestDirectoryGone(t *testing.T) {
	s, _ := newSink(t, func(c *Config) { c.Files.Dir = filepath.Join(c.Files.Dir, "later") })
	if n, err := s.Write(context.Background(), flows(1, 1)); n != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if err := os.Mkdir(s.config.Files.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s, flows(1, 1))
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Files.Dir = "" }, "parquet directory: none given"},
		{func(c *Config) { c.Files.Interval = 1 }, "parquet interval: 1ns is below a second"},
		{func(c *Config) { c.Rows = 0 }, "parquet rows: 0 is not above 0"},
		{func(c *Config) { c.Group = 0 }, "parquet row group: 0 is not above 0"},
	} {
		c := Default()
		c.Files.Dir = "/nowhere"
		test.change(&c)
		if _, err := New(c); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
