package xsk

import (
	"bytes"
	"testing"
)

// FuzzLease lets a kernel deliver and a worker receive and release in any order
// that the input spells, a byte or two for each step. Whatever the order,
// packets arrive once, in order and whole, stay as they are until Release, and
// no frame is lost.
func FuzzLease(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 3})
	f.Add([]byte{1, 30, 1, 31, 6, 3, 6, 3})                          // two jumbos, one buffer
	f.Add([]byte{1, 200, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 0, 2})        // a long one, a descriptor at a time
	f.Add([]byte{1, 255, 1, 255, 0, 62, 3, 62, 3})                   // overlong
	f.Add([]byte{0, 0, 2, 7, 0, 2, 7, 2, 3})                         // kept frames
	f.Add([]byte{0, 0, 0, 0, 2, 2, 0, 2, 1, 20, 2, 1, 20, 62, 3, 2}) // several Receives before Release
	f.Fuzz(func(t *testing.T, steps []byte) {
		cfg := Default()
		cfg.Frames = 128
		cfg.RingSize = 64
		cfg.CirculationMin = 16
		q, k := memoryQueue(t, cfg)
		q.frames.every = 64
		s := q.sockets[0]

		type sent struct {
			mark byte
			size int
		}
		var (
			due      []sent // delivered and not yet received
			lent     []sent
			frames   [][]byte
			overlong uint64
			received uint64
			mark     byte
		)
		deliver := func(size int) {
			mark++
			if !k.deliver(0, pieces(mark, size, cfg.FrameSize-headroom)...) {
				return
			}
			if size > maxFrame {
				overlong++
				return
			}
			due = append(due, sent{mark, size})
		}
		receive := func(batch int) int {
			list := make([][]byte, batch)
			n := s.Receive(list)
			if n > len(due) {
				t.Fatalf("received %d packets, %d were due", n, len(due))
			}
			frames = append(frames, list[:n]...)
			lent = append(lent, due[:n]...)
			due = due[n:]
			received += uint64(n)
			return n
		}
		release := func() {
			for i, want := range lent {
				if !bytes.Equal(frames[i], packet(want.mark, want.size)) {
					t.Fatalf("a packet of %d bytes is not what was sent when its lease ends", want.size)
				}
			}
			lent, frames = nil, nil
			s.Release()
		}
		for i := 0; i < len(steps) && i < 200; i++ {
			switch step := steps[i]; step & 3 {
			case 0:
				deliver(1 + int(step>>2)*28)
			case 1:
				if i++; i < len(steps) {
					deliver(1 + int(steps[i])*300)
				}
			case 2:
				receive(1 + int(step>>2))
			case 3: // as another worker allows
				q.frames.claim.Store(uint32(step >> 2 & 1))
				release()
				q.frames.claim.Store(0)
			}
			k.census(t)
		}
		for s.rx.Waiting() {
			receive(16)
			release()
		}
		release()
		k.census(t)
		if len(due) != 0 {
			t.Errorf("%d packets never arrived", len(due))
		}
		if s.received.Load() != received || s.overlong.Load() != overlong {
			t.Errorf("%d received and %d overlong are counted, want %d and %d", s.received.Load(), s.overlong.Load(), received, overlong)
		}
	})
}
