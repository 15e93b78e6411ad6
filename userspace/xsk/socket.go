package xsk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is one AF_XDP socket: a receive ring of its own, and frames shared
// with the other sockets of its Queue. Receive, Release and Wait are for one
// goroutine, its worker; FD and Wake are for any.
type Socket struct {
	queue *Queue
	name  string // for messages
	fd    int

	rx      ring[unix.XDPDesc]
	ringMap []byte
	memory  []byte // the UMEM
	base    uint64 // mask: from a descriptor's address to its frame

	frames *circulation
	freed  []uint64 // frames to return; the room is for all frames there are
	chain  chain

	wakeFD   int
	polled   [2]unix.PollFd // the socket and wakeFD
	timeout  unix.Timespec
	nap      time.Duration
	busyPoll bool
	loaded   bool // frames came since the last Wait

	received atomic.Uint64
	overlong atomic.Uint64
	kept     atomic.Uint64
	sleeps   atomic.Uint64
	naps     atomic.Uint64
	entered  atomic.Uint64
}

// FD returns the file descriptor, to be put into an XSKMAP. It stays the
// Queue's: do not close it.
func (s *Socket) FD() int { return s.fd }

// Receive fills frames with packets that have arrived, oldest first, and
// returns how many. It does not wait: 0 means that nothing is there now. A
// batch may be smaller than what has arrived.
//
// The frames are borrowed. They are yours, to write to as well, until Release,
// and the kernel's after it. Receive may be called again before Release; then
// both batches are yours. The capacity of a frame is its length.
//
// The first look at a frame is a cache miss, because another CPU wrote it.
// Where there is much to do for each, a loop over the batch that reads one byte
// of every frame before the work begins lets those misses overlap.
func (s *Socket) Receive(frames [][]byte) int {
	descs := s.rx.Peek(len(frames))
	if len(descs) == 0 {
		return 0
	}
	s.loaded = true
	if s.chain.open {
		return s.receiveChains(descs, frames)
	}
	memory, base := s.memory, s.base
	whole := len(descs)
	frames = frames[:len(descs)]
	freed := s.freed[len(s.freed):cap(s.freed)][:len(descs)]
	for i := range descs {
		d := &descs[i]
		if d.Options != 0 {
			whole = i
			break
		}
		end := d.Addr + uint64(d.Len)
		frames[i] = memory[d.Addr:end:end]
		freed[i] = d.Addr & base
	}
	s.freed = s.freed[:len(s.freed)+whole]
	s.rx.Release(whole)
	s.received.Add(uint64(whole))
	if whole < len(descs) {
		return whole + s.receiveChains(descs[whole:], frames[whole:])
	}
	return whole
}

// receiveChains is Receive for descriptors among which are parts of frames.
func (s *Socket) receiveChains(descs []unix.XDPDesc, frames [][]byte) int {
	got, used, overlong := 0, 0, 0
	for _, d := range descs {
		end := d.Addr + uint64(d.Len)
		frame := s.memory[d.Addr:end:end]
		if s.chain.open || d.Options&unix.XDP_PKT_CONTD != 0 {
			if s.chain.lent {
				break // until Release
			}
			var tooLong bool
			if frame, tooLong = s.chain.add(frame, d.Options); tooLong {
				overlong++
			}
		}
		if frame != nil {
			frames[got] = frame
			got++
		}
		s.freed = append(s.freed, d.Addr&s.base)
		used++
	}
	s.rx.Release(used)
	s.received.Add(uint64(got))
	s.overlong.Add(uint64(overlong))
	return got
}

// Release ends the lease of all frames received so far. They go back to the
// kernel now or, when another worker is just returning frames, with a later
// Release or Wait.
func (s *Socket) Release() {
	s.chain.lent = false
	if len(s.freed) == 0 {
		return
	}
	if !s.frames.put(s.freed) {
		s.kept.Add(1)
		return
	}
	s.freed = s.freed[:0]
	if s.frames.starving() {
		_ = s.enter() // Wait reports what is wrong
	}
}

