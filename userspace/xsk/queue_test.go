package xsk_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/xsk"
)

const native, generic = link.XDPDriverMode, link.XDPGenericMode

// What is sent arrives: every byte, in order, at the socket it was for.
func TestReceive(t *testing.T) {
	tests := []struct {
		name      string
		flags     link.XDPAttachFlags
		sockets   int
		frameSize int
		mode      xsk.Mode
		multi     bool
		mtu       int
		sizes     []int
		batch     int
	}{
		{"native", native, 1, 2048, xsk.Auto, true, 1500, []int{60, 64, 590, 1514}, 64},
		{"generic", generic, 1, 2048, xsk.Copy, false, 1500, []int{60, 64, 590, 1514}, 64},
		{"one buffer", native, 1, 2048, xsk.Copy, false, 1500, []int{60, 1514}, 64},
		{"frames of 4096", native, 1, 4096, xsk.Copy, true, 3000, []int{60, 1514, 3014}, 64},
		{"four sockets", native, 4, 2048, xsk.Auto, true, 1500, []int{60, 590, 1514}, 16},
		{"four sockets generic", generic, 4, 2048, xsk.Auto, true, 1500, []int{60, 590, 1514}, 16},
		{"jumbo", native, 1, 2048, xsk.Auto, true, 9000, []int{60, 1792, 1793, 3584, 3585, 9014}, 64},
		{"jumbo, one frame at a time", native, 2, 2048, xsk.Auto, true, 9000, []int{60, 9014, 5000}, 1},
		{"jumbo in frames of 4096", native, 1, 4096, xsk.Auto, true, 9000, []int{3840, 3841, 9014}, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := layWire(t, lab.Config{MTU: test.mtu}, test.flags)
			cfg := xsk.Default()
			cfg.Sockets, cfg.FrameSize, cfg.Mode, cfg.MultiBuffer = test.sockets, test.frameSize, test.mode, test.multi
			q := w.open(t, cfg)
			if got, want := q.Info().Mode, xsk.Copy; got != want {
				t.Errorf("the mode on a veth is %s, want %s", got, want)
			}
			if got := q.Info().MultiBuffer; got != test.multi {
				t.Errorf("multi-buffer is %t, want %t", got, test.multi)
			}

			const each = 300
			var want [][]byte
			for i := range each * test.sockets {
				p := w.packet(i%test.sockets, i, test.sizes[i%len(test.sizes)])
				want = append(want, p)
				w.send(t, p)
			}
			await(t, "the packets to be redirected", func() bool { return w.redirected(t) == uint64(len(want)) })
			batch := make([][]byte, test.batch)
			for i, s := range q.Sockets() {
				for next := i; next < len(want); {
					n := s.Receive(batch)
					for _, frame := range batch[:n] {
						if !bytes.Equal(frame, want[next]) {
							t.Fatalf("socket %d: packet %d arrived as %d other bytes, want %d", i, next, len(frame), len(want[next]))
						}
						next += test.sockets
					}
					s.Release()
					if n == 0 {
						must(t, s.Wait(time.Second))
					}
				}
			}
			checkLedger(t, w, q, xsk.Stats{Received: uint64(len(want))})
		})
	}
}

// checkLedger asserts the boxes of the ledger, and that they add up to what was
// redirected.
func checkLedger(t *testing.T, w *wire, q *xsk.Queue, want xsk.Stats) {
	t.Helper()
	got, err := q.Stats()
	must(t, err)
	type boxes struct{ Received, Overlong, RingFull, FillRingEmpty, TooLong uint64 }
	line := func(s xsk.Stats) boxes {
		return boxes{s.Received, s.Overlong, s.RingFull, s.FillRingEmpty, s.TooLong}
	}
	if line(got) != line(want) {
		t.Errorf("the ledger has %+v, want %+v", line(got), line(want))
	}
	b := line(got)
	if sum, redirected := b.Received+b.Overlong+b.RingFull+b.FillRingEmpty+b.TooLong, w.redirected(t); sum != redirected {
		t.Errorf("%d packets were redirected, the boxes have %d: %+v", redirected, sum, b)
	}
	var sockets xsk.SocketStats
	for _, s := range got.Sockets {
		sockets.Received += s.Received
		sockets.Overlong += s.Overlong
		sockets.RingFull += s.RingFull
		sockets.Dropped += s.Dropped
		sockets.InvalidDescs += s.InvalidDescs
	}
	wantSockets := xsk.SocketStats{Received: b.Received, Overlong: b.Overlong, RingFull: b.RingFull, Dropped: b.FillRingEmpty + b.TooLong}
	if sockets != wantSockets {
		t.Errorf("the sockets together have %+v, want %+v", sockets, wantSockets)
	}
}

