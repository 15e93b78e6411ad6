package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Stats are the counters of a Queue since it was opened. In copy mode every
// packet that an XDP program redirected to one of its sockets is in exactly one
// box, so that this line adds up to the packet:
//
//	redirected = Received + Overlong + RingFull + FillRingEmpty + TooLong + still in a receive ring
//
// In zero-copy mode it adds up too, but a NIC that finds no frame loses the
// packet before there is one to redirect: then FillRingEmpty and TooLong are 0,
// and the loss is in the NIC's own counters (ethtool -S: rx_missed,
// rx_no_buffer and the like).
type Stats struct {
	Received uint64 // handed out by Receive
	Overlong uint64 // came in several frames, more than 68 KiB long; dropped here

	// RingFull packets were dropped because their worker was RingSize
	// descriptors behind (rx_ring_full): it is too slow, or has more than its
	// share of the flows.
	RingFull uint64
	// FillRingEmpty packets were dropped because no frame was left in the fill
	// ring (in rx_dropped): the workers together are too slow, or stalled for
	// longer than the frames last.
	FillRingEmpty uint64
	// TooLong packets were dropped because they need several frames and
	// MultiBuffer is off (in rx_dropped). A larger FrameSize may help.
	TooLong uint64

	// FillRingMisses counts how often the kernel looked for a frame and found
	// none (rx_fill_ring_empty_descs). In copy mode without MultiBuffer that is
	// FillRingEmpty again. Otherwise a packet may look once, often or not at
	// all, and this is a hint, no loss.
	FillRingMisses uint64

	Circulating int    // frames not parked now, a gauge; see the package comment
	Floods      uint64 // times that a backlog stayed and circulation was cut down

	Sockets []SocketStats // in the order of Queue.Sockets
}

// SocketStats are one socket's part of the Stats.
type SocketStats struct {
	Received uint64
	Overlong uint64
	RingFull uint64
	Dropped  uint64 // FillRingEmpty or TooLong, which the kernel counts as one (rx_dropped)

	// InvalidDescs are descriptors that the kernel refused
	// (rx_invalid_descs): none, ever, on a socket that only receives.
	InvalidDescs uint64

	Kept    uint64 // turns after which frames stayed, because another worker was returning its own
	Sleeps  uint64 // times that Wait slept until a frame came, or timeout
	Naps    uint64 // times that it slept for Config.Nap
	Entered uint64 // calls into the kernel to make the driver move
}

// Stats reads the counters. Any goroutine may call it; after Close it returns
// the last ones. The kernel counts on meanwhile, so under traffic the boxes are
// as close together in time as a few system calls are.
func (q *Queue) Stats() (Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return q.last, nil
	}
	return q.stats()
}

func (q *Queue) stats() (Stats, error) {
	t := Stats{
		Circulating: int(q.frames.circulating.Load()),
		Floods:      q.frames.floods.Load(),
		Sockets:     make([]SocketStats, len(q.sockets)),
	}
	dropped := uint64(0)
	for i, s := range q.sockets {
		var kernel unix.XDPStatistics
		if err := getOption(s.fd, unix.XDP_STATISTICS, &kernel); err != nil {
			return Stats{}, fmt.Errorf("asking for the statistics of %s: %w", s.name, err)
		}
		t.Sockets[i] = SocketStats{
			Received:     s.received.Load(),
			Overlong:     s.overlong.Load(),
			RingFull:     kernel.Rx_ring_full,
			Dropped:      kernel.Rx_dropped,
			InvalidDescs: kernel.Rx_invalid_descs,
			Kept:         s.kept.Load(),
			Sleeps:       s.sleeps.Load(),
			Naps:         s.naps.Load(),
			Entered:      s.entered.Load(),
		}
		t.Received += t.Sockets[i].Received
		t.Overlong += t.Sockets[i].Overlong
		t.RingFull += t.Sockets[i].RingFull
		dropped += t.Sockets[i].Dropped
		t.FillRingMisses = kernel.Rx_fill_ring_empty_descs // of the fill ring, the same for all
	}
	t.FillRingEmpty, t.TooLong = split(dropped, t.FillRingMisses, q.info)
	return t, nil
}

// split tells the two reasons of rx_dropped apart. __xsk_rcv in net/xdp/xsk.c
// counts there when it finds no frame, and only then in the fill ring's misses;
// xsk_rcv_check when the packet is too long, which with multi-buffer none is.
func split(dropped, misses uint64, info Info) (fillRingEmpty, tooLong uint64) {
	if info.MultiBuffer || info.Mode == ZeroCopy {
		return dropped, 0
	}
	fillRingEmpty = min(dropped, misses)
	return fillRingEmpty, dropped - fillRingEmpty
}
