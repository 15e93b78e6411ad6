package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is what Wait returns when the interface no longer exists.
var ErrGone = errors.New("the interface is gone")

const (
	// longestSleep bounds one sleep. That the interface has gone wakes nobody
	// (xsk_poll in net/xdp/xsk.c reports no error); it has to be asked for.
	longestSleep = time.Second
	// keptSleep bounds it for a worker that still has frames to return.
	keptSleep = time.Millisecond
)

// Wait ends the lease as Release does, then blocks until frames have arrived,
// Wake is called or timeout is over; a negative timeout never is. It may return
// early. If frames came since the last Wait it naps before it sleeps, see
// Config.Nap.
//
// The error wraps ErrGone when the interface was deleted. An interface that is
// merely down is no error: it may come up again.
func (s *Socket) Wait(timeout time.Duration) error {
	s.Release()
	if s.rx.Waiting() {
		return nil
	}
	start := time.Now()
	if s.loaded || s.busyPoll {
		s.loaded = false
		if err := s.rest(start, timeout); err != nil || s.rx.Waiting() {
			return err
		}
	}
	for {
		limit := longestSleep
		if timeout >= 0 {
			limit = min(limit, max(timeout-time.Since(start), 0))
		}
		if len(s.freed) > 0 {
			limit = min(limit, keptSleep)
		}
		woken, err := s.sleep(limit)
		if woken || err != nil || timeout >= 0 && time.Since(start) >= timeout {
			return err
		}
		s.Release()
	}
}

// rest lets frames gather, for the length of a nap: asleep, or busy receiving
// them.
func (s *Socket) rest(start time.Time, timeout time.Duration) error {
	nap := s.nap
	if timeout >= 0 {
		nap = min(nap, timeout)
	}
	if !s.busyPoll {
		if nap > 0 {
			s.naps.Add(1)
			s.timeout = unix.NsecToTimespec(nap.Nanoseconds())
			_ = unix.Nanosleep(&s.timeout, nil) // EINTR: a shorter nap
		}
		return nil
	}
	for {
		if err := s.enter(); err != nil || s.rx.Waiting() || time.Since(start) >= nap {
			return err
		}
	}
}

// Punctual makes the naps of the calling thread, which its worker has locked,
// last no longer than they are meant to: by default the kernel makes every sleep
// up to 50 µs longer, to wake several threads at once (prctl(2),
// PR_SET_TIMERSLACK). The function that it returns puts the default back.
func Punctual() (undo func(), err error) {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("setting the thread's timer slack: %w", err)
	}
	return func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }, nil // 0: the default; it worked a moment ago
}

// sleep blocks in ppoll, which also tells a driver that asked for it of new
// frames in the fill ring. It is false when the time was over.
func (s *Socket) sleep(limit time.Duration) (woken bool, err error) {
	s.sleeps.Add(1)
	s.timeout = unix.NsecToTimespec(limit.Nanoseconds())
	n, err := unix.Ppoll(s.polled[:], &s.timeout, nil)
	switch {
	case errors.Is(err, unix.EINTR): // the Go runtime interrupts threads
		return true, nil
	case err != nil:
		return false, fmt.Errorf("waiting for %s: %w", s.name, err)
	case n == 0:
		return false, s.enter()
	}
	if s.polled[1].Revents != 0 {
		var count [8]byte
		if _, err := unix.Read(s.wakeFD, count[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
			return true, fmt.Errorf("waiting for %s: reading eventfd: %w", s.name, err)
		}
	}
	return true, nil
}

// enter calls into the kernel so that the driver looks at the fill ring or,
// with busy polling, receives.
func (s *Socket) enter() error {
	s.entered.Add(1)
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.ENXIO { // xsk_check_common: not bound, any more
		return fmt.Errorf("waiting for %s: %w", s.name, ErrGone)
	}
	return nil // ENETDOWN and what a driver may say of now will show or pass
}

// Wake makes a Wait that sleeps return, or the next one that would. Any
// goroutine may call it, at any time.
func (s *Socket) Wake() error {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.queue.closed {
		return nil
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(s.wakeFD, one); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("waking the worker of %s: %w", s.name, err)
	}
	return nil
}
