package loader

import (
	"fmt"

	"github.com/unspan/unspan/userspace/policy"
)

// Apply puts a policy in the place of the one in force, while packets flow. No
// packet meets half of one and half of the other, and none is lost by it; after an
// error the old one is in force. What rules have met begins anew.
func (d *Datapath) Apply(p *policy.Compiled) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.become(d.variant, p); err != nil {
		return fmt.Errorf("applying policy: %w", err)
	}
	return nil
}

// Rules says what each rule of the policy in force has met in the kernel, in the
// order of its file, the default last.
func (d *Datapath) Rules() ([]policy.RuleState, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	return policy.ReadStates(d.maps.RuleStates)
}

// Duplicates says how many frames of each pair of feeds were duplicates, under all
// policies since the load.
func (d *Datapath) Duplicates() (map[policy.Pair]uint64, error) {
	pairs := map[policy.Pair]uint64{}
	var (
		pair    policy.Pair
		packets uint64
	)
	entries := d.maps.DuplicatePairs.Iterate()
	for entries.Next(&pair, &packets) {
		if packets > 0 {
			pairs[pair] = packets
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading the pairs of duplicates: %w", err)
	}
	return pairs, nil
}
