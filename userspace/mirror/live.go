package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"github.com/unspan/unspan/bpf"
	"golang.org/x/sys/unix"
)

const (
	// maxLive is the longest live frame: a page less the headroom, the kernel's own
	// notes in front (struct xdp_page_head) and the shared info at the end
	// (bpf_prog_test_run_xdp in net/bpf/test_run.c). Linux 6.18 takes 16 bytes more.
	maxLive = 3392
	// liveBatch is how many frames the kernel makes before it lets the receiver
	// run: as many as one NAPI poll takes.
	liveBatch = 64
	// liveRepeat is how many frames one system call runs: some 10 ms.
	liveRepeat = 1 << 16
	// shelfSize is SHELF_SIZE of mirror.bpf.c.
	shelfSize = 1 << 18
	// maxShelves bounds the kernel memory that a pass takes.
	maxShelves = 1 << 12
	// packetHeader is the size of struct packet without its bytes.
	packetHeader = 56
	// costShift is COST_SHIFT of mirror.bpf.c.
	costShift = 8
)

// errNothingLeft says that the device let no live frame out.
var errNothingLeft = errors.New("no frame left the device: the other end of a veth takes redirected frames only with " +
	"an XDP program or GRO (ethtool -K IF gro on), and a NIC sends them only if its driver can; or use the socket method")

// live sends through BPF_PROG_TEST_RUN with live frames: the kernel runs the
// mirror program again and again, each time on a page of its own, and redirects
// what the program wrote. bpf/mirror.bpf.c is the other half.
type live struct {
	plan    *plan
	device  *device
	pass    *pass
	objects bpf.MirrorObjects
	holding *holding
}

func newLive(p *plan, d *device) (_ *live, err error) {
	start := time.Now()
	var monotonic unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic); err != nil {
		return nil, fmt.Errorf("reading the clock: %w", err)
	}
	l := &live{plan: p, device: d}
	if l.pass, err = newPass(p, start); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if err := l.load(uint64(monotonic.Nano())); err != nil {
		return nil, fmt.Errorf("loading the live sender: %w", err)
	}
	if l.holding, err = hold(l.objects.Mirror); err != nil {
		return nil, err
	}
	return l, nil
}

// load puts the pass and the program into the kernel. start is the monotonic
// time that the packets' clocks count from.
func (l *live) load(start uint64) error {
	spec, err := bpf.LoadMirror()
	if err != nil {
		return err
	}
	var paced uint32
	if l.plan.rate.limited() {
		paced = 1
	}
	var variables bpf.MirrorVariableSpecs
	if err := spec.Assign(&variables); err != nil {
		return err
	}
	if err := variables.Settings.Set(&bpf.MirrorSettings{
		Start: start,
		Steps: uint32(len(l.pass.steps)),
		Paced: paced,
	}); err != nil {
		return err
	}
	spec.Maps[bpf.MirrorMapShelves].MaxEntries = uint32(len(l.pass.shelves))
	spec.Maps[bpf.MirrorMapSteps].MaxEntries = uint32(len(l.pass.steps))

	err = spec.LoadAndAssign(&l.objects, nil)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: CAP_BPF and CAP_NET_ADMIN are needed", err)
	}
	if err != nil {
		return err
	}
	for i, shelf := range l.pass.shelves {
		if err := l.objects.Shelves.Put(uint32(i), shelf); err != nil {
			return err
		}
	}
	for i := range l.pass.steps {
		if err := l.objects.Steps.Put(uint32(i), &l.pass.steps[i]); err != nil {
			return err
		}
	}
	// The index is looked up in the namespace of the calling thread (dev_map_alloc
	// in kernel/bpf/devmap.c): the only step that cares where it runs.
	return l.objects.Device.Put(uint32(0), uint32(l.device.index))
}

func (l *live) close() error {
	var errs []error
	if l.holding != nil {
		errs = append(errs, l.holding.close())
		l.holding = nil
	}
	if l.objects.Mirror != nil {
		errs = append(errs, l.objects.Close())
		l.objects.Mirror = nil
	}
	return errors.Join(errs...)
}

// stats reads how many frames the program sent; the pass says which those were.
func (l *live) stats() Stats {
	state, err := l.state()
	if err != nil {
		return l.plan.newStats()
	}
	return l.pass.stats(state.Sent)
}

// state is that of the program, which may be running.
func (l *live) state() (bpf.MirrorState, error) {
	var state bpf.MirrorState
	err := l.objects.State.Get(&state)
	return state, err
}

func (l *live) setLimit(frames uint64) error { return l.objects.Limit.Set(frames) }

func (l *live) run(ctx context.Context) error {
	return onCPU(l.plan.cpu, func() error { return l.send(ctx) })
}

func (l *live) send(ctx context.Context) error {
	limit := uint64(math.MaxUint64)
	switch {
	case !l.plan.loop && (l.plan.count == 0 || l.plan.count > uint64(len(l.pass.events))):
		limit = l.pass.frames(uint64(len(l.pass.events)))
	case l.plan.count != 0:
		limit = l.pass.frames(l.plan.count)
	}
	if err := l.setLimit(limit); err != nil {
		return err
	}
	before, err := l.device.counters()
	if err != nil {
		return err
	}

	// A call runs for some time: the limit ends it early.
	cancelled := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { cancelled <- l.setLimit(0) })
	defer stop()
	options := &ebpf.RunOptions{
		Data:      make([]byte, l.pass.longest),
		Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		BatchSize: liveBatch,
	}
	checked, running := false, true
	for {
		state, err := l.state()
		if err != nil {
			return err
		}
		if state.Refused > 0 {
			return fmt.Errorf("after %d frames: the device has gone", state.Sent)
		}
		if state.Sent > 0 && !checked && l.device.veth {
			after, err := l.device.counters()
			if err != nil {
				return err
			}
			if after == before {
				return errNothingLeft
			}
			checked = true
		}
		if state.Sent >= limit {
			return nil
		}
		if running && ctx.Err() != nil {
			if !stop() {
				if err := <-cancelled; err != nil {
					return err
				}
			}
			// All fragments of a packet leave, or none.
			running, limit = false, l.pass.packetEnd(state.Sent)
			if err := l.setLimit(limit); err != nil {
				return err
			}
			continue
		}
		options.Repeat = liveRepeat
		if left := limit - state.Sent; !l.plan.rate.limited() && left < liveRepeat {
			options.Repeat = uint32(left)
		}
		_, err = l.objects.Mirror.Run(options)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
			return fmt.Errorf("running live frames: %w: Linux 5.18 or newer has them; else use the socket method", err)
		}
		if err != nil {
			return fmt.Errorf("running live frames: %w", err)
		}
	}
}
