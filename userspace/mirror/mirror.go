// Package mirror is the sending side of mirror sessions: it wraps packets as a
// switch or hypervisor would and sends them.
//
//	frames ─► Wrapper ─► schedule ─► socket  AF_PACKET, any device
//	          headers    order,      live    XDP live frames, a veth or a NIC that
//	                     faults              takes redirected frames; millions/s
//
// A Session describes one mirror session, a Feed is a session and the frames it
// copies, a Sender sends feeds side by side. Sequence numbers have no gaps but
// those asked for, and Stats says to the packet what a receiver must find.
//
// A Sender belongs to the network namespace it was made in. Its engine owns all
// buffers and runs on one goroutine; Stats may be read from any.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Feed is one mirror session and the frames that it copies, each from its
// Ethernet header on, without FCS. A Sender reads them as long as it runs.
type Feed struct {
	Session Session
	Frames  [][]byte
}

// Method is a way to send.
type Method uint8

const (
	// MethodAuto takes live frames on a veth when the rate asks for them and the
	// other end can receive them, else a socket.
	MethodAuto Method = iota
	// MethodSocket sends through AF_PACKET, into any device.
	MethodSocket
	// MethodLive runs frames through the kernel's XDP redirect. One CPU is busy all
	// the time, whatever the rate.
	MethodLive
)

var methodNames = [...]string{"auto", "socket", "live"}

func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return fmt.Sprintf("method(%d)", uint8(m))
}

// ParseMethod is the inverse of String.
func ParseMethod(name string) (Method, error) {
	for i, n := range methodNames {
		if n == name {
			return Method(i), nil
		}
	}
	return 0, fmt.Errorf("method %q: must be auto, socket or live", name)
}

// Config says what a Sender sends, where and how fast.
type Config struct {
	Interface string // in the current network namespace
	Method    Method
	Feeds     []Feed
	Rate      Rate
	Loop      bool        // begin again after the last frame, until Count or for ever
	Count     uint64      // packets to send at most; 0: no bound
	CPU       int         // to run on; -1: any
	Progress  func(Stats) // called every second while Run runs, from one goroutine; may be nil
}

// Default is a configuration that lacks an interface and feeds.
func Default() Config { return Config{CPU: -1} }

func (c *Config) validate() error {
	if c.Interface == "" {
		return errors.New("interface: must be set")
	}
	if len(c.Feeds) == 0 {
		return errors.New("feeds: there must be at least one")
	}
	if int(c.Method) >= len(methodNames) {
		return fmt.Errorf("method %d: no such method", c.Method)
	}
	return c.Rate.validate()
}

// engine is a way to send what a plan says.
type engine interface {
	// run sends until all is sent, or ctx is done, which is no error.
	run(ctx context.Context) error
	// stats is what was sent so far, but for time and device. Any goroutine may ask.
	stats() Stats
}

// Sender sends feeds through one device. Make it with New, Run it once, Close it.
type Sender struct {
	cfg    Config
	device *device
	plan   *plan
	socket *socket // nil with MethodLive
	live   *live   // nil if not wanted or not possible

	mu     sync.Mutex // guards what follows
	engine engine     // socket or live
	begun  time.Time
	before counters // of the device, when Run began
	final  *Stats   // when Run has ended
	closed bool
}

// New prepares everything and sends nothing. The interface must be up.
func New(cfg Config) (_ *Sender, err error) {
	s := &Sender{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("preparing to send on %s: %w", cfg.Interface, err), s.Close())
		}
	}()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if s.device, err = openDevice(cfg.Interface); err != nil {
		return nil, err
	}
	if s.plan, err = newPlan(&cfg, s.device); err != nil {
		return nil, err
	}
	// The socket is bound here, not when it is needed: Run may be called from
	// another namespace.
	if cfg.Method == MethodAuto || cfg.Method == MethodSocket {
		if s.socket, err = newSocket(s.plan, s.device); err != nil {
			return nil, err
		}
		s.engine = s.socket
	}
	if cfg.Method == MethodLive || cfg.Method == MethodAuto && s.device.veth && s.plan.fast() {
		l, err := newLive(s.plan, s.device)
		switch {
		case err == nil:
			s.live, s.engine = l, l
		case cfg.Method == MethodLive:
			return nil, err
		}
	}
	return s, nil
}

// Method is the way that this Sender sends; never MethodAuto. It may still turn
// from live to socket when Run finds that the other end takes no live frames.
func (s *Sender) Method() Method {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == engine(s.socket) {
		return MethodSocket
	}
	return MethodLive
}

// Run sends until everything is sent or ctx is done, neither of which is an
// error.
func (s *Sender) Run(ctx context.Context) error {
	before, err := s.device.counters()
	if err != nil {
		return fmt.Errorf("sending on %s: %w", s.cfg.Interface, err)
	}
	s.mu.Lock()
	s.before, s.begun = before, time.Now()
	engine := s.engine
	s.mu.Unlock()

	stop := s.report()
	err = engine.run(ctx)
	if errors.Is(err, errNothingLeft) && s.cfg.Method == MethodAuto {
		s.mu.Lock()
		s.engine = s.socket
		s.mu.Unlock()
		err = s.socket.run(ctx)
	}
	stop()
	final := s.Stats()
	s.mu.Lock()
	s.final = &final
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sending on %s: %w", s.cfg.Interface, err)
	}
	return nil
}

// report calls Progress every second until the returned function is called.
func (s *Sender) report() (stop func()) {
	if s.cfg.Progress == nil {
		return func() {}
	}
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.cfg.Progress(s.Stats())
			}
		}
	}()
	return func() {
		close(done)
		<-finished
	}
}

// Stats is what was sent so far; after Run it is final, also when closed.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final != nil {
		return s.final.clone()
	}
	stats := s.engine.stats()
	if s.begun.IsZero() {
		return stats
	}
	stats.Elapsed = time.Since(s.begun)
	if now, err := s.device.counters(); err == nil {
		stats.DeviceSent = now.sent - s.before.sent
		stats.DeviceDropped = now.dropped - s.before.dropped
	}
	return stats
}

// Close releases what New took. Run must have returned. A second call does nothing.
func (s *Sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.live != nil {
		errs = append(errs, s.live.close())
	}
	if s.socket != nil {
		errs = append(errs, s.socket.close())
	}
	if s.device != nil {
		s.device.close()
	}
	return errors.Join(errs...)
}
