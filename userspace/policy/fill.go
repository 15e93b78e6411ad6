package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cilium/ebpf"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/filter"
)

// stub is the function of bpf/policy.h that stands where the filters go.
const stub = "filter"

// Fill puts the policy into a program that includes bpf/policy.h: its constants, its
// maps' contents, its filters. It must be done before the program is loaded.
func (c *Compiled) Fill(spec *ebpf.CollectionSpec) error {
	constant, ok := spec.Variables[bpf.DecapVarPolicy]
	if !ok {
		return errors.New("filling in policy: the program has no policy: it does not include bpf/policy.h")
	}
	settings := c.settings
	settings.Generation = rand.Uint32() | 1 // that of a new feed is 0
	if err := constant.Set(&settings); err != nil {
		return fmt.Errorf("filling in policy: %w", err)
	}
	for _, m := range []struct {
		name     string
		contents []ebpf.MapKV
	}{
		{bpf.DecapMapRules, array(c.rules)},
		{bpf.DecapMapRuleSets, array(c.sets)},
		{bpf.DecapMapRuleRanges, array(c.ranges)},
	} {
		spec.Maps[m.name].Contents = m.contents
		spec.Maps[m.name].MaxEntries = uint32(max(len(m.contents), 1))
	}
	spec.Maps[bpf.DecapMapRuleStates].MaxEntries = uint32(len(c.rules))
	prefixes := spec.Maps[bpf.DecapMapRulePrefixes]
	prefixes.Contents = nil
	for prefix, set := range c.prefixes {
		prefixes.Contents = append(prefixes.Contents, ebpf.MapKV{Key: prefix, Value: set})
	}
	if exporters, ok := spec.Maps[bpf.DecapMapExporters]; ok {
		exporters.Contents = nil
		for _, p := range c.policy.Exporters {
			address, bits := mapped(p)
			exporters.Contents = append(exporters.Contents, ebpf.MapKV{Key: bpf.DecapExporterPrefix{Bits: uint32(bits), Address: address}, Value: uint8(1)})
		}
	}
	if err := c.fillDuplicates(spec); err != nil {
		return err
	}
	for name, program := range spec.Programs {
		if !hasStub(program) {
			continue
		}
		insns, err := filter.Splice(program.Instructions, stub, c.filters)
		if err != nil {
			return fmt.Errorf("filling in policy: program %s: %w", name, err)
		}
		program.Instructions = insns
	}
	return nil
}

// fillDuplicates sets the window, and a key that nobody knows who could send
// packets to collide. A table that is not used shrinks to one bucket.
func (c *Compiled) fillDuplicates(spec *ebpf.CollectionSpec) error {
	d := c.policy.Duplicates
	set := repeats{Window: uint64(d.Window / time.Nanosecond), Key: *NewDigestKey(), Ignore: uint32(d.Ignore)}
	if d.WithinFeed {
		set.WithinFeed = 1
	}
	if err := spec.Variables[bpf.DecapVarDuplicates].Set(&set); err != nil {
		return fmt.Errorf("filling in policy: %w", err)
	}
	spec.Maps[bpf.DecapMapDuplicatePairs].Contents = []ebpf.MapKV{{Key: Pair{}, Value: uint64(0)}}
	if d.Window == 0 {
		spec.Maps[bpf.DecapMapSightings].MaxEntries = 1
	}
	return nil
}

func hasStub(program *ebpf.ProgramSpec) bool {
	for i := range program.Instructions {
		if program.Instructions[i].Symbol() == stub {
			return true
		}
	}
	return false
}

func array[T any](values []T) []ebpf.MapKV {
	contents := make([]ebpf.MapKV, len(values))
	for i, v := range values {
		contents[i] = ebpf.MapKV{Key: uint32(i), Value: v}
	}
	return contents
}

// ReadStates reads what each rule has met from the rule_states map of a loaded
// policy, all CPUs together, in the order of the file, the default last.
func ReadStates(m *ebpf.Map) ([]RuleState, error) {
	states := make([]RuleState, m.MaxEntries())
	var cpus []RuleState
	for i := range states {
		if err := m.Lookup(uint32(i), &cpus); err != nil {
			return nil, fmt.Errorf("reading state of rule %d: %w", i, err)
		}
		for _, cpu := range cpus {
			states[i].Packets += cpu.Packets
			states[i].Bytes += cpu.Bytes
			states[i].Kept += cpu.Kept
		}
	}
	return states, nil
}