// Nobody reads while more packets come than there is room for. Then the
// workers read what is left, and every packet is in one box.
func TestOverload(t *testing.T) {
	const sent = 5000
	tests := []struct {
		name    string
		flags   link.XDPAttachFlags
		mtu     int
		size    int
		change  func(*xsk.Config)
		sockets int
		want    xsk.Stats
		misses  uint64
	}{
		{
			name: "fill ring empty", flags: native, mtu: 1500, size: 60, sockets: 1,
			change: func(c *xsk.Config) { c.Frames, c.MultiBuffer = 256, false },
			want:   xsk.Stats{Received: 256, FillRingEmpty: sent - 256}, misses: sent - 256,
		},
		{
			name: "fill ring empty, multi-buffer", flags: native, mtu: 1500, size: 60, sockets: 1,
			change: func(c *xsk.Config) { c.Frames = 256 },
			want:   xsk.Stats{Received: 256, FillRingEmpty: sent - 256}, misses: sent - 256,
		},
		{
			name: "fill ring empty, generic", flags: generic, mtu: 1500, size: 60, sockets: 1,
			change: func(c *xsk.Config) { c.Frames, c.MultiBuffer = 256, false },
			want:   xsk.Stats{Received: 256, FillRingEmpty: sent - 256}, misses: sent - 256,
		},
		{
			name: "few circulate", flags: native, mtu: 1500, size: 60, sockets: 1,
			change: func(c *xsk.Config) { c.Frames, c.CirculationMin, c.CirculationMax = 1024, 100, 100 },
			want:   xsk.Stats{Received: 100, FillRingEmpty: sent - 100}, misses: sent - 100,
		},
		{
			name: "ring full", flags: native, mtu: 1500, size: 60, sockets: 1,
			change: func(c *xsk.Config) { c.Frames, c.RingSize = 1024, 128 },
			want:   xsk.Stats{Received: 128, RingFull: sent - 128},
		},
		{
			name: "both rings of two sockets", flags: native, mtu: 1500, size: 60, sockets: 2,
			change: func(c *xsk.Config) { c.Frames, c.RingSize, c.Sockets = 1024, 128, 2 },
			want:   xsk.Stats{Received: 256, RingFull: sent - 256},
		},
		{
			name: "the fill ring of four sockets", flags: native, mtu: 1500, size: 60, sockets: 4,
			change: func(c *xsk.Config) { c.Frames, c.RingSize, c.Sockets, c.MultiBuffer = 256, 128, 4, false },
			want:   xsk.Stats{Received: 256, FillRingEmpty: sent - 256}, misses: sent - 256,
		},
		{
			name: "too long for a frame", flags: native, mtu: 3000, size: 2000, sockets: 2,
			change: func(c *xsk.Config) { c.MultiBuffer, c.Sockets = false, 2 },
			want:   xsk.Stats{TooLong: sent},
		},
		{
			name: "two frames each", flags: native, mtu: 3000, size: 2000, sockets: 1,
			change: func(c *xsk.Config) { c.Frames = 256 },
			want:   xsk.Stats{Received: 128, FillRingEmpty: sent - 128}, misses: sent - 128,
		},
		{
			// The last frame is never enough, and the kernel does not call that a miss.
			name: "two frames each, odd number", flags: native, mtu: 3000, size: 2000, sockets: 1,
			change: func(c *xsk.Config) { c.Frames, c.CirculationMin, c.CirculationMax = 256, 101, 101 },
			want:   xsk.Stats{Received: 50, FillRingEmpty: sent - 50},
		},
		{
			name: "ring full of two descriptors each", flags: native, mtu: 3000, size: 2000, sockets: 1,
			change: func(c *xsk.Config) { c.RingSize = 64 },
			want:   xsk.Stats{Received: 32, RingFull: sent - 32},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := layWire(t, lab.Config{MTU: test.mtu}, test.flags)
			cfg := xsk.Default()
			test.change(&cfg)
			q := w.open(t, cfg)
			for i := range sent {
				w.send(t, w.packet(i%test.sockets, i, test.size))
			}
			await(t, "the packets to be redirected", func() bool { return w.redirected(t) == sent })
			drain(t, q, sent)
			checkLedger(t, w, q, test.want)
			stats, err := q.Stats()
			must(t, err)
			if stats.FillRingMisses != test.misses {
				t.Errorf("%d fill ring misses, want %d", stats.FillRingMisses, test.misses)
			}
		})
	}
}

