package xsk

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// circulationOf returns the circulation of 4096 frames, 256 at least, with all
// of them in the fill ring.
func circulationOf(t *testing.T) (*circulation, *kernel) {
	t.Helper()
	cfg := Default()
	cfg.Frames = 4096
	cfg.CirculationMin = 256
	q, k := memoryQueue(t, cfg)
	q.frames.every = 4096
	return q.frames, k
}

// turn has the kernel take frames until away are not with it, and a worker
// return n of those.
func turn(t *testing.T, c *circulation, k *kernel, held *[]uint64, away, n int) {
	t.Helper()
	for len(*held) < away {
		frame, ok := k.take()
		if !ok {
			break
		}
		*held = append(*held, frame)
	}
	n = min(n, len(*held))
	if !c.put((*held)[:n]) {
		t.Fatal("put found the fill ring taken")
	}
	*held = append((*held)[:0], (*held)[n:]...)
}

// settle lets a worker that keeps up run until circulation changes no more.
func settle(t *testing.T, c *circulation, k *kernel, held *[]uint64) {
	t.Helper()
	for before := -1; before != c.target || len(c.parked) != c.frames-c.target; {
		before = c.target
		for range c.every/64 + 1 {
			turn(t, c, k, held, 64, 64)
		}
	}
}

func TestCirculationShrinksWhileWorkersKeepUp(t *testing.T) {
	c, k := circulationOf(t)
	if got := c.circulating.Load(); got != 4096 {
		t.Fatalf("%d frames circulate at the start, want all 4096", got)
	}
	var held []uint64
	windows := 0
	for last := c.target; c.target > c.min && windows < 100; windows++ {
		for range c.every / 64 {
			turn(t, c, k, &held, 64, 64)
		}
		if c.target > last || last-c.target > (last+3)/4 {
			t.Errorf("the target went from %d to %d in a window, want at most a quarter less", last, c.target)
		}
		last = c.target
	}
	if c.target != 256 {
		t.Errorf("the target is %d after %d windows of 64 frames in hand, want 256", c.target, windows)
	}
	if got := c.circulating.Load(); got != 256 {
		t.Errorf("%d frames circulate, want 256", got)
	}
}

func TestCirculationStaysAboveTheBacklogsItSees(t *testing.T) {
	c, k := circulationOf(t)
	var held []uint64
	for range 40 {
		turn(t, c, k, &held, 500, 64) // one backlog of 500 in each window
		for range c.every / 64 {
			turn(t, c, k, &held, 64, 64)
		}
	}
	if c.target < 4*500 || c.target > 4*500+64 {
		t.Errorf("the target is %d, want 4 times the backlog of 500", c.target)
	}
}

func TestCirculationGrowsWithTheBacklog(t *testing.T) {
	c, k := circulationOf(t)
	var held []uint64
	settle(t, c, k, &held)
	for _, step := range []struct{ away, want int }{
		{64, 256}, {128, 256}, {129, 512}, {256, 512}, {300, 1024}, {300, 1024}, {1000, 2048}, {2000, 4096}, {4096, 4096},
	} {
		turn(t, c, k, &held, step.away, 1)
		if c.target != step.want {
			t.Errorf("with %d frames away from the kernel the target is %d, want %d", step.away, c.target, step.want)
		}
		if got := c.frames - len(c.parked); got != c.target {
			t.Errorf("%d frames circulate in the same turn, want the target, %d", got, c.target)
		}
	}
	if got := c.circulating.Load(); got != 4096 {
		t.Errorf("the gauge is %d, want 4096", got)
	}
}

// Shrinking takes no more than half of what a worker returns, or the kernel
// would get nothing for a while.
func TestCirculationParksAtMostHalf(t *testing.T) {
	c, k := circulationOf(t)
	var held []uint64
	c.target = 300
	turn(t, c, k, &held, 64, 64)
	if got := len(c.parked); got != 32 {
		t.Errorf("%d of 64 returned frames were parked, want 32", got)
	}
	turn(t, c, k, &held, 1, 1)
	if got := len(c.parked); got != 33 {
		t.Errorf("%d frames are parked after one more came alone, want 33", got)
	}
}

