// Package xsk receives packets from one queue of a network interface through
// AF_XDP sockets: no copy into the process, no system call while packets come.
//
// An XDP program redirects packets to a socket through an XSKMAP. The packet
// memory (UMEM) is cut into frames, and two kinds of ring pass them around:
//
//	                 kernel                     │  process
//	           ┌───────────────┐                │
//	packet ──► │ frame, filled │ ─► receive ring ──► Socket.Receive ─► worker
//	           └───────▲───────┘   one a socket │                        │
//	                   │                        │                        │
//	               fill ring ◄── circulation ◄────── Socket.Release ◄────┘
//	               one a queue     │   ▲        │
//	                               ▼   │        │
//	                              parked frames │
//
// A Queue is one UMEM on one receive queue of one interface. Several sockets,
// one for each worker, may share it: they have one fill ring in common and a
// receive ring each, and the XDP program decides whose a packet is by the
// XSKMAP slot it picks. So one queue, on which a tunnel's whole feed lands, can
// be worked on by many CPUs.
//
// # Ownership
//
// A worker is one goroutine that owns one Socket:
//
//	for ctx.Err() == nil {
//		n := s.Receive(batch)           // borrow
//		for _, frame := range batch[:n] {
//			...
//		}
//		s.Release()                     // give back: batch is dead from here on
//		if n == 0 {
//			err = s.Wait(timeout)
//		}
//	}
//
// Receive, Release and Wait take no lock and allocate nothing. Workers share
// only the fill ring, and whoever finds it taken keeps its frames until its
// next turn. A frame is with exactly one of: the fill ring, the kernel, a
// receive ring, a worker, the park.
//
// # Circulation
//
// Every frame in the fill ring is written to in its turn. With all of them
// there, packets walk through the whole memory, and each is a cache miss on two
// CPUs. So only some circulate and the others are parked. When a backlog builds
// up more are let in, at once; when there was none for a while some are taken
// out again, slowly. The type circulation has the rule, Config its bounds.
package xsk

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Queue is one receive queue of an interface with its packet memory and the
// sockets on it.
type Queue struct {
	name    string // for messages
	info    Info
	umem    umem
	fillMap []byte
	frames  *circulation
	sockets []*Socket

	mu     sync.Mutex // orders Stats and Wake with Close; not on the way of a packet
	closed bool
	last   Stats
	err    error // of Close
}

// Info says what the kernel gave of what Config asked for.
type Info struct {
	Mode        Mode // Copy or ZeroCopy
	MultiBuffer bool
	HugePages   bool
}

// Open makes the sockets and binds them. The calling thread must be in the
// network namespace of the interface; workers may run anywhere. Packets come
// once the sockets are in an XSKMAP and a program redirects to them. After an
// error nothing is left.
func Open(cfg Config) (_ *Queue, err error) {
	cfg, err = cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("opening AF_XDP sockets: %w", err)
	}
	link, err := net.InterfaceByIndex(cfg.Ifindex)
	if err != nil {
		return nil, fmt.Errorf("opening AF_XDP sockets: interface %d: %w: is it in this network namespace?", cfg.Ifindex, err)
	}
	q := &Queue{name: fmt.Sprintf("%s queue %d", link.Name, cfg.Queue)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening AF_XDP sockets on %s: %w", q.name, err), q.release())
		}
	}()

	if q.umem, err = mapUMEM(cfg.Frames, cfg.FrameSize, cfg.HugePages); err != nil {
		return nil, err
	}
	q.info.HugePages = q.umem.hugePages
	for i := range cfg.Sockets {
		s, err := openSocket(q, fmt.Sprintf("%s socket %d", q.name, i), cfg)
		q.sockets = append(q.sockets, s)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := q.own(s, cfg); err != nil {
				return nil, err
			}
			err = q.bindFirst(s, cfg)
		} else {
			// The other flags are the first socket's; bind refuses them here.
			err = bind(s.fd, cfg, unix.XDP_SHARED_UMEM, q.sockets[0].fd)
		}
		if err != nil {
			return nil, err
		}
		s.frames = q.frames
	}
	return q, nil
}

