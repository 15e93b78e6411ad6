package collector

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/privilege"
	"github.com/unspan/unspan/userspace/xsk"
)

// Live collects the mirror feeds that arrive on an interface.
type Live struct {
	config Config
	run    atomic.Pointer[run] // nil until everything is set up
}

// run is what exists from the setting up to the end.
type run struct {
	start   time.Time
	nic     *loader.NIC
	addrs   []netip.Addr // the interface's, when they are the collector's
	path    *loader.Datapath
	queues  []*xsk.Queue
	workers []*receiver
	output  *output
	flows   *flows
	offset  *clock.Offset
	stamped bool // the NIC tells when packets arrived
	limit   *limit
	guard   *privilege.Guard
	policy  atomic.Pointer[policy.Compiled] // in force
	change  sync.Mutex                      // one policy at a time
	loops   loopWatch

	places      int // in the feed table
	tidied      time.Time
	endedMu     sync.Mutex
	ended       ledger.Ended
	endedStates map[uint32]bpf.FeedState        // by id
	ending      atomic.Bool                     // detached: workers end when their rings are empty
	drained     atomic.Bool                     // no packet is on its way any more
	last        atomic.Pointer[ledger.Snapshot] // when all is closed
	reading     sync.RWMutex                    // held for reading by whoever reads counters of what close frees
}

