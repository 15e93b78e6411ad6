package clock

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// samples is how often the two clocks are read for one offset. The reading that was
// interrupted least is taken.
const samples = 16

// Offset is the distance from CLOCK_MONOTONIC, which bpf_ktime_get_ns reads, to UTC.
//
// The kernel slews both clocks alike, so the offset stands still until somebody sets
// the wall clock or a leap second is inserted. Refresh notices; its owner calls it
// every second or so. All methods of Stamper may run meanwhile.
type Offset struct {
	ns    atomic.Int64
	width int64 // of the reading behind ns: the offset is this well known
	read  func() (offset, width int64, err error)
}

// NewOffset returns the offset as it is now.
func NewOffset() (*Offset, error) { return newOffset(readClocks) }

func newOffset(read func() (offset, width int64, err error)) (*Offset, error) {
	o := &Offset{read: read}
	ns, width, err := o.sample()
	if err != nil {
		return nil, err
	}
	o.ns.Store(ns)
	o.width = width
	return o, nil
}

// Refresh follows the wall clock if it was set. A difference within what the readings
// leave open is none: the offset does not wobble. One goroutine calls Refresh.
func (o *Offset) Refresh() error {
	ns, width, err := o.sample()
	if err != nil {
		return err
	}
	if d := ns - o.ns.Load(); d > o.width+width || -d > o.width+width {
		o.ns.Store(ns)
		o.width = width
	}
	return nil
}

// UTC brings a CLOCK_MONOTONIC time, in nanoseconds, to nanoseconds since 1970.
func (o *Offset) UTC(monotonic uint64) uint64 { return monotonic + uint64(o.ns.Load()) }

// sample returns the tightest of several readings.
func (o *Offset) sample() (offset, width int64, err error) {
	for i := range samples {
		ns, w, err := o.read()
		if err != nil {
			return 0, 0, fmt.Errorf("reading the clocks: %w", err)
		}
		if i == 0 || w < width {
			offset, width = ns, w
		}
	}
	return offset, width, nil
}

// readClocks reads the wall clock between two readings of the monotonic one. The
// offset is off by half the width at most.
func readClocks() (offset, width int64, err error) {
	var before, wall, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
		return 0, 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall); err != nil {
		return 0, 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
		return 0, 0, err
	}
	width = after.Nano() - before.Nano()
	return wall.Nano() - (before.Nano() + width/2), width, nil
}
