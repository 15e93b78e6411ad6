package loader

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
)

// variant is what tells programs apart that share their maps.
type variant struct {
	// alone: no two CPUs get as far as the feeds at the same time, and their lock
	// is left out. It is a fifth of what the program costs.
	//
	// A receive queue in native mode is one NAPI instance, which one CPU at a time
	// runs (napi_schedule_prep in net/core/dev.c); frames of a queue without a
	// socket get no further than to the socket map. In generic mode, receive
	// packet steering may have the stack take a queue's packets on several CPUs.
	alone bool

	// device is the interface that the program is bound to, whose driver it asks
	// for receive times; 0: none, and it runs on any.
	device int
}

// variant is the one that suits the mode on any device.
func (c *Config) variant(mode Mode) variant {
	return variant{alone: c.Queues == 1 && mode != Generic}
}

// spec is what clang made, and the one place that edits it.
func (c *Config) spec(v variant) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadDecap()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded XDP program: %w", err)
	}
	settings := c.Settings
	if v.alone {
		settings.Alone = 1
	}
	if err := spec.Variables[bpf.DecapVarSettings].Set(&settings); err != nil {
		return nil, fmt.Errorf("writing the program's settings: %w", err)
	}
	v.bind(spec.Programs[bpf.DecapProgDecap])
	feeds := uint32(c.MaxFeeds)
	spec.Maps[bpf.DecapMapFeedSlots].MaxEntries = feeds
	spec.Maps[bpf.DecapMapFreeFeeds].MaxEntries = feeds
	spec.Maps[bpf.DecapMapFeeds].MaxEntries = feeds + 1 // slot 0 is no feed
	return spec, nil
}

const deviceBound = 1 << 6 // BPF_F_XDP_DEV_BOUND_ONLY, linux/bpf.h

// bind binds the program to its device, or takes out what only a bound program
// may call: the verifier looks at such calls before it knows which code is dead
// (add_kfunc_call in kernel/bpf/verifier.c), and Linux 6.1 does not know them.
func (v variant) bind(program *ebpf.ProgramSpec) {
	if v.device != 0 {
		program.Ifindex = uint32(v.device)
		program.Flags |= deviceBound
		return
	}
	for i, ins := range program.Instructions {
		if ins.IsKfuncCall() {
			program.Instructions[i] = asm.Mov.Imm(asm.R0, -int32(unix.EOPNOTSUPP)).WithSource(ins.Source())
		}
	}
}

// become loads the program as v and puts it in the place of the present one. The
// maps stay, and what is in them.
func (d *Datapath) become(v variant) error {
	if v == d.variant {
		return nil
	}
	spec, err := d.config.spec(v)
	if err != nil {
		return err
	}
	var programs bpf.DecapPrograms
	if err := spec.LoadAndAssign(&programs, &ebpf.CollectionOptions{MapReplacements: d.shared()}); err != nil {
		return fmt.Errorf("loading the XDP program: %w", withCure(err))
	}
	old := d.programs
	d.programs, d.variant = programs, v
	if err := old.Close(); err != nil {
		return fmt.Errorf("closing the XDP program that was replaced: %w", err)
	}
	return nil
}

// shared are the maps that all variants have in common.
func (d *Datapath) shared() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpf.DecapMapCollectors: d.maps.Collectors,
		bpf.DecapMapCpus:       d.maps.Cpus,
		bpf.DecapMapDatagrams:  d.maps.Datagrams,
		bpf.DecapMapExporters:  d.maps.Exporters,
		bpf.DecapMapFeedSlots:  d.maps.FeedSlots,
		bpf.DecapMapFeeds:      d.maps.Feeds,
		bpf.DecapMapFreeFeeds:  d.maps.FreeFeeds,
		bpf.DecapMapXsks:       d.maps.Xsks,
	}
}