// A feed that is faster than the workers keeps all frames away from the kernel.
// Then circulation is cut down until they have caught up.
func TestCirculationFlood(t *testing.T) {
	c, k := circulationOf(t)
	var held []uint64
	returned := 0
	for ; c.floods.Load() == 0 && returned < 100*c.frames; returned += 64 {
		turn(t, c, k, &held, c.frames, 64)
	}
	if want := floodAfter * c.frames; returned < want || returned > want+64 {
		t.Fatalf("a flood was seen after %d frames, want %d", returned, want)
	}
	for range 200 {
		turn(t, c, k, &held, c.frames, 64)
	}
	if got := c.circulating.Load(); got != 256 {
		t.Errorf("%d frames circulate in a flood, want 256", got)
	}
	if got := c.floods.Load(); got != 1 {
		t.Errorf("%d floods counted, want 1", got)
	}
	turn(t, c, k, &held, 0, len(held)) // the workers catch up
	turn(t, c, k, &held, 1, 1)
	turn(t, c, k, &held, 200, 1) // and the next backlog counts again
	if c.target != 512 {
		t.Errorf("the target is %d after the flood and a backlog of 200, want 512", c.target)
	}
}

func TestCirculationMayNotGrowBeyondMax(t *testing.T) {
	cfg := Default()
	cfg.Frames = 4096
	cfg.CirculationMin = 100
	cfg.CirculationMax = 1000
	q, k := memoryQueue(t, cfg)
	var held []uint64
	for range 20 {
		turn(t, q.frames, k, &held, 4096, 10)
		if got := q.frames.frames - len(q.frames.parked); got != 1000 {
			t.Fatalf("%d frames circulate, want 1000", got)
		}
	}
	k.spare = append(k.spare, held...)
	k.census(t)
}

// Four workers and a kernel that delivers without a pause, sometimes faster
// than they work. Every frame that comes out of the fill ring must have been
// returned by whoever had it before, its contents must stay while it is lent,
// and in the end all frames must be there, each once. With -race it also shows
// that the claim orders what the workers share.
func TestWorkersShareTheFillRing(t *testing.T) {
	const workers = 4
	const packets = 100_000
	cfg := Default()
	cfg.Frames = 1024
	cfg.CirculationMin = 64
	cfg.Sockets = workers
	q, k := memoryQueue(t, cfg)
	size := uint64(cfg.FrameSize)
	lent := make([]atomic.Bool, cfg.Frames)

	var (
		wg       sync.WaitGroup
		done     atomic.Bool
		received [workers]uint64
		errs     = make(chan error, workers+1)
	)
	for i, s := range q.sockets {
		wg.Go(func() {
			batch := make([][]byte, 1+16*i) // some return often, some much at once
			for last := uint64(0); ; {
				finished := done.Load()
				n := s.Receive(batch)
				if n == 0 {
					s.Release() // what was kept
					if finished && len(s.freed) == 0 {
						return
					}
					runtime.Gosched()
					continue
				}
				for _, frame := range batch[:n] {
					sequence, number := binary.LittleEndian.Uint64(frame), binary.LittleEndian.Uint64(frame[8:])
					if sequence <= last {
						errs <- fmt.Errorf("worker %d received packet %d after %d", i, sequence, last)
						return
					}
					last = sequence
					if !lent[number].CompareAndSwap(true, false) {
						errs <- fmt.Errorf("worker %d has frame %d, which is not lent", i, number)
						return
					}
				}
				received[i] += uint64(n)
				s.Release()
			}
		})
	}
	delivered, dropped := [workers]uint64{}, 0
	sequence := uint64(0)
	var data [64]byte
	for p := 0; p < packets && len(errs) == 0; p++ {
		frame, ok := k.take()
		if !ok {
			dropped++
			runtime.Gosched()
			continue
		}
		if !lent[frame/size].CompareAndSwap(false, true) {
			errs <- fmt.Errorf("frame %d came out of the fill ring while it was lent", frame/size)
			break
		}
		k.spare = append(k.spare, frame)
		sequence++
		binary.LittleEndian.PutUint64(data[:], sequence)
		binary.LittleEndian.PutUint64(data[8:], frame/size)
		to := p * 7919 >> 5 % workers
		if !k.deliver(to, data[:]) {
			lent[frame/size].Store(false)
			dropped++
			continue
		}
		delivered[to]++
	}
	done.Store(true)
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	if received != delivered {
		t.Errorf("workers received %v packets, want %v", received, delivered)
	}
	kept := uint64(0)
	for i, s := range q.sockets {
		kept += s.kept.Load()
		if got := s.received.Load(); got != received[i] {
			t.Errorf("socket %d counts %d packets, its worker %d", i, got, received[i])
		}
	}
	t.Logf("%v delivered, %d dropped, %d turns kept, %d frames parked", delivered, dropped, kept, len(q.frames.parked))
	k.census(t)
}
