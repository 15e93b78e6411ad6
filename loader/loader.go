// Package loader brings the kernel half in: from the embedded object to a
// program attached to an interface, and back.
//
//	Load      object → settings → maps, all in the kernel, nothing attached
//	Attach    native, else generic, and it says which
//	Register  a worker's AF_XDP socket takes its place on a queue
//	Close     detached, every descriptor closed
//
// The attachment is a BPF link: it goes when the process does, however it ends.
package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

// maxFeeds is bounded by the 16 bits of an id that name a slot.
const maxFeeds = slotMask

// Datapath is the kernel half in the kernel. Its methods may be called from any
// goroutine, except Close, which must come last.
type Datapath struct {
	changing sync.Mutex // one at a time loads another program or takes it off
	config   Config
	maps     bpf.DecapMaps     // rule_states is the present policy's; the others stay
	programs bpf.DecapPrograms // as variant and policy say
	variant  variant
	link     link.Link
	policy   *policy.Compiled
	mode     Mode
	nicTime  error
}

// Load puts the program and its maps into the kernel. It attaches nothing.
func Load(config Config) (*Datapath, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("loading the XDP program: %w", err)
	}
	if config.Policy == nil {
		var err error
		if config.Policy, err = policy.Compile(policy.Default()); err != nil {
			return nil, err
		}
	}
	d := &Datapath{config: config, policy: config.Policy, variant: config.variant(config.Mode), nicTime: errors.New("not attached")}
	spec, err := config.spec(d.variant, d.policy)
	if err != nil {
		return nil, err
	}
	loaded, err := load(spec, nil)
	if err != nil {
		return nil, err
	}
	d.maps, d.programs = loaded.DecapMaps, loaded.DecapPrograms
	if err := d.fill(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) fill() error {
	for id := uint32(1); id <= uint32(d.config.MaxFeeds); id++ {
		if err := d.maps.FreeFeeds.Put(nil, id); err != nil {
			return fmt.Errorf("filling the list of free feed ids: %w", err)
		}
	}
	if err := d.SetCollectors(d.config.Collectors); err != nil {
		return err
	}
	return nil
}

// SetCollectors makes addrs the collector's addresses, while packets flow.
func (d *Datapath) SetCollectors(addrs []netip.Addr) error {
	if len(addrs) > bpf.MaxCollectors {
		return fmt.Errorf("setting collector addresses: %d of them, at most %d fit: name those that receive mirror feeds, or accept any destination", len(addrs), bpf.MaxCollectors)
	}
	list := bpf.DecapAddressList{Count: uint32(len(addrs))}
	for i, a := range addrs {
		b := a.As16()
		list.Address[i].High = binary.NativeEndian.Uint64(b[:8])
		list.Address[i].Low = binary.NativeEndian.Uint64(b[8:])
	}
	if err := d.maps.Collectors.Put(uint32(0), &list); err != nil {
		return fmt.Errorf("setting collector addresses: %w", err)
	}
	return nil
}

// Register gives the socket fd its place: it gets the frames of this worker's
// share of this receive queue. The socket must be bound to the same queue.
func (d *Datapath) Register(queue, worker, fd int) error {
	slot := uint32(queue*bpf.MaxWorkers + worker)
	if err := d.maps.Xsks.Put(slot, uint32(fd)); err != nil {
		return fmt.Errorf("registering the socket of queue %d, worker %d: %w", queue, worker, err)
	}
	return nil
}

// Program is the loaded XDP program, for test runs.
func (d *Datapath) Program() *ebpf.Program { return d.programs.Decap }

// Mode is where Attach got the program to run.
func (d *Datapath) Mode() Mode { return d.mode }

// NICTime is nil when the attached program asks the driver for the NIC's receive
// times: of each packet, the record says which clock its time is from. Otherwise
// it says why every time is the kernel's.
func (d *Datapath) NICTime() error { return d.nicTime }

// Detach takes the program off the interface: from here on no frame is
// redirected any more. The maps live on, so that the last counts can be read.
func (d *Datapath) Detach() error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.link == nil {
		return nil
	}
	err := d.link.Close()
	d.link = nil
	if err != nil {
		return fmt.Errorf("detaching the XDP program: %w", err)
	}
	return nil
}

// Close detaches and frees everything. It may be called again.
func (d *Datapath) Close() error {
	return errors.Join(d.Detach(), d.programs.Close(), d.maps.Close())
}

func withCure(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: Linux 6.1 or later is needed; unspan check says what this one lacks", err)
	}
	return err
}
