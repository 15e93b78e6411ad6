package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
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
func (c *Config) spec(v variant, p *policy.Compiled) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadDecap()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded XDP program: %w", err)
	}
	settings := c.Settings
	p.Policy().Admission(&settings)
	if v.alone {
		settings.Alone = 1
	}
	if err := spec.Variables[bpf.DecapVarSettings].Set(&settings); err != nil {
		return nil, fmt.Errorf("writing the program's settings: %w", err)
	}
	if err := p.Fill(spec); err != nil {
		return nil, err
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

// become loads the program as v and p say and puts it in the place of the present
// one, on the interface too when it is attached: the link's program is exchanged in
// one step, and each packet meets the one or the other whole. The maps stay, and
// what is in them, but for those of the policy.
func (d *Datapath) become(v variant, p *policy.Compiled) error {
	if v == d.variant && p == d.policy {
		return nil
	}
	spec, err := d.config.spec(v, p)
	if err != nil {
		return err
	}
	next, err := load(spec, d.shared())
	if err != nil {
		return err
	}
	if d.link != nil {
		if err := d.link.Update(next.Decap); err != nil {
			err = fmt.Errorf("exchanging the XDP program: %w", err)
			return errors.Join(err, next.close())
		}
	}
	old := objects{DecapPrograms: d.programs}
	old.RuleStates, d.maps.RuleStates, next.RuleStates = d.maps.RuleStates, next.RuleStates, nil
	d.programs, d.variant, d.policy = next.DecapPrograms, v, p
	// What is left of next are second descriptors of the maps that were here before.
	if err := errors.Join(old.close(), next.DecapMaps.Close()); err != nil {
		return fmt.Errorf("closing the XDP program that was replaced: %w", err)
	}
	return nil
}

// objects are what a load makes. Without the variables: their memory would stay
// mapped until garbage is collected.
type objects struct {
	bpf.DecapMaps
	bpf.DecapPrograms
}

func (o *objects) close() error { return errors.Join(o.DecapPrograms.Close(), o.DecapMaps.Close()) }

// load puts a program and its maps into the kernel, in place of those in shared.
// Maps that only the program needs are its own from then on.
func load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (o objects, err error) {
	if err := spec.LoadAndAssign(&o, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return o, fmt.Errorf("loading the XDP program: %w", withCure(err))
	}
	for _, m := range []**ebpf.Map{
		&o.Exporters, &o.Likenesses, &o.RuleMemo, &o.RulePrefixes, &o.RuleRanges, &o.RuleSets, &o.Rules, &o.Sightings,
	} {
		err = errors.Join(err, (*m).Close())
		*m = nil
	}
	if err != nil {
		return o, errors.Join(fmt.Errorf("loading the XDP program: %w", err), o.close())
	}
	return o, nil
}

// shared are the maps that all programs have in common, whatever their policy. A
// program that is loaded with them holds descriptors of its own.
func (d *Datapath) shared() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpf.DecapMapCollectors:     d.maps.Collectors,
		bpf.DecapMapCpus:           d.maps.Cpus,
		bpf.DecapMapDatagrams:      d.maps.Datagrams,
		bpf.DecapMapDuplicatePairs: d.maps.DuplicatePairs,
		bpf.DecapMapFeedSlots:      d.maps.FeedSlots,
		bpf.DecapMapFeeds:          d.maps.Feeds,
		bpf.DecapMapFreeFeeds:      d.maps.FreeFeeds,
		bpf.DecapMapXsks:           d.maps.Xsks,
	}
}
