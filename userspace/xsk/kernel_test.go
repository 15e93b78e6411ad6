package xsk

import (
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// headroom is where the kernel begins to write in a frame (XDP_PACKET_HEADROOM).
const headroom = 256

// kernel plays the kernel's part of a Queue that lives in plain memory: it
// takes frames from the fill ring and puts packets into receive rings.
type kernel struct {
	queue *Queue
	fill  ring[uint64]
	rx    []ring[unix.XDPDesc]
	spare []uint64 // frames taken in vain, used first; the kernel has such a list too
}

// memoryQueue returns a Queue without sockets of the system, and its kernel.
func memoryQueue(tb testing.TB, cfg Config) (*Queue, *kernel) {
	tb.Helper()
	cfg.Ifindex = 1
	cfg, err := cfg.complete()
	if err != nil {
		tb.Fatal(err)
	}
	q := &Queue{name: "memory", umem: umem{memory: make([]byte, cfg.Frames*cfg.FrameSize), frameSize: cfg.FrameSize}}
	k := &kernel{queue: q}
	q.frames = newCirculation(memoryRing[uint64](cfg.Frames), cfg)
	k.fill = otherSide(q.frames.fill)
	for i := range cfg.Sockets {
		s := &Socket{
			queue:  q,
			name:   fmt.Sprintf("memory socket %d", i),
			rx:     memoryRing[unix.XDPDesc](cfg.RingSize),
			memory: q.umem.memory,
			base:   ^uint64(cfg.FrameSize - 1),
			frames: q.frames,
			freed:  make([]uint64, 0, cfg.Frames),
		}
		if cfg.MultiBuffer {
			s.chain.buffer = make([]byte, maxFrame)
		}
		q.sockets = append(q.sockets, s)
		k.rx = append(k.rx, otherSide(s.rx))
	}
	return q, k
}

func memoryRing[D any](entries int) ring[D] {
	return ring[D]{
		producer: new(atomic.Uint32),
		consumer: new(atomic.Uint32),
		flags:    new(atomic.Uint32),
		entries:  make([]D, entries),
	}
}

// otherSide returns the ring as the other side sees it.
func otherSide[D any](r ring[D]) ring[D] {
	return ring[D]{producer: r.producer, consumer: r.consumer, flags: r.flags, entries: r.entries}
}

// take takes a frame out of the fill ring.
func (k *kernel) take() (frame uint64, ok bool) {
	if n := len(k.spare); n > 0 {
		frame, k.spare = k.spare[n-1], k.spare[:n-1]
		return frame, true
	}
	posted := k.fill.Peek(1)
	if len(posted) == 0 {
		return 0, false
	}
	frame = posted[0]
	k.fill.Release(1)
	return frame, true
}

// deliver puts a packet into the socket's receive ring, in several descriptors
// if it has several pieces. It is false when one of the rings did not allow it.
func (k *kernel) deliver(socket int, pieces ...[]byte) bool {
	var descs []unix.XDPDesc
	rx := &k.rx[socket]
	room := len(rx.entries) - int(rx.own-rx.consumer.Load())
	for i, piece := range pieces {
		frame, ok := k.take()
		if !ok || i >= room {
			if ok {
				k.spare = append(k.spare, frame)
			}
			for _, d := range descs {
				k.spare = append(k.spare, d.Addr-headroom)
			}
			return false
		}
		addr := frame + headroom
		d := unix.XDPDesc{Addr: addr, Len: uint32(copy(k.queue.umem.memory[addr:], piece))}
		if i < len(pieces)-1 {
			d.Options = unix.XDP_PKT_CONTD
		}
		descs = append(descs, d)
	}
	for _, d := range descs {
		rx.Reserve(1)[0] = d
		rx.Submit(1)
	}
	return true
}

// census fails the test unless every frame is in exactly one place. Nothing
// may move meanwhile.
func (k *kernel) census(tb testing.TB) {
	tb.Helper()
	places := make(map[uint64][]string)
	note := func(place string, addresses ...uint64) {
		for _, a := range addresses {
			places[a] = append(places[a], place)
		}
	}
	fill := k.queue.frames.fill
	for i := fill.consumer.Load(); i != fill.producer.Load(); i++ {
		note("fill ring", fill.entries[int(i)%len(fill.entries)])
	}
	note("park", k.queue.frames.parked...)
	note("kernel", k.spare...)
	for _, s := range k.queue.sockets {
		for i := s.rx.consumer.Load(); i != s.rx.producer.Load(); i++ {
			note(s.name+"'s receive ring", s.rx.entries[int(i)%len(s.rx.entries)].Addr&s.base)
		}
		note(s.name+"'s worker", s.freed...)
	}
	for i := range k.queue.frames.frames {
		a := uint64(i * k.queue.umem.frameSize)
		if len(places[a]) != 1 {
			tb.Errorf("frame %d is in %d places: %v", i, len(places[a]), places[a])
		}
		delete(places, a)
	}
	for a, where := range places {
		tb.Errorf("address %#x in %v is no frame", a, where)
	}
}
