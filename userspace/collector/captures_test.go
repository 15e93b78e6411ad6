package collector_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unspan/unspan/pcapng"
)

// accepted is what the captures are collected with; the names are those of
// their expected.json.
const accepted = "erspan1,erspan2,erspan3,gre,vxlan,vxlan:8472,geneve"

var acceptedNames = map[string]bool{
	"erspan1": true, "erspan2": true, "erspan3": true, "gre-teb": true, "vxlan": true, "geneve": true,
}

// answer is an inner frame that must come out: its length and the first 16 hex
// digits of its SHA-256.
type answer struct {
	Length int
	Hash   string
}

// capture is a public capture and what is inside it.
type capture struct {
	name string
	path string
	want []answer

	malformed bool // the file is damaged
}

// captures finds the public captures beside the checkout. They are not part of
// the project, so tests that need them say so where they are absent.
func captures(t *testing.T) []capture {
	t.Helper()
	root := os.Getenv("UNSPAN_CAPTURES")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "captures")
	}
	var list []capture
	for _, pattern := range []string{"*.expected.json", "synth/*.expected.json"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			list = append(list, readCapture(t, f))
		}
	}
	if len(list) == 0 {
		t.Skipf("no captures in %s: put them there or set UNSPAN_CAPTURES", root)
	}
	return list
}

func readCapture(t *testing.T, sidecar string) capture {
	t.Helper()
	text, err := os.ReadFile(sidecar)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Categories []string `json:"categories"`
		Packets    int      `json:"packets"`
		Expected   struct {
			Frames [][]any `json:"frames"`
		} `json:"expected"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatalf("%s: %v", sidecar, err)
	}
	path := strings.TrimSuffix(sidecar, ".expected.json")
	c := capture{name: filepath.Base(path), path: path}
	c.malformed = slices.Contains(e.Categories, "malformed-file")
	for _, f := range e.Expected.Frames {
		if acceptedNames[f[1].(string)] {
			c.want = append(c.want, answer{Length: int(f[4].(float64)), Hash: f[5].(string)})
		}
	}
	return c
}

// packets reads a capture as far as it can be read.
func packets(t *testing.T, path string) (all []pcapng.Packet) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapng.NewReader(f)
	if err != nil {
		t.Logf("%s: %v", path, err)
		return nil
	}
	for {
		var p pcapng.Packet
		if err := r.Next(&p); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Logf("%s: %v", path, err)
			}
			return all
		}
		p.Data = bytes.Clone(p.Data)
		all = append(all, p)
	}
}

func answers(all []pcapng.Packet) []answer {
	var got []answer
	for _, p := range all {
		sum := sha256.Sum256(p.Data)
		got = append(got, answer{Length: len(p.Data), Hash: hex.EncodeToString(sum[:8])})
	}
	return got
}

func compare(t *testing.T, got, want []answer) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%d frames came out, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		var g, w answer
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("frame %d is %+v, want %+v", i+1, g, w)
		}
	}
}
