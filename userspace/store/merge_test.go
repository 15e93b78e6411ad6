package store_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// ofLane are the packets of a lane in the order they are in.
func ofLane(packets []string, lane string) []string {
	return slices.DeleteFunc(slices.Clone(packets), func(p string) bool { return p[2:4] != lane+"/" })
}

// TestMerge: the lanes' packets come in order of time, whatever chunks they
// were in and however much one lane has more than another.
func TestMerge(t *testing.T) {
	for medium, dir := range media(t) {
		t.Run(medium, func(t *testing.T) {
			cfg := store.Default()
			cfg.Path, cfg.Lanes, cfg.Chunk = filepath.Join(dir, "one.pcapng"), 3, 8<<10
			s := start(t, cfg)
			id := s.AddInterface(pcapng.Interface{Name: "a"})
			counts := [3]int{5000, 40, 1}
			for lane, n := range counts {
				l := s.Lane(lane)
				for i := range n {
					l.Append(id, epoch+uint64(i*100/(lane*lane*lane+1)+lane), 100, 0, 0, packet(lane, i, 30+i%50))
				}
				l.Close()
			}
			s.wait(t)
			got := read(t, cfg.Path)
			for lane, n := range counts {
				if p := ofLane(got.packets, string(rune('0'+lane))); !slices.Equal(p, sequence(lane, n)) {
					t.Errorf("lane %d: %d packets, want %d in order", lane, len(p), n)
				}
				if c := s.Lane(lane).Counters(); c.Written != uint64(n) || c.Refused+c.Backlog != 0 {
					t.Errorf("lane %d: counters %+v", lane, c)
				}
			}
			if !slices.IsSorted(got.times) {
				t.Error("not in order of time")
			}
			tools(t, cfg.Path)
		})
	}
}

// TestMergeLive runs workers that race, sleep and end at different times: the
// file is in order all the same.
func TestMergeLive(t *testing.T) {
	cfg := store.Default()
	cfg.Path, cfg.Lanes, cfg.Chunk = filepath.Join(t.TempDir(), "live.pcapng"), 3, 16<<10
	cfg.Flush = 5 * time.Millisecond
	cfg.Lateness = 0
	s := start(t, cfg)
	var workers sync.WaitGroup
	for lane := range cfg.Lanes {
		workers.Go(func() {
			l := s.Lane(lane)
			defer l.Close()
			id := s.AddInterface(pcapng.Interface{Name: "a"})
			random := rand.New(rand.NewPCG(uint64(lane), 7))
			for i := 0; i < 5000; {
				for range random.IntN(64) {
					l.Append(id, uint64(time.Now().UnixNano()), 100, 0, 0, packet(lane, i, 60))
					i++
				}
				for range random.IntN(3) {
					l.Tick(uint64(time.Now().UnixNano()))
				}
				if random.IntN(20) == 0 {
					time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
				}
			}
		})
	}
	workers.Wait()
	s.wait(t)
	got := read(t, cfg.Path)
	if c := s.Counters(); uint64(len(got.packets)) != c.Written || c.Backlog+c.Refused != 0 {
		t.Errorf("%d packets in the file, counters %+v", len(got.packets), c)
	}
	if !slices.IsSorted(got.times) {
		t.Error("not in order of time")
	}
	for lane := range cfg.Lanes {
		p := ofLane(got.packets, string(rune('0'+lane)))
		if !slices.Equal(p, sequence(lane, len(p))) || len(p) < 5000 {
			t.Errorf("lane %d: %d packets, want 5000 or more in order", lane, len(p))
		}
	}
}

// TestMergeSleeper: a lane that has nothing, and says so, does not hold up the
// others.
func TestMergeSleeper(t *testing.T) {
	cfg := store.Default()
	cfg.Path, cfg.Lanes, cfg.Flush = filepath.Join(t.TempDir(), "one.pcapng"), 2, time.Millisecond
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	s.Lane(1).Append(id, uint64(time.Now().UnixNano()), 1, 0, 0, packet(1, 0, 30))
	s.Lane(1).Tick(uint64(time.Now().UnixNano())) // shows what it has
	s.Lane(0).Append(id, uint64(time.Now().UnixNano()), 1, 0, 0, packet(0, 0, 30))
	s.Lane(0).Tick(0)
	for s.Counters().Written < 2 { // or the test runs into its time limit
		s.Lane(1).Tick(uint64(time.Now().UnixNano()))
		time.Sleep(time.Millisecond)
	}
	s.Lane(1).Append(id, uint64(time.Now().UnixNano()), 1, 0, 0, packet(1, 1, 30))
	s.Lane(0).Close()
	s.Lane(1).Close()
	s.wait(t)
	if got := read(t, cfg.Path); !slices.Equal(got.packets, []string{"a 1/0", "a 0/0", "a 1/1"}) {
		t.Errorf("packets %v", got.packets)
	}
}