// New checks the configuration. Nothing is opened before Run.
func New(config Config) (*Live, error) {
	if config.Interface == "" {
		return nil, errors.New("no interface named")
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Live{config: config}, nil
}

// Run collects until ctx is done, the duration is over, the count is reached or
// something breaks. It must be called in the network namespace of the interface.
//
// The end has an order: the program is detached, so that nothing more comes;
// the workers drain their rings; the captures are finished; then everything is
// closed and the interface put back as it was.
func (l *Live) Run(ctx context.Context) (err error) {
	runtime.LockOSThread() // the namespace is the thread's
	defer runtime.UnlockOSThread()

	r := &run{limit: newLimit(l.config.Count), guard: l.config.Privileges, loops: loopWatch{log: l.config.Log},
		places: l.config.MaxFeeds, endedStates: map[uint32]bpf.FeedState{}}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(&l.config); err != nil {
		return err
	}
	if err = r.path.Attach(r.nic.Link); err == nil {
		err = l.config.Privileges.Drop()
	}
	if err != nil {
		r.output.abandon()
		return err
	}
	r.start = time.Now()
	l.run.Store(r)
	err = r.collect(ctx, l.config.Duration)
	last, readErr := r.snapshot()
	r.last.Store(&last)
	return errors.Join(err, readErr)
}

// open sets up everything but the attachment.
func (r *run) open(c *Config) (err error) {
	if r.nic, err = loader.Prepare(c.Interface, c.Settings.AnyDestination != 0); err != nil {
		return err
	}
	if r.offset, err = clock.NewOffset(); err != nil {
		return err
	}
	addrs := c.Collectors
	if len(addrs) == 0 && c.Settings.AnyDestination == 0 {
		if addrs, err = r.nic.Addresses(); err != nil {
			return err
		}
		r.addrs = addrs
	}
	// A NIC that stamps packets by a clock set to UTC knows best when they came;
	// that it does not is no error, XDP has a clock.
	r.stamped = r.nic.Stamp() == nil
	if err := r.openQueues(c); err != nil {
		return err
	}
	if r.path, err = r.load(c, addrs); err != nil {
		return err
	}
	if r.output, err = openOutput(c, len(r.queues)*c.Workers, r.books); err != nil {
		return err
	}
	if r.flows, err = openFlows(c, len(r.queues)*c.Workers, false); err != nil {
		r.output.abandon()
		return err
	}
	if err := r.hire(c, addrs); err != nil {
		r.output.abandon()
		return err
	}
	return nil
}

// openQueues makes the sockets, one for each worker of each receive queue.
func (r *run) openQueues(c *Config) error {
	for queue := range min(r.nic.Queues(), bpf.MaxQueues) {
		x := c.Sockets
		x.Ifindex, x.Queue, x.Sockets = r.nic.Link.Attrs().Index, queue, c.Workers
		q, err := xsk.Open(x)
		if err != nil {
			return err
		}
		r.queues = append(r.queues, q)
	}
	return nil
}

// load puts the program for these sockets into the kernel.
func (r *run) load(c *Config, addrs []netip.Addr) (*loader.Datapath, error) {
	settings := c.Settings
	settings.Workers = uint32(c.Workers)
	settings.MultiBuffer = 1
	for _, q := range r.queues {
		if !q.Info().MultiBuffer {
			settings.MultiBuffer = 0
		}
	}
	compiled, err := policy.Compile(c.Policy)
	if err != nil {
		return nil, err
	}
	r.policy.Store(compiled)
	return loader.Load(loader.Config{
		Settings: settings, Mode: c.Mode, MaxFeeds: c.MaxFeeds, Queues: len(r.queues), NICTime: r.stamped,
		Collectors: addrs, Policy: compiled,
	})
}

// hire gives every socket its place and its worker.
func (r *run) hire(c *Config, addrs []netip.Addr) error {
	mine := *c
	mine.Collectors = addrs
	for queue, q := range r.queues {
		for i, s := range q.Sockets() {
			if err := r.path.Register(queue, i, s.FD()); err != nil {
				return err
			}
			w, err := newWorker(&mine, r.path, r.offset, r.output, len(r.workers), r.limit)
			if err != nil {
				return err
			}
			w.rebuild(r.flows, len(r.workers))
			r.workers = append(r.workers, &receiver{worker: w, socket: s, frames: make([][]byte, c.Batch), offset: r.offset, ending: &r.ending})
		}
	}
	return nil
}

// collect runs the workers and ends them in order.
func (r *run) collect(ctx context.Context, duration time.Duration) error {
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	defer makeRoom(len(r.workers))()
	group, broken := errgroup.WithContext(context.WithoutCancel(ctx))
	for i, w := range r.workers {
		group.Go(func() error { return w.run(i) })
	}
	err := r.wait(ctx, broken)
	err = errors.Join(err, r.path.Detach())
	r.ending.Store(true)
	for _, w := range r.workers {
		err = errors.Join(err, w.socket.Wake())
	}
	err = errors.Join(err, group.Wait(), r.output.wait(), r.flows.wait())
	r.drained.Store(true)
	return err
}

// wait blocks until there is a reason to end. Meanwhile it keeps the clock.
func (r *run) wait(ctx, broken context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	mono, err := newMonotonic()
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-broken.Done():
			return nil // the group says why
		case <-r.output.broken():
			return nil // the output says why
		case <-r.limit.enough:
			return nil
		case <-tick.C:
			if err := errors.Join(r.offset.Refresh(), r.follow(), r.watchLoops(), r.tidy(time.Now(), mono.now())); err != nil {
				return err
			}
		}
	}
}

// follow makes addresses that the interface has gained the collector's, and
// those it has lost not.
func (r *run) follow() error {
	if r.addrs == nil {
		return nil // they were given, or every address is the collector's
	}
	now, err := r.nic.Addresses()
	if err != nil || slices.Equal(now, r.addrs) {
		return err
	}
	r.addrs = now
	return r.path.SetCollectors(now)
}

// books gives a feed's figures, times in UTC.
func (r *run) books(feed uint32) (bpf.FeedState, bool) {
	s, err := r.path.FeedState(feed)
	if err != nil {
		var known bool
		if s, known = r.endedState(feed); !known {
			return s, false
		}
	}
	s.First, s.Last = r.offset.UTC(s.First), r.offset.UTC(s.Last)
	return s, true
}

// close frees everything; whatever was not opened is nil.
func (r *run) close() error {
	r.reading.Lock() // who comes now finds the last snapshot
	defer r.reading.Unlock()
	errs := []error{r.flows.close()}
	for _, q := range r.queues {
		errs = append(errs, q.Close())
	}
	if r.path != nil {
		errs = append(errs, r.path.Close())
	}
	if r.nic != nil {
		errs = append(errs, r.guard.Raise(r.nic.Close))
	}
	return errors.Join(errs...)
}
