package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketBatch is how many frames one sendmmsg takes.
const socketBatch = 64

// socket sends through AF_PACKET, many frames per system call. The device's queue
// pushes back: nothing is lost between here and the device.
type socket struct {
	plan *plan
	fd   int

	frames   [][]byte // of the batch; as long as the largest batch so far
	used     int      // of them
	iovecs   []unix.Iovec
	messages []message
	events   []sentEvent
	packet   []byte // one packet before it is fragmented

	mu  sync.Mutex
	now Stats
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	sent   uint32
	_      [4]byte
}

// sentEvent is an event of the batch and where its frames end in it.
type sentEvent struct {
	event
	end int
}

func newSocket(p *plan, d *device) (*socket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w: CAP_NET_RAW is needed", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: d.index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding a packet socket: %w", err)
	}
	return &socket{plan: p, fd: fd, now: p.newStats()}, nil
}

func (s *socket) close() error { return unix.Close(s.fd) }

func (s *socket) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.clone()
}

func (s *socket) run(ctx context.Context) error {
	return onCPU(s.plan.cpu, func() error { return s.send(ctx) })
}

func (s *socket) send(ctx context.Context) error {
	var (
		schedule = s.plan.schedule()
		pace     = pacer{rate: s.plan.rate, due: time.Now()}
		packets  uint64
	)
	for ctx.Err() == nil && (s.plan.count == 0 || packets < s.plan.count) {
		now := time.Now()
		if wait := pace.wait(now); wait > 0 {
			if err := s.flush(); err != nil {
				return err
			}
			sleep(ctx, wait)
			continue
		}
		e, ok := schedule.next()
		if !ok {
			if s.plan.loop {
				continue
			}
			break
		}
		s.add(e, now, &pace)
		packets++
		if s.used >= socketBatch {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return s.flush()
}

// sleep waits for d or for ctx to be done.
func sleep(ctx context.Context, d time.Duration) {
	const short = 10 * time.Millisecond
	if d <= short {
		time.Sleep(d)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// add puts the frames of an event into the batch.
func (s *socket) add(e event, now time.Time, pace *pacer) {
	w := s.plan.feeds[e.feed].wrapper
	stamp := s.plan.stamp(e, now)
	s.packet = s.plan.wrap(s.packet[:0], e, stamp)
	for i, more := 0, true; more; i++ {
		frame := s.frame()
		*frame, more = w.AppendFragment((*frame)[:0], s.packet, stamp, i)
		pace.spend(len(*frame), i == 0)
	}
	s.events = append(s.events, sentEvent{e, s.used})
}

// frame is the next free buffer of the batch.
func (s *socket) frame() *[]byte {
	if s.used == len(s.frames) {
		s.frames = append(s.frames, make([]byte, 0, 2048))
		s.iovecs = append(s.iovecs, unix.Iovec{})
		s.messages = append(s.messages, message{})
	}
	s.used++
	return &s.frames[s.used-1]
}

// flush sends the batch and counts it.
func (s *socket) flush() error {
	sent := 0
	var err error
	for i, frame := range s.frames[:s.used] {
		s.iovecs[i].Base = &frame[0]
		s.iovecs[i].SetLen(len(frame))
		s.messages[i].header = unix.Msghdr{Iov: &s.iovecs[i], Iovlen: 1}
	}
	for sent < s.used && err == nil {
		var n int
		n, err = sendmmsg(s.fd, s.messages[sent:s.used])
		sent += n
		switch {
		case errors.Is(err, unix.EINTR):
			err = nil
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			time.Sleep(50 * time.Microsecond) // the device's queue is full
			err = nil
		case err != nil:
			err = fmt.Errorf("sending a frame of %d bytes: %w", len(s.frames[sent]), err)
		}
	}

	s.mu.Lock()
	for _, frame := range s.frames[:sent] {
		s.now.Frames++
		s.now.Bytes += uint64(len(frame))
	}
	for _, e := range s.events {
		if e.end <= sent {
			s.now.Packets++
			s.now.Feeds[e.feed].count(e.event)
		}
	}
	s.mu.Unlock()
	s.used = 0
	s.events = s.events[:0]
	return err
}

// sendmmsg sends messages and returns how many went, which may be fewer; x/sys
// has no call for it.
func sendmmsg(fd int, messages []message) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
