package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unspan/unspan/pcapng"
)

// The project's own captures, made by package traffic.
const (
	innerCapture = "../../userspace/traffic/testdata/inner.pcap"
	feedCapture  = "../../userspace/traffic/testdata/feed.pcap"
)

func readAll(t *testing.T, path string) (all []pcapng.Packet) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapng.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcapng.Packet
		if err := r.Next(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.Data = bytes.Clone(p.Data)
		all = append(all, p)
	}
}

// What the feeds of the project's own capture carry is its inner traffic.
func TestDecap(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcapng")
	code, stdout, stderr := unspan(t, "", "decap", feedCapture, "-w", out, "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var ledger struct {
		Adds  bool `json:"adds_up"`
		Feeds []struct {
			Name string `json:"name"`
		} `json:"feeds"`
	}
	if err := json.Unmarshal([]byte(stdout), &ledger); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if !ledger.Adds || len(ledger.Feeds) < 2 {
		t.Errorf("ledger: %+v", ledger)
	}
	inner := map[string]bool{}
	for _, p := range readAll(t, innerCapture) {
		inner[string(p.Data)] = true
	}
	got := readAll(t, out)
	if len(got) == 0 {
		t.Fatal("nothing came out")
	}
	names := map[string]bool{}
	for _, f := range ledger.Feeds {
		names[f.Name] = true
	}
	for i, p := range got {
		if !names[p.Interface.Name] {
			t.Errorf("packet %d is of interface %q, which is no feed of the ledger", i+1, p.Interface.Name)
		}
	}
	whole := 0
	for _, p := range got {
		if inner[string(p.Data)] {
			whole++
		}
	}
	if whole*10 < len(got)*9 {
		t.Errorf("%d of %d packets are of the inner traffic", whole, len(got))
	}
}

// Standard input and output are captures like any other.
func TestDecapStandardInput(t *testing.T) {
	capture, err := os.ReadFile(feedCapture)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file.pcapng")
	piped := filepath.Join(t.TempDir(), "piped.pcapng")
	for out, args := range map[string][]string{file: {"decap", feedCapture, "-w", file}, piped: {"decap", "-", "-w", piped}} {
		if code, _, stderr := unspan(t, string(capture), args...); code != 0 {
			t.Fatalf("%v to %s: exit code %d: %s", args, out, code, stderr)
		}
	}
	a, b := readAll(t, file), readAll(t, piped)
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d packets from the file, %d from standard input", len(a), len(b))
	}
	for i := range a {
		if !bytes.Equal(a[i].Data, b[i].Data) || a[i].Time != b[i].Time {
			t.Fatalf("packet %d differs", i+1)
		}
	}
}

// What is there already outlives a command that names the wrong file.
func TestDecapRefuses(t *testing.T) {
	capture, err := os.ReadFile(feedCapture)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, link, old := filepath.Join(dir, "feed.pcap"), filepath.Join(dir, "link.pcap"), filepath.Join(dir, "old.pcapng")
	for _, name := range []string{file, old} {
		if err := os.WriteFile(name, capture, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"the output is the capture", []string{file, "-w", file}, "it is the capture that is read"},
		{"by another name", []string{old, link, "-w", file}, "it is the capture that is read"},
		{"no such capture", []string{file, filepath.Join(dir, "misspelt.pcap"), "-w", old}, "misspelt.pcap: no such file"},
		{"a directory", []string{dir, "-w", old}, "name the files in it"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, _, stderr := unspan(t, "", append([]string{"decap"}, test.args...)...)
			if code != 1 || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, %q, want 1 and a line with %q", code, stderr, test.want)
			}
			for _, name := range []string{file, old} {
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, capture) {
					t.Errorf("%s is not what it was: %d bytes, %v", name, len(got), err)
				}
			}
		})
	}
}
