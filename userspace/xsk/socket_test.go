package xsk

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// pieces cuts a packet of n bytes, the first of which is mark, at every size bytes.
func pieces(mark byte, n, size int) [][]byte {
	packet := packet(mark, n)
	var cut [][]byte
	for len(packet) > size {
		cut = append(cut, packet[:size])
		packet = packet[size:]
	}
	return append(cut, packet)
}

func packet(mark byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = mark + byte(i)*7
	}
	return p
}

func TestReceive(t *testing.T) {
	const most = 2048 - headroom // bytes in a frame
	type sent struct {
		mark byte
		size int
	}
	tests := []struct {
		name      string
		batch     int // room in each Receive
		send      []sent
		want      []int // sizes received, in order
		overlong  uint64
		oneBuffer bool
	}{
		{name: "nothing", batch: 4},
		{name: "one", batch: 4, send: []sent{{1, 60}}, want: []int{60}},
		{name: "a full frame", batch: 4, send: []sent{{1, most}}, want: []int{most}},
		{name: "more than a batch", batch: 2, send: []sent{{1, 60}, {2, 61}, {3, 62}, {4, 63}, {5, 64}}, want: []int{60, 61, 62, 63, 64}},
		{name: "in two frames", batch: 4, send: []sent{{1, most + 1}}, want: []int{most + 1}},
		{name: "in two frames, between others", batch: 8, send: []sent{{1, 60}, {2, 3000}, {3, 61}}, want: []int{60, 3000, 61}},
		{name: "two jumbos in a batch", batch: 8, send: []sent{{1, 3000}, {2, 3500}, {3, 60}}, want: []int{3000, 3500, 60}},
		{name: "split over batches", batch: 1, send: []sent{{1, 9000}, {2, 60}, {3, 9001}}, want: []int{9000, 60, 9001}},
		{name: "split in the middle", batch: 3, send: []sent{{1, 60}, {2, 9000}, {3, 61}}, want: []int{60, 9000, 61}},
		{name: "the longest", batch: 8, send: []sent{{1, maxFrame}}, want: []int{maxFrame}},
		{name: "one byte too long", batch: 8, send: []sent{{1, maxFrame + 1}, {2, 60}}, want: []int{60}, overlong: 1},
		{name: "far too long, twice, then a jumbo", batch: 8, send: []sent{{1, 100_000}, {2, 200_000}, {3, 3000}}, want: []int{3000}, overlong: 2},
		{name: "parts without multi-buffer", batch: 8, send: []sent{{1, 3000}, {2, 60}}, want: []int{60}, overlong: 1, oneBuffer: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := Default()
			cfg.Frames = 256
			cfg.MultiBuffer = !test.oneBuffer
			q, k := memoryQueue(t, cfg)
			s := q.sockets[0]
			marks := make(map[int]byte)
			for _, p := range test.send {
				if !k.deliver(0, pieces(p.mark, p.size, most)...) {
					t.Fatalf("the rings have no room for %d bytes", p.size)
				}
				marks[p.size] = p.mark
			}
			var got []int
			batch := make([][]byte, test.batch)
			for s.rx.Waiting() {
				n := s.Receive(batch)
				for _, frame := range batch[:n] {
					got = append(got, len(frame))
					if want := packet(marks[len(frame)], len(frame)); !bytes.Equal(frame, want) {
						t.Errorf("a frame of %d bytes has other contents than were sent", len(frame))
					}
					if cap(frame) != len(frame) {
						t.Errorf("a frame of %d bytes has capacity %d", len(frame), cap(frame))
					}
				}
				s.Release()
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("received frames of %v bytes, want %v", got, test.want)
			}
			if got := s.received.Load(); got != uint64(len(test.want)) {
				t.Errorf("%d frames counted as received, want %d", got, len(test.want))
			}
			if got := s.overlong.Load(); got != test.overlong {
				t.Errorf("%d frames counted as overlong, want %d", got, test.overlong)
			}
			k.census(t)
		})
	}
}