// own makes the first socket the owner of the packet memory and of the rings
// that go with it.
func (q *Queue) own(s *Socket, cfg Config) error {
	if err := q.umem.register(s.fd); err != nil {
		return err
	}
	if err := setRing(s.fd, unix.XDP_UMEM_FILL_RING, "fill", cfg.Frames); err != nil {
		return err
	}
	// bind insists on a completion ring (xsk_validate_queues); without sending
	// nothing is ever in it.
	if err := setRing(s.fd, unix.XDP_UMEM_COMPLETION_RING, "completion", 1); err != nil {
		return err
	}
	at, err := ringOffsets(s.fd)
	if err != nil {
		return err
	}
	fill, memory, err := mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, at.Fr, cfg.Frames)
	if err != nil {
		return fmt.Errorf("mapping the fill ring: %w", err)
	}
	q.fillMap = memory
	q.frames = newCirculation(fill, cfg)
	return nil
}

// bindFirst binds the first socket in the best way that the kernel and the
// driver allow, and finds out what that gave.
func (q *Queue) bindFirst(s *Socket, cfg Config) error {
	// The kernel, left to choose, prefers several buffers to zero-copy, which
	// many drivers have for one buffer only. It refuses that if the MTU is too
	// large for it (xp_assign_dev in net/xdp/xsk_buff_pool.c).
	var modes []uint16
	if cfg.Mode != Copy {
		modes = append(modes, unix.XDP_ZEROCOPY)
	}
	if cfg.Mode != ZeroCopy {
		modes = append(modes, unix.XDP_COPY)
	}
	buffers := []uint16{0}
	if cfg.MultiBuffer {
		buffers = []uint16{unix.XDP_USE_SG, 0} // unknown before Linux 6.6
	}
	var err error
	for _, mode := range modes {
		for _, buffer := range buffers {
			err = bind(s.fd, cfg, unix.XDP_USE_NEED_WAKEUP|mode|buffer, 0)
			if err == nil {
				q.info.MultiBuffer = buffer != 0
				return q.askMode(s)
			}
			if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
	}
	return err
}

// askMode asks the kernel for the mode that it bound the socket in.
func (q *Queue) askMode(s *Socket) error {
	var got struct{ flags uint32 } // struct xdp_options
	if err := getOption(s.fd, unix.XDP_OPTIONS, &got); err != nil {
		return fmt.Errorf("asking for the mode: %w", err)
	}
	q.info.Mode = Copy
	if got.flags&unix.XDP_OPTIONS_ZEROCOPY != 0 {
		q.info.Mode = ZeroCopy
	}
	return nil
}

// bind binds a socket to the queue. A queue that another socket has just left
// is still busy for a moment (xp_release_deferred in net/xdp/xsk_buff_pool.c
// runs on a work queue), so a busy one is tried for a second.
func bind(fd int, cfg Config, flags uint16, owner int) error {
	address := &unix.SockaddrXDP{
		Flags:        flags,
		Ifindex:      uint32(cfg.Ifindex),
		QueueID:      uint32(cfg.Queue),
		SharedUmemFD: uint32(owner),
	}
	err := unix.Bind(fd, address)
	for range 100 {
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = unix.Bind(fd, address)
	}
	if err == nil {
		return nil
	}
	invalid := fmt.Sprintf("has the interface a receive queue %d? (ethtool -l)", cfg.Queue)
	if cfg.Mode == ZeroCopy {
		invalid += " does a packet of its MTU fit a frame?"
	}
	return fmt.Errorf("binding: %w%s%s%s%s%s", err,
		cure(err, unix.EBUSY, "another AF_XDP socket has this queue: end that program (ss --xdp -p) or take another queue"),
		cure(err, unix.EOPNOTSUPP, "the driver has no zero-copy: use mode copy or auto"),
		cure(err, unix.EINVAL, invalid),
		cure(err, unix.ENODEV, "the interface is gone, or in another network namespace"),
		cure(err, unix.ENOMEM, "not enough kernel memory: use fewer frames"))
}

// Sockets returns the sockets, in the order in which they were opened.
func (q *Queue) Sockets() []*Socket { return q.sockets }

// Info says what was got.
func (q *Queue) Info() Info { return q.info }

// Close closes the sockets and returns the memory. The workers must have
// ended: their frames are gone after it. A second call does nothing and
// returns the same error.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return q.err
	}
	last, err := q.stats()
	q.closed, q.last = true, last
	if err := errors.Join(err, q.release()); err != nil {
		q.err = fmt.Errorf("closing AF_XDP sockets on %s: %w", q.name, err)
	}
	return q.err
}

// release lets go of whatever Open has got so far.
func (q *Queue) release() error {
	var errs []error
	for _, s := range q.sockets {
		errs = append(errs, s.close())
	}
	errs = append(errs, unmap(&q.fillMap), unmap(&q.umem.memory))
	return errors.Join(errs...)
}
