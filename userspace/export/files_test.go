package export_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/userspace/export"
)

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNext(t *testing.T) {
	f := export.Files{Dir: t.TempDir(), Ext: ".jsonl"}
	now := time.Date(2026, 11, 22, 12, 0, 10, 5, time.FixedZone("", 3600))
	for _, want := range []string{"flows-20261122T110010Z.jsonl", "flows-20261122T110010Z-1.jsonl", "flows-20261122T110010Z-2.jsonl"} {
		got := f.Next(now)
		if filepath.Base(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
		touch(t, got)
	}
}

// Prune removes the oldest of its own files and nothing else.
func TestPrune(t *testing.T) {
	others := []string{"flows-20200101T000000Z.parquet", "flows-20200101T000000Z.jsonl.gz", "xflows-20200101T000000Z.jsonl", "flows-.jsonl"}
	ours := []string{"flows-20261122T110010Z.jsonl", "flows-20261122T110010Z-2.jsonl", "flows-20261122T110010Z-10.jsonl", "flows-20261123T000000Z.jsonl"}
	for keep, want := range map[int][]string{0: ours, 1: ours[3:], 2: ours[2:], 4: ours, 9: ours} {
		f := export.Files{Dir: t.TempDir(), Ext: ".jsonl", Keep: keep}
		for _, name := range slices.Concat(others, ours) {
			touch(t, filepath.Join(f.Dir, name))
		}
		if err := f.Prune(); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(f.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		want := slices.Concat(others, want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("keep %d: %v, want %v", keep, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	touch(t, file)
	for path, want := range map[string]string{
		dir:                         "",
		filepath.Join(dir, "later"): "make it first: mkdir -p " + filepath.Join(dir, "later"),
		file:                        "not a directory",
	} {
		f := export.Files{Dir: path}
		err := f.Check()
		if got := ""; err != nil {
			got = err.Error()
			if want == "" || !strings.Contains(got, want) {
				t.Errorf("%s: %s, want %q", path, got, want)
			}
		} else if want != "" {
			t.Errorf("%s: no error, want %q", path, want)
		}
	}
}