// A second Receive before Release leaves the first batch alone.
func TestReceiveTwiceBeforeRelease(t *testing.T) {
	cfg := Default()
	cfg.Frames = 64
	q, k := memoryQueue(t, cfg)
	s := q.sockets[0]
	deliver := func(mark byte, n int) {
		t.Helper()
		if !k.deliver(0, pieces(mark, n, 1792)...) {
			t.Fatal("no room")
		}
	}
	deliver(1, 100)
	deliver(2, 3000)
	var first, second [4][]byte
	if n := s.Receive(first[:]); n != 2 {
		t.Fatalf("received %d frames, want 2", n)
	}
	deliver(3, 101)
	deliver(4, 3001)
	if n := s.Receive(second[:]); n != 1 {
		t.Fatalf("received %d frames, want 1: the other waits for the buffer", n)
	}
	for i := range 30 { // overwrite whatever is not lent
		k.deliver(0, packet(byte(100+i), 1792))
	}
	for i, want := range [][]byte{packet(1, 100), packet(2, 3000)} {
		if !bytes.Equal(first[i], want) {
			t.Errorf("frame %d of the first batch changed before Release", i)
		}
	}
	if !bytes.Equal(second[0], packet(3, 101)) {
		t.Error("the frame of the second batch changed before Release")
	}
	s.Release()
	if n := s.Receive(second[:]); n == 0 || !bytes.Equal(second[0], packet(4, 3001)) {
		t.Errorf("after Release %d frames come, and the long one is not the first", n)
	}
	s.Release()
	k.census(t)
}

// A worker that finds the fill ring taken keeps its frames for the next turn.
func TestReleaseWhileAnotherReturns(t *testing.T) {
	cfg := Default()
	cfg.Frames = 64
	q, k := memoryQueue(t, cfg)
	s := q.sockets[0]
	var batch [4][]byte
	for turn := range 3 {
		k.deliver(0, packet(1, 60))
		if n := s.Receive(batch[:]); n != 1 {
			t.Fatalf("received %d frames, want 1", n)
		}
		q.frames.claim.Store(1)
		s.Release()
		q.frames.claim.Store(0)
		if got, want := len(s.freed), turn+1; got != want {
			t.Fatalf("the worker keeps %d frames, want %d", got, want)
		}
		k.census(t)
	}
	s.Release()
	if len(s.freed) != 0 {
		t.Errorf("the worker keeps %d frames though nobody was in its way", len(s.freed))
	}
	if got := s.kept.Load(); got != 3 {
		t.Errorf("%d turns counted as kept, want 3", got)
	}
	k.census(t)
}

// The kernel hands packets out before it publishes that it took their frames,
// so the fill ring may look full. Nothing waits for it then.
func TestReturnBeforeTheKernelPublished(t *testing.T) {
	cfg := Default()
	cfg.Frames = 64
	q, k := memoryQueue(t, cfg)
	s := q.sockets[0]
	var batch [64][]byte
	for range 10 {
		k.deliver(0, packet(1, 60))
	}
	published := k.fill.consumer.Load()
	k.fill.consumer.Store(published - 10)
	if n := s.Receive(batch[:]); n != 10 {
		t.Fatalf("received %d frames, want 10", n)
	}
	s.Release()
	if got := len(q.frames.parked); got != 10 {
		t.Errorf("%d frames are parked while the fill ring looks full, want 10", got)
	}
	k.fill.consumer.Store(published)
	k.census(t)
	// What was put aside comes back.
	k.deliver(0, packet(1, 60))
	s.Receive(batch[:])
	s.Release()
	if got := len(q.frames.parked); got != 0 {
		t.Errorf("%d frames are parked with a circulation of all, want 0", got)
	}
	k.census(t)
}

func TestReceiveReadsNoUnknownOption(t *testing.T) {
	cfg := Default()
	cfg.Frames = 64
	q, k := memoryQueue(t, cfg)
	k.deliver(0, packet(1, 60))
	q.sockets[0].rx.entries[0].Options = 1 << 7
	var batch [4][]byte
	if n := q.sockets[0].Receive(batch[:]); n != 1 || !bytes.Equal(batch[0], packet(1, 60)) {
		t.Errorf("a descriptor with an option that is not XDP_PKT_CONTD (%#x) gave %d frames, want 1", unix.XDP_PKT_CONTD, n)
	}
	q.sockets[0].Release()
	k.census(t)
}
