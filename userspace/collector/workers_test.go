package collector_test

import (
	"path/filepath"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// Several workers share one receive queue by inner flow, and one file of theirs
// is in order of time.
func TestWorkers(t *testing.T) {
	frames := conversations()
	config := collector.Default()
	config.Workers = 4
	config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
	s := collect(t, lab.Config{MTU: 9100}, config)
	s.mirror([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: frames}}, func(c *mirror.Config) {
		c.Method, c.Loop, c.Count = mirror.MethodSocket, true, 20_000
	})
	final := s.end()

	got := packets(t, config.Store.Path)
	if len(got) != 20_000 {
		t.Fatalf("%d packets in the file, 20000 were mirrored", len(got))
	}
	for i := 1; i < len(got); i++ {
		if got[i].Time < got[i-1].Time {
			t.Fatalf("packet %d is earlier than the one before it", i+1)
		}
	}
	busy := 0
	for _, w := range final.Workers {
		if w.Inner > 0 {
			busy++
		}
	}
	if busy != 4 {
		t.Errorf("%d of 4 workers had packets", busy)
	}
	if n := len(final.Queues[0].Sockets); n != 4 {
		t.Errorf("%d sockets on the queue, want 4", n)
	}
}

// A directory takes a file for each worker; a flow is in one of them, both ways.
func TestWorkersDirectory(t *testing.T) {
	frames := conversations()
	config := collector.Default()
	config.Workers = 2
	dir := t.TempDir()
	config.Write, config.Store.Path = true, dir
	s := collect(t, lab.Config{MTU: 9100}, config)
	s.mirror([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: frames}}, func(c *mirror.Config) {
		c.Method, c.Loop, c.Count = mirror.MethodSocket, true, 5000
	})
	s.end()
	files, err := filepath.Glob(filepath.Join(dir, "*.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Fatalf("%d files, want 2: %v", len(files), files)
	}
	total := 0
	owner := map[string]string{} // file by the unordered pair of addresses of untagged IPv4 TCP packets, with ports
	for _, f := range files {
		for _, p := range packets(t, f) {
			total++
			if flow := tcpFlow(p.Data); flow != "" {
				if o, ok := owner[flow]; ok && o != f {
					t.Fatalf("a flow is in %s and in %s", o, f)
				}
				owner[flow] = f
			}
		}
	}
	if total != 5000 || len(owner) < 10 {
		t.Errorf("%d packets of %d flows, want 5000 of 10 or more", total, len(owner))
	}
}

// tcpFlow is the same for both directions of a TCP connection over IPv4, empty
// for every other frame.
func tcpFlow(f []byte) string {
	if len(f) < 38 || f[12] != 8 || f[13] != 0 || f[14] != 0x45 || f[23] != 6 || f[20]&0x3f != 0 || f[21] != 0 {
		return ""
	}
	a, b := string(f[26:30])+string(f[34:36]), string(f[30:34])+string(f[36:38])
	return min(a, b) + max(a, b)
}
