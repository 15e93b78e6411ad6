package loader

import (
	"fmt"

	"github.com/cilium/ebpf"

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
}

// variant is the one that suits the mode.
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
	feeds := uint32(c.MaxFeeds)
	spec.Maps[bpf.DecapMapFeedSlots].MaxEntries = feeds
	spec.Maps[bpf.DecapMapFreeFeeds].MaxEntries = feeds
	spec.Maps[bpf.DecapMapFeeds].MaxEntries = feeds + 1 // slot 0 is no feed
	return spec, nil
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
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: d.shared()})
	if err != nil {
		return fmt.Errorf("loading the XDP program: %w", withCure(err))
	}
	defer c.Close()
	old := d.objects.Decap
	d.objects.Decap, d.variant = c.DetachProgram(bpf.DecapProgDecap), v
	if err := old.Close(); err != nil {
		return fmt.Errorf("closing the XDP program that was replaced: %w", err)
	}
	return nil
}

// shared are the maps that all variants have in common.
func (d *Datapath) shared() map[string]*ebpf.Map {
	m := &d.objects.DecapMaps
	return map[string]*ebpf.Map{
		bpf.DecapMapCollectors: m.Collectors,
		bpf.DecapMapCpus:       m.Cpus,
		bpf.DecapMapDatagrams:  m.Datagrams,
		bpf.DecapMapExporters:  m.Exporters,
		bpf.DecapMapFeedSlots:  m.FeedSlots,
		bpf.DecapMapFeeds:      m.Feeds,
		bpf.DecapMapFreeFeeds:  m.FreeFeeds,
		bpf.DecapMapXsks:       m.Xsks,
	}
}