// Workers that are slower than the feed, for as long as it lasts: nothing is
// lost from the books, and no frame from the queue.
func TestOverloadWhileReading(t *testing.T) {
	const sent = 60_000
	w := layWire(t, lab.Config{}, native)
	cfg := xsk.Default()
	cfg.Sockets, cfg.Frames, cfg.RingSize, cfg.CirculationMin = 2, 256, 64, 32
	q := w.open(t, cfg)
	stop := make(chan struct{})
	ended := make(chan error, 2)
	for _, s := range q.Sockets() {
		go func() {
			batch := make([][]byte, 16)
			for {
				n := s.Receive(batch)
				sum := 0
				for _, frame := range batch[:n] {
					for range 100 { // be slow
						for _, b := range frame {
							sum += int(b)
						}
					}
				}
				s.Release()
				if n > 0 {
					continue
				}
				select {
				case <-stop:
					ended <- nil
					return
				default:
				}
				if err := s.Wait(10 * time.Millisecond); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	for i := range sent {
		w.send(t, w.packet(i%2, i, 60))
	}
	await(t, "the packets to be redirected", func() bool { return w.redirected(t) == sent })
	close(stop)
	for range q.Sockets() {
		must(t, <-ended)
	}
	drain(t, q, sent)
	got, err := q.Stats()
	must(t, err)
	checkLedger(t, w, q, got)
	if got.Received == 0 || got.Received == sent {
		t.Errorf("%d of %d packets were received: that is no overload", got.Received, sent)
	}

	// All frames are still there: as many packets as the receive rings hold fit
	// in, and one more in neither.
	for i := range 130 {
		w.send(t, w.packet(i%2, i, 60))
	}
	await(t, "the packets to be redirected", func() bool { return w.redirected(t) == sent+130 })
	drain(t, q, sent+130)
	got.Received += 128
	got.RingFull += 2
	checkLedger(t, w, q, got)
}

// drain has the workers read what is there, until all packets are in a box:
// the program counts a packet a little before the kernel hands it out.
func drain(t *testing.T, q *xsk.Queue, packets uint64) {
	t.Helper()
	batch := make([][]byte, 64)
	await(t, "every packet to be in a box", func() bool {
		for _, s := range q.Sockets() {
			s.Receive(batch)
			s.Release()
		}
		got, err := q.Stats()
		must(t, err)
		return got.Received+got.Overlong+got.RingFull+got.FillRingEmpty+got.TooLong >= packets
	})
}

// wait runs Wait until done is true: it may return early.
func wait(s *xsk.Socket, timeout time.Duration, done func() bool) <-chan error {
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && !done() {
			err = s.Wait(timeout)
		}
		ended <- err
	}()
	return ended
}

func TestWait(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	q := w.open(t, xsk.Default())
	s := q.Sockets()[0]
	batch := make([][]byte, 4)

	t.Run("nothing", func(t *testing.T) {
		must(t, s.Wait(0))
		must(t, s.Wait(time.Millisecond))
	})
	t.Run("a frame", func(t *testing.T) {
		received := 0
		ended := wait(s, -1, func() bool { received += s.Receive(batch); return received > 0 })
		w.send(t, w.packet(0, 1, 60))
		must(t, <-ended)
	})
	t.Run("a frame lent", func(t *testing.T) { // Wait ends the lease
		must(t, s.Wait(0))
		stats, err := q.Stats()
		must(t, err)
		if stats.Received != 1 {
			t.Errorf("%d packets received, want 1", stats.Received)
		}
	})
	t.Run("Wake", func(t *testing.T) {
		stats, err := q.Stats()
		must(t, err)
		sleeps := stats.Sockets[0].Sleeps
		returned := 0
		ended := wait(s, -1, func() bool { returned++; return returned > 1 })
		await(t, "the worker to sleep", func() bool {
			stats, err := q.Stats()
			must(t, err)
			return stats.Sockets[0].Sleeps > sleeps
		})
		must(t, s.Wake())
		must(t, <-ended)
	})
	t.Run("Wake before", func(t *testing.T) {
		must(t, s.Wake())
		must(t, s.Wait(-1))
	})
	t.Run("a nap, once after a frame", func(t *testing.T) {
		naps := func() uint64 {
			stats, err := q.Stats()
			must(t, err)
			return stats.Sockets[0].Naps
		}
		w.send(t, w.packet(0, 2, 60))
		await(t, "the frame", func() bool { return s.Receive(batch) > 0 })
		before := naps()
		must(t, s.Wait(time.Millisecond))
		if got := naps() - before; got != 1 {
			t.Errorf("%d naps after a frame, want 1", got)
		}
		must(t, s.Wait(time.Millisecond))
		if got := naps() - before; got != 1 {
			t.Errorf("%d naps after nothing more, want still 1", got)
		}
	})
	t.Run("no allocation", func(t *testing.T) {
		if n := testing.AllocsPerRun(100, func() {
			s.Receive(batch)
			s.Release()
			_ = s.Wait(0)
		}); n != 0 {
			t.Errorf("a turn allocates %.0f times", n)
		}
	})
}

func TestPunctual(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	slack := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		must(t, err)
		return n
	}
	before := slack()
	undo, err := xsk.Punctual()
	must(t, err)
	if got := slack(); got != 1 {
		t.Errorf("timer slack %d ns, want 1", got)
	}
	undo()
	if got := slack(); got != before {
		t.Errorf("timer slack %d ns afterwards, want %d", got, before)
	}
}

func TestWaitWhenTheInterfaceGoes(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	s := w.open(t, xsk.Default()).Sockets()[0]
	must(t, w.Collector.Do(func() error {
		link, err := netlink.LinkByIndex(w.Collector.Ifindex)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}))
	if err := <-wait(s, -1, func() bool { return false }); !errors.Is(err, xsk.ErrGone) {
		t.Errorf("Wait returned %v, want ErrGone", err)
	}
}

func TestBusyPoll(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	cfg := xsk.Default()
	cfg.BusyPoll, cfg.BusyPollBudget = 20*time.Microsecond, 32
	q := w.open(t, cfg)
	s := q.Sockets()[0]
	for _, o := range []struct {
		name         string
		option, want int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, 20},
	} { // the kernel does not tell the budget
		got, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, o.option)
		must(t, err)
		if got != o.want {
			t.Errorf("%s is %d, want %d", o.name, got, o.want)
		}
	}
	const sent = 1000
	batch := make([][]byte, 64)
	received := 0
	for i := range sent {
		w.send(t, w.packet(0, i, 60))
		received += s.Receive(batch)
		must(t, s.Wait(0))
	}
	await(t, "the packets", func() bool {
		received += s.Receive(batch)
		must(t, s.Wait(time.Millisecond))
		return received == sent
	})
	stats, err := q.Stats()
	must(t, err)
	if stats.Sockets[0].Entered == 0 {
		t.Error("Wait never entered the kernel to poll")
	}
	checkLedger(t, w, q, xsk.Stats{Received: sent})
}

