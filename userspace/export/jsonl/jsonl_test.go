package jsonl_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/export/jsonl"
	"github.com/unspan/unspan/userspace/flow"
)

func flows(n int) []flow.Flow {
	all := make([]flow.Flow, n)
	for i := range all {
		all[i] = flow.Flow{ID: uint64(i + 1), EtherType: 0x0800, Protocol: 17}
	}
	return all
}

func newSink(t *testing.T, path string) *jsonl.Sink {
	t.Helper()
	s, err := jsonl.New(jsonl.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns the flow ids of a file's lines.
func read(t *testing.T, path string) (ids []uint64) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var row export.Row
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		ids = append(ids, row.FlowID)
	}
	return ids
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	for range 2 { // two runs into one file
		s := newSink(t, path)
		for _, batch := range [][]flow.Flow{flows(3), nil, flows(2)} {
			if n, err := s.Write(context.Background(), batch); n != len(batch) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(batch), err)
			}
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
	got := read(t, path)
	if len(got) != 10 || got[4] != 2 || got[5] != 1 {
		t.Errorf("flows %v", got)
	}
}

// TestDirectoryGone fails until the directory is there.
func TestDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	s := newSink(t, filepath.Join(dir, "flows.jsonl"))
	if n, err := s.Write(context.Background(), flows(1)); n != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write(context.Background(), flows(1)); n != 1 || err != nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFull writes until the file may grow no more: whole lines only, the others
// are offered again and are not twice in the file.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.jsonl")
	s := newSink(t, path)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 10_000 // bytes: room for some lines and a part of one
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	records := flows(20)
	written, err := s.Write(context.Background(), records)
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EFBIG) || written == 0 || written == len(records) {
		t.Fatalf("wrote %d: %v", written, err)
	}
	if got := read(t, path); len(got) != written {
		t.Errorf("%d lines, %d said to be written", len(got), written)
	}
	if n, err := s.Write(context.Background(), records[written:]); n != len(records)-written || err != nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	for i, id := range read(t, path) {
		if id != uint64(i+1) {
			t.Errorf("line %d is flow %d", i, id)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDirectory begins files by the clock and keeps the newest.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "flows-20200101T000000Z.jsonl")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := jsonl.New(jsonl.Config{Files: export.Files{Dir: dir, Interval: time.Second, Keep: 2}})
	if err != nil {
		t.Fatal(err)
	}
	files := func() []string {
		all, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	// The clock is the real one: writes until a second file has begun and the
	// next stretch has come, however long a write takes.
	written := 0
	for end := time.Now().Add(20 * time.Second); len(files()) < 2 || files()[0] == old; {
		if time.Now().After(end) {
			t.Fatalf("after 20 s: %v", files())
		}
		n, err := s.Write(context.Background(), flows(1))
		if err != nil {
			t.Fatal(err)
		}
		written += n
		time.Sleep(10 * time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, f := range files() {
		got += len(read(t, f))
	}
	if got != written {
		t.Errorf("%d lines in %v, %d were written", got, files(), written)
	}
}

func TestNoPath(t *testing.T) {
	if _, err := jsonl.New(jsonl.Config{}); err == nil || !strings.HasPrefix(err.Error(), "JSON lines: no path") {
		t.Errorf("got %v", err)
	}
}
