package collector

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/xsk"
)

// receiver is a worker at a socket.
type receiver struct {
	*worker
	socket *xsk.Socket
	frames [][]byte // room for a batch
	offset *clock.Offset
	ending *atomic.Bool // detached: end when the ring is empty
	warmed byte
}

// patient is how long a receiver looks at an empty ring at most.
const patient = 10 * time.Millisecond

// run takes frames from the socket until the end, on a thread of its own.
func (r *receiver) run(index int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer r.finish()
	undo, err := xsk.Punctual()
	if err != nil {
		return fmt.Errorf("worker %d: %w", index, err)
	}
	defer undo()
	mono, err := newMonotonic()
	if err != nil {
		return fmt.Errorf("worker %d: %w", index, err)
	}
	for {
		now := mono.now() // before the look: what comes later is newer
		n := r.socket.Receive(r.frames)
		r.warm(r.frames[:n])
		for _, buf := range r.frames[:n] {
			r.receive(buf)
		}
		r.socket.Release()
		r.publish()
		r.tick(now, r.offset.UTC(now), n == 0)
		if n > 0 {
			continue
		}
		if r.ending.Load() {
			return nil
		}
		if err := r.socket.Wait(patient); err != nil {
			return fmt.Errorf("worker %d: %w", index, err)
		}
	}
}

// makeRoom sees to it that workers do not have all of Go's places to run
// (GOMAXPROCS), which are as many as there are CPUs. A worker that naps keeps its
// place if there are others, and if not has to get it back when it wakes. A
// number that the user gave stays.
func makeRoom(workers int) (undo func()) {
	if os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) >= workers+spareRoom {
		return func() {}
	}
	runtime.GOMAXPROCS(workers + spareRoom)
	return runtime.SetDefaultGOMAXPROCS
}

// spareRoom is for who writes and for all that is not the way of a packet.
const spareRoom = 2

// warm reads one byte of each frame. Another CPU has just written them, so each
// first look is a cache miss; here the misses overlap.
func (r *receiver) warm(frames [][]byte) {
	for _, f := range frames {
		if len(f) > bpf.RecordSize {
			r.warmed += f[0] + f[bpf.RecordSize]
		}
	}
}

// monotonic reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns, without a
// system call: Go's own clock, anchored once.
type monotonic struct {
	start  time.Time
	anchor uint64
}

func newMonotonic() (monotonic, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return monotonic{}, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return monotonic{start: time.Now(), anchor: uint64(ts.Nano())}, nil
}

func (m *monotonic) now() uint64 { return m.anchor + uint64(time.Since(m.start)) }
