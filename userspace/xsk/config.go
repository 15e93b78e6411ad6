package xsk

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Mode is how packets get from the driver into the frames.
type Mode int

const (
	Auto     Mode = iota // zero-copy where kernel and driver can, else copy
	Copy                 // the kernel copies each packet into a frame; works with every driver
	ZeroCopy             // the NIC writes into the frames; needs a driver that can
)

func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Copy:
		return "copy"
	case ZeroCopy:
		return "zero-copy"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Config says what to open. Start from Default and set Ifindex.
type Config struct {
	Ifindex int // of the interface, in the network namespace of the calling thread
	Queue   int // receive queue of the interface, from 0
	Sockets int // sockets that share the queue, one for each worker

	Frames    int // buffers for all sockets together, a power of two
	FrameSize int // 2048 or 4096 bytes; the kernel keeps 256 of them
	RingSize  int // descriptors each socket can be behind, a power of two; 0: its share of Frames

	// The number of frames that circulate adapts between these two; see the
	// package comment. Min 0: 1024 for each socket, at most Frames. Max 0: all.
	CirculationMin int
	CirculationMax int

	Mode        Mode // Info says what was got
	MultiBuffer bool // take packets that need several frames, where the kernel (6.6) and the driver can
	HugePages   bool // use 2 MiB pages where there are any; Info tells of reserved ones

	// Nap is how long Wait leaves the ring alone when frames have just come:
	// more will, and the timer that ends a nap costs the receiving CPU nothing,
	// where the packet that ends a sleep costs it a wake-up. 0: no naps. A
	// thread's naps are longer by its timer slack; see Punctual.
	Nap time.Duration

	// BusyPoll, when set, makes Wait drive the driver's receive loop itself
	// instead of napping, for as long (SO_PREFER_BUSY_POLL, SO_BUSY_POLL). It
	// needs napi_defer_hard_irqs and gro_flush_timeout of the interface.
	BusyPoll       time.Duration // SO_BUSY_POLL, in whole microseconds; 0: off
	BusyPollBudget int           // packets for each round; 0: the kernel's default
}

// Default returns the configuration for one worker on queue 0.
func Default() Config {
	return Config{
		Sockets:     1,
		Frames:      16384,
		FrameSize:   2048,
		MultiBuffer: true,
		HugePages:   true,
		Nap:         50 * time.Microsecond,
	}
}

const (
	maxSockets = 64
	maxFrames  = 1 << 22 // 8 GiB of 2048 bytes
)

// complete fills in what depends on other fields and validates the result.
func (c Config) complete() (Config, error) {
	if c.RingSize == 0 && c.Sockets > 0 {
		// A worker that is behind can hold its share of the frames, not all.
		c.RingSize = powerOfTwoUpTo(c.Frames / c.Sockets)
	}
	if c.CirculationMax == 0 {
		c.CirculationMax = c.Frames
	}
	if c.CirculationMin == 0 {
		c.CirculationMin = min(1024*c.Sockets, c.CirculationMax)
	}
	return c, c.validate()
}

func (c Config) validate() error {
	check := func(field string, value int, ok bool, reason string) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s %d: %s", field, value, reason)
	}
	return errors.Join(
		check("Ifindex", c.Ifindex, c.Ifindex > 0, "must be the index of an interface"),
		check("Queue", c.Queue, c.Queue >= 0, "must not be negative"),
		check("Sockets", c.Sockets, c.Sockets >= 1 && c.Sockets <= maxSockets, fmt.Sprintf("must be 1 to %d", maxSockets)),
		check("Frames", c.Frames, isPowerOfTwo(c.Frames) && c.Frames >= 64 && c.Frames <= maxFrames,
			fmt.Sprintf("must be a power of two from 64 to %d: the fill ring holds all of them, and rings are powers of two", maxFrames)),
		check("FrameSize", c.FrameSize, c.FrameSize == 2048 || c.FrameSize == 4096 && os.Getpagesize() >= 4096,
			"must be 2048 or 4096: the kernel takes powers of two from 2048 to the page size"),
		check("RingSize", c.RingSize, isPowerOfTwo(c.RingSize) && c.RingSize <= c.Frames,
			"must be a power of two, at most Frames"),
		check("CirculationMin", c.CirculationMin, c.CirculationMin >= 1 && c.CirculationMin <= c.CirculationMax,
			"must be from 1 to CirculationMax"),
		check("CirculationMax", c.CirculationMax, c.CirculationMax <= c.Frames, "must be at most Frames"),
		check("Mode", int(c.Mode), c.Mode >= Auto && c.Mode <= ZeroCopy, "must be Auto, Copy or ZeroCopy"),
		check("Nap", int(c.Nap), c.Nap >= 0 && c.Nap < time.Second, "must be 0 to a second"),
		check("BusyPoll", int(c.BusyPoll), c.BusyPoll == 0 || c.BusyPoll >= time.Microsecond, "must be at least a microsecond, or 0"),
		check("BusyPollBudget", c.BusyPollBudget, c.BusyPollBudget >= 0 && c.BusyPollBudget <= 65535, "must be 0 to 65535"),
	)
}

func isPowerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// powerOfTwoUpTo returns the largest power of two that is at most n.
func powerOfTwoUpTo(n int) int {
	p := 1
	for p <= n/2 {
		p *= 2
	}
	return p
}