// openSocket makes a socket and its receive ring, not yet bound. A failed
// socket is closed by the caller.
func openSocket(q *Queue, name string, cfg Config) (*Socket, error) {
	s := &Socket{
		queue:    q,
		name:     name,
		fd:       -1,
		wakeFD:   -1,
		memory:   q.umem.memory,
		base:     ^uint64(cfg.FrameSize - 1),
		freed:    make([]uint64, 0, cfg.Frames),
		nap:      cfg.Nap,
		busyPoll: cfg.BusyPoll > 0,
	}
	if cfg.MultiBuffer {
		s.chain.buffer = make([]byte, maxFrame)
	}
	var err error
	if s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return s, fmt.Errorf("making a socket: %w%s%s", err,
			cure(err, unix.EPERM, "CAP_NET_RAW is needed: run as root"),
			cure(err, unix.EAFNOSUPPORT, "this kernel was built without CONFIG_XDP_SOCKETS"))
	}
	if s.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return s, fmt.Errorf("making an eventfd: %w", err)
	}
	s.polled = [2]unix.PollFd{
		{Fd: int32(s.fd), Events: unix.POLLIN},
		{Fd: int32(s.wakeFD), Events: unix.POLLIN},
	}
	if err := setRing(s.fd, unix.XDP_RX_RING, "receive", cfg.RingSize); err != nil {
		return s, err
	}
	at, err := ringOffsets(s.fd)
	if err != nil {
		return s, err
	}
	if s.rx, s.ringMap, err = mapRing[unix.XDPDesc](s.fd, unix.XDP_PGOFF_RX_RING, at.Rx, cfg.RingSize); err != nil {
		return s, fmt.Errorf("mapping the receive ring: %w", err)
	}
	return s, s.setBusyPoll(cfg)
}

// setBusyPoll asks for busy polling, preferred to interrupts.
func (s *Socket) setBusyPoll(cfg Config) error {
	if cfg.BusyPoll == 0 {
		return nil
	}
	options := []struct {
		name          string
		option, value int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, int(cfg.BusyPoll.Microseconds())},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, cfg.BusyPollBudget},
	}
	if cfg.BusyPollBudget == 0 {
		options = options[:2]
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.option, o.value); err != nil {
			return fmt.Errorf("setting %s to %d: %w%s%s", o.name, o.value, err,
				cure(err, unix.EPERM, "CAP_NET_ADMIN is needed for busy polling"),
				cure(err, unix.ENOPROTOOPT, "this kernel was built without CONFIG_NET_RX_BUSY_POLL: set BusyPoll to 0"))
		}
	}
	return nil
}

// setRing makes the kernel allocate a ring.
func setRing(fd, option int, name string, entries int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_XDP, option, entries); err != nil {
		return fmt.Errorf("making the %s ring of %d entries: %w%s", name, entries, err,
			cure(err, unix.ENOMEM, "not enough kernel memory: make it smaller"))
	}
	return nil
}

// ringOffsets asks where the words of the rings are in their mappings.
func ringOffsets(fd int) (unix.XDPMmapOffsets, error) {
	var at unix.XDPMmapOffsets
	if err := getOption(fd, unix.XDP_MMAP_OFFSETS, &at); err != nil {
		return at, fmt.Errorf("asking for the layout of the rings: %w", err)
	}
	return at, nil
}

// close lets go of all that the socket has; the kernel takes it out of every
// XSKMAP. The frames it has and had belong to nobody after it.
func (s *Socket) close() error {
	var errs []error
	for _, fd := range []*int{&s.fd, &s.wakeFD} {
		if *fd >= 0 {
			if err := unix.Close(*fd); err != nil {
				errs = append(errs, fmt.Errorf("closing %s: %w", s.name, err))
			}
			*fd = -1
		}
	}
	return errors.Join(append(errs, unmap(&s.ringMap))...)
}

// unmap unmaps a mapping, once.
func unmap(mapping *[]byte) error {
	memory := *mapping
	*mapping = nil
	if memory == nil {
		return nil
	}
	if err := unix.Munmap(memory); err != nil {
		return fmt.Errorf("unmapping %d bytes: %w", len(memory), err)
	}
	return nil
}
