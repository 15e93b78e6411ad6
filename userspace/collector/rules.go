package collector

import (
	"cmp"
	"errors"
	"slices"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/policy"
)

// The kernel applies the policy to what it strips. What only user space can open
// meets it here: datagrams that came in fragments, and frames wrapped twice.

// apply puts a policy into force from the worker's next packet on. Any goroutine
// may call it.
func (w *worker) apply(p *policy.Policy) {
	w.rules.Store(policy.NewEngine(p, &w.config.Settings, w.config.Collectors))
}

// consult tells the twin which policy is in force.
func (w *worker) consult() {
	if rules := w.rules.Load(); rules != w.ruled {
		p := rules.Policy()
		w.twin.SetPolicy(p.Exporters, p.DropStrangers, rules.Apply)
		w.ruled = rules
	}
}

// nested takes a frame that is itself a mirror's packet, which the policy wants
// opened once more.
func (w *worker) nested(rec *bpf.Record, data []byte) {
	w.counts.nested++
	w.consult()
	inner, frame, v := w.twin.Nested(rec, data)
	w.decided(v, len(data))
	if v == bpf.RedirectInner {
		w.deliver(&inner, frame)
	}
}

// decided counts what became of a packet that user space opened.
func (w *worker) decided(v bpf.Verdict, bytes int) {
	w.books.datagrams[v].packets.Add(1)
	w.books.datagrams[v].bytes.Add(uint64(bytes))
}

// Apply puts a policy in the place of the one in force. It returns when no packet
// meets the old one any more; after an error the old one is in force. No packet
// meets half of each. It may be called by any goroutine.
func (l *Live) Apply(p *policy.Policy) error {
	compiled, err := policy.Compile(p)
	if err != nil {
		return err
	}
	r := l.run.Load()
	if r == nil {
		return errors.New("applying policy: the collector is still setting up: try again")
	}
	r.reading.RLock()
	defer r.reading.RUnlock()
	if r.last.Load() != nil {
		return errors.New("applying policy: the collector is ending")
	}
	r.change.Lock()
	defer r.change.Unlock()
	if err := r.guard.Raise(func() error { return r.path.Apply(compiled) }); err != nil {
		return err
	}
	for _, w := range r.workers {
		w.apply(p)
	}
	r.policy.Store(compiled)
	return nil
}

// Policy is the policy in force; nil before everything is set up.
func (l *Live) Policy() *policy.Compiled {
	r := l.run.Load()
	if r == nil {
		return nil
	}
	return r.policy.Load()
}

// rules are those of the policy in force, and what they have met in the kernel and
// in the workers; none when the policy has no rules.
func (r *run) rules() ([]ledger.Rule, error) {
	r.change.Lock()
	defer r.change.Unlock()
	p := r.policy.Load().Policy()
	if len(p.Rules) == 0 {
		return nil, nil
	}
	states, err := r.path.Rules()
	if err != nil {
		return nil, err
	}
	for _, w := range r.workers {
		for i, s := range w.rules.Load().States() {
			states[i].Packets += s.Packets
			states[i].Bytes += s.Bytes
			states[i].Kept += s.Kept
		}
	}
	return ruleLines(p, states), nil
}

func ruleLines(p *policy.Policy, states []policy.RuleState) (lines []ledger.Rule) {
	for _, s := range p.Summaries(states) {
		lines = append(lines, ledger.Rule{Name: s.Rule, Action: s.Action, Packets: s.Packets, Bytes: s.Bytes, Kept: s.Kept})
	}
	return lines
}

// overlaps are the feeds that deliver the same packets, as the kernel and the
// workers have seen it.
func (r *run) overlaps(names map[uint32]string) ([]ledger.Overlap, error) {
	pairs, err := r.path.Duplicates()
	if err != nil {
		return nil, err
	}
	for _, w := range r.workers {
		for pair, packets := range w.rules.Load().Pairs() {
			pairs[pair] += packets
		}
	}
	return overlapLines(pairs, func(id uint32) string {
		if name, known := names[id]; known {
			return name
		}
		return "other" // gone since, or beyond the pairs that are counted by name
	}), nil
}

// overlapLines names the feeds that deliver the same packets, most first.
func overlapLines(pairs map[policy.Pair]uint64, name func(id uint32) string) (lines []ledger.Overlap) {
	type named struct{ first, second string }
	sums := map[named]uint64{} // two feeds may have one name: it does not say the collector's address
	for pair, packets := range pairs {
		sums[named{name(pair.First), name(pair.Second)}] += packets
	}
	for pair, packets := range sums {
		if packets > 0 {
			lines = append(lines, ledger.Overlap{First: pair.first, Second: pair.second, Packets: packets})
		}
	}
	slices.SortFunc(lines, func(a, b ledger.Overlap) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.First, b.First), cmp.Compare(a.Second, b.Second))
	})
	return lines
}