// TestMergeUnordered: clocks that disagree by an hour lose nothing.
func TestMergeUnordered(t *testing.T) {
	cfg := store.Default()
	cfg.Path, cfg.Lanes, cfg.Unordered = filepath.Join(t.TempDir(), "one.pcapng"), 2, true
	cfg.Chunk, cfg.Backlog, cfg.Flush = 4<<10, 16<<10, time.Millisecond
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const n, hour = 2000, 3600e9
	for i := range n {
		for lane := range 2 {
			l := s.Lane(lane)
			before := s.Counters().Written
			l.Append(id, uint64(epoch+lane*hour-i), 1, 0, 0, packet(lane, i, 100))
			if i%40 == 39 { // without an order nobody waits for anybody
				l.Tick(0)
				for s.Counters().Written == before {
					if s.Counters().Backlog > 0 {
						t.Fatalf("lost %+v at %d", s.Counters(), i)
					}
					time.Sleep(100 * time.Microsecond)
					l.Tick(0)
				}
			}
		}
	}
	s.Lane(0).Close()
	s.Lane(1).Close()
	s.wait(t)
	got := read(t, cfg.Path)
	for lane := range 2 {
		if p := ofLane(got.packets, string(rune('0'+lane))); !slices.Equal(p, sequence(lane, n)) {
			t.Errorf("lane %d: %d packets, want %d in order", lane, len(p), n)
		}
	}
}

// TestMergeRotates: merged files change at the interval too.
func TestMergeRotates(t *testing.T) {
	dir := t.TempDir()
	cfg := store.Default()
	cfg.Path, cfg.Lanes, cfg.RotateInterval, cfg.Chunk = filepath.Join(dir, "m.pcapng"), 2, time.Second, 8<<10
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const n, step = 1000, 10_000_001
	for lane := range 2 {
		for i := range n {
			s.Lane(lane).Append(id, uint64(epoch+i*step+lane), 1, 0, 0, packet(lane, i, 100))
		}
		s.Lane(lane).Close()
	}
	s.wait(t)
	var all []uint64
	for _, path := range files(t, dir) {
		f := read(t, path)
		for _, at := range f.times {
			if at/1e9 != f.times[0]/1e9 {
				t.Errorf("%s has packets of two intervals", path)
			}
		}
		all = append(all, f.times...)
	}
	if len(all) != 2*n || !slices.IsSorted(all) || len(files(t, dir)) != n*step/1_000_000_000 {
		t.Errorf("%d packets in %d files, in order: %v", len(all), len(files(t, dir)), slices.IsSorted(all))
	}
}

// TestMergeBacklog: memory is bounded and the books add up, lane by lane.
func TestMergeBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	cfg := store.Default()
	cfg.Path, cfg.Lanes, cfg.Chunk, cfg.Backlog = path, 2, 16<<10, 64<<10
	s := start(t, cfg)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	const n = 5000
	for i := range n {
		for lane := range 2 {
			s.Lane(lane).Append(id, uint64(epoch+i), 1, 0, 0, packet(lane, i, 200))
		}
	}
	var got bytes.Buffer
	copied := make(chan error)
	go func() {
		r, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(&got, r)
			r.Close()
		}
		copied <- err
	}()
	s.Lane(0).Close()
	s.Lane(1).Close()
	s.wait(t)
	hold.Close()
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	f, err := parse(got.Bytes())
	if err != io.EOF || !slices.IsSorted(f.times) {
		t.Errorf("%v, in order: %v", err, slices.IsSorted(f.times))
	}
	for lane := range 2 {
		c := s.Lane(lane).Counters()
		if w := len(ofLane(f.packets, string(rune('0'+lane)))); uint64(w) != c.Written || c.Written+c.Backlog != n || c.Backlog == 0 {
			t.Errorf("lane %d: %d in the file, counters %+v", lane, w, c)
		}
	}
}