func TestOpenErrors(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	w.open(t, xsk.Default())
	tests := []struct {
		name    string
		change  func(*xsk.Config)
		prepare func() error
		want    []string
	}{
		{"no interface", func(c *xsk.Config) { c.Ifindex = 4711 }, nil,
			[]string{"interface 4711", "network namespace"}},
		{"no queue", func(c *xsk.Config) { c.Queue = 7 }, nil,
			[]string{"collector0 queue 7", "invalid argument", "ethtool -l"}},
		{"busy", func(c *xsk.Config) {}, nil,
			[]string{"collector0 queue 0", "busy", "ss --xdp"}},
		{"zero-copy", func(c *xsk.Config) { c.Queue, c.Mode = 1, xsk.ZeroCopy }, nil,
			[]string{"collector0 queue 1", "zero-copy", "use mode copy or auto"}},
		{"no CAP_NET_RAW", func(c *xsk.Config) {}, func() error { return drop(unix.CAP_NET_RAW) },
			[]string{"operation not permitted", "CAP_NET_RAW"}},
		{"locked memory", func(c *xsk.Config) { c.Queue = 1 }, func() error { return drop(unix.CAP_IPC_LOCK) },
			[]string{"no buffer space available", "65536 bytes", "CAP_IPC_LOCK"}},
		{"busy poll without CAP_NET_ADMIN", func(c *xsk.Config) { c.Queue, c.BusyPoll = 1, time.Millisecond }, func() error { return drop(unix.CAP_NET_ADMIN) },
			[]string{"SO_PREFER_BUSY_POLL", "CAP_NET_ADMIN"}},
	}
	w2 := layWire(t, lab.Config{Queues: 2}, native)
	limitLockedMemory(t) // root is above it
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := xsk.Default()
			cfg.HugePages = false
			cfg.Ifindex = w.Collector.Ifindex
			test.change(&cfg)
			where := w.Collector
			if cfg.Queue == 1 {
				where = w2.Collector
			}
			fds := openFiles(t)
			err := where.Do(func() error {
				if test.prepare != nil {
					// Once more than Do unlocks: a thread that lost a
					// capability ends here.
					runtime.LockOSThread()
					if err := test.prepare(); err != nil {
						return err
					}
				}
				q, err := xsk.Open(cfg)
				if err == nil {
					q.Close()
				}
				return err
			})
			for _, part := range test.want {
				if !strings.Contains(fmt.Sprint(err), part) {
					t.Errorf("the error %q does not say %q", fmt.Sprint(err), part)
				}
			}
			if now := openFiles(t); now != fds {
				t.Errorf("%d files are open after the error, %d were before", now, fds)
			}
		})
	}
}

