package store

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/unspan/unspan/pcapng"
)

// TestMediaAgree: the same blocks give the same packets on every medium, and
// the file is good after each of them. File systems without direct writes are
// rare, so this is the only test that meets cached.
func TestMediaAgree(t *testing.T) {
	header := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Interface{})
	for name, open := range map[string]func(*os.File) (medium, error){
		"cached": func(f *os.File) (medium, error) { return &cached{f, int64(len(header))}, nil },
		"direct": func(f *os.File) (medium, error) { return openDirect(f, header) },
		"mapped": func(f *os.File) (medium, error) {
			return openMapped(f, len(header), 32<<20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.pcapng")
			f, err := create(path, header)
			if err != nil {
				t.Fatal(err)
			}
			m, err := open(f)
			if err != nil {
				t.Skipf("not on this file system: %v", err)
			}
			packets, size := 0, len(header)
			for i, n := range []int{1, 50, 3900, 4096, 10, 300_000, 4_300_000, 7, 1 << 20, 9000} {
				chunk := newChunk(8<<20, nil)
				for data := make([]byte, 1000); len(chunk.buf) < n; packets++ {
					chunk.buf = pcapng.AppendPacket(chunk.buf, 0, uint64(packets), 1, 0, 0, data[:packets%1000])
				}
				grown, err := m.append(chunk.buf, i%3 == 2)
				if err != nil {
					t.Fatal(err)
				}
				size += grown
				if got := count(t, path); got != packets {
					t.Fatalf("after %d appended: %d packets in the file, want %d", i+1, got, packets)
				}
			}
			if err := m.close(); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != int64(size) || count(t, path) != packets {
				t.Errorf("%d bytes, %d packets, want %d, %d", info.Size(), count(t, path), size, packets)
			}
		})
	}
}

func count(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapng.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		var p pcapng.Packet
		switch err := r.Next(&p); {
		case err == io.EOF:
			return n
		case err != nil:
			t.Fatal(err)
		case p.Time != uint64(n):
			t.Fatalf("packet %d has the number %d", n, p.Time)
		}
	}
}