// drop takes a capability from the effective set of the calling thread.
func drop(capability int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[capability/32].Effective &^= 1 << (capability % 32)
	return unix.Capset(&header, &data[0])
}

// limitLockedMemory lets the process lock 64 KiB, until the test is over.
func limitLockedMemory(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: before.Max}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) })
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// mappedSockets counts the ring mappings of the process.
func mappedSockets(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return strings.Count(string(maps), "socket:[")
}

// Opened and closed again and again, at once on the same queue, nothing stays.
func TestClose(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	fds, maps := openFiles(t), mappedSockets(t)
	for range 5 {
		must(t, w.Collector.Do(func() error {
			cfg := xsk.Default()
			cfg.Ifindex, cfg.Sockets = w.Collector.Ifindex, 3
			q, err := xsk.Open(cfg)
			if err != nil {
				return err
			}
			if got := mappedSockets(t); got != maps+4 {
				t.Errorf("%d rings are mapped, want %d: a receive ring each and the fill ring", got, maps+4)
			}
			must(t, w.sockets.Put(uint32(0), uint32(q.Sockets()[0].FD())))
			w.send(t, w.packet(0, 1, 60))
			received := 0
			batch := make([][]byte, 4)
			for received == 0 {
				must(t, q.Sockets()[0].Wait(time.Second))
				received = q.Sockets()[0].Receive(batch)
			}
			must(t, q.Close())
			must(t, q.Close())
			must(t, q.Sockets()[0].Wake())
			stats, err := q.Stats()
			must(t, err)
			if stats.Received != 1 || len(stats.Sockets) != 3 {
				t.Errorf("after Close the statistics are %+v, want one packet and three sockets", stats)
			}
			return nil
		}))
	}
	if got := openFiles(t); got != fds {
		t.Errorf("%d files are open, %d were before", got, fds)
	}
	if got := mappedSockets(t); got != maps {
		t.Errorf("%d rings are mapped, %d were before", got, maps)
	}
}

// Info tells whether there were huge pages: as many as the memory needs must
// have been free.
func TestHugePages(t *testing.T) {
	w := layWire(t, lab.Config{}, native)
	read := func(name string) int {
		text, err := os.ReadFile(filepath.Join("/sys/kernel/mm/hugepages/hugepages-2048kB", name))
		if os.IsNotExist(err) {
			return 0
		}
		must(t, err)
		n := 0
		_, err = fmt.Sscan(string(text), &n)
		must(t, err)
		return n
	}
	cfg := xsk.Default()
	need := cfg.Frames * cfg.FrameSize >> 21
	want := read("free_hugepages")-read("resv_hugepages")+read("nr_overcommit_hugepages")-read("surplus_hugepages") >= need
	for _, ask := range []bool{true, false} {
		cfg.HugePages = ask
		t.Run(fmt.Sprint(ask), func(t *testing.T) {
			q := w.open(t, cfg)
			if got := q.Info().HugePages; got != (ask && want) {
				t.Errorf("HugePages is %t, want %t", got, ask && want)
			}
		})
	}
}
