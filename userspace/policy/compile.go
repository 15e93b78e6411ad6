package policy

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/filter"
)

// Compiled is a policy as the kernel holds it: for every thing a rule can look at,
// the ranges of values and the set of rules that fit each. Its size is the sum of
// what the rules name, and never their product.
type Compiled struct {
	policy   *Policy
	settings settings
	rules    []compiledRule // the default last
	sets     []ruleSet
	ranges   []ruleRange
	prefixes map[rulePrefix]uint32
	filters  []*filter.Filter
}

// Policy is what was compiled.
func (c *Compiled) Policy() *Policy { return c.policy }

// Compile makes what the kernel needs of a policy.
func Compile(p *Policy) (*Compiled, error) {
	if len(p.Rules) > int(MaxRules) {
		return nil, fmt.Errorf("compiling policy: %d rules, the limit is %d", len(p.Rules), MaxRules)
	}
	c := &compiler{Compiled: Compiled{policy: p, prefixes: map[rulePrefix]uint32{}}, known: map[ruleSet]uint32{}}
	c.settings.Rules = uint32(len(p.Rules))
	c.settings.Loops = uint8(p.Loops)
	c.settings.Words = uint32(len(p.Rules)+63) / 64
	if len(p.Rules) > 0 || p.Default != (Action{OneIn: 1}) {
		c.settings.Active = 1
	}
	if err := c.actions(); err != nil {
		return nil, err
	}
	for d := range dimensionCount {
		if err := c.dimension(d); err != nil {
			return nil, err
		}
	}
	for s := range sideCount {
		if err := c.side(s); err != nil {
			return nil, err
		}
	}
	return &c.Compiled, nil
}

type compiler struct {
	Compiled
	known map[ruleSet]uint32
}

func (c *compiler) actions() error {
	index := map[string]uint32{}
	for i := range c.policy.Rules {
		rule := &c.policy.Rules[i]
		compiled := rule.compiled()
		if f := rule.Filter; f != nil {
			number, known := index[f.Expression]
			if !known {
				c.filters = append(c.filters, f)
				number = uint32(len(c.filters))
				index[f.Expression] = number
			}
			compiled.Filter = number
		}
		c.rules = append(c.rules, compiled)
	}
	c.rules = append(c.rules, c.policy.Default.compiled())
	c.settings.Filters = uint32(len(c.filters))
	if len(c.filters) > int(MaxFilters) {
		return fmt.Errorf("compiling policy: %d different filters, the limit is %d", len(c.filters), MaxFilters)
	}
	return nil
}

func (a Action) compiled() compiledRule {
	r := compiledRule{OneIn: max(a.OneIn, 1), Snap: a.Snap}
	if a.Drop {
		r.Drop = 1
	}
	if a.ByFlow {
		r.ByFlow = 1
	}
	return r
}

// set is the number of a set, made when it is new.
func (c *compiler) set(s ruleSet) uint32 {
	number, known := c.known[s]
	if !known {
		number = uint32(len(c.sets))
		c.known[s] = number
		c.sets = append(c.sets, s)
	}
	return number
}

func include(s *ruleSet, rule int) { s.Words[rule/64] |= 1 << (rule % 64) }

// ranges is what a rule asks of a number, nil when it does not look at it.
func (rule *Rule) ranges(d dimension) []Range {
	switch d {
	case dimensionEncap:
		return rule.encapRanges()
	case dimensionSession:
		return rule.Sessions
	case dimensionKey:
		return rule.Keys
	case dimensionVNI:
		return rule.VNIs
	case dimensionVLAN:
		return rule.VLANs
	case dimensionDirection:
		return rule.directionRanges()
	}
	return nil
}

// dimension cuts the numbers into ranges within which the same rules fit.
func (c *compiler) dimension(d dimension) error {
	var indifferent ruleSet // rules that do not look at it
	var edges []uint32
	looked := false
	for i := range c.policy.Rules {
		asked := c.policy.Rules[i].ranges(d)
		if asked == nil {
			include(&indifferent, i)
		}
		for _, r := range asked {
			looked = true
			edges = append(edges, r.First)
			if r.Last != ^uint32(0) {
				edges = append(edges, r.Last+1)
			}
		}
	}
	if !looked {
		return nil
	}
	edges = append(edges, 0)
	slices.Sort(edges)
	edges = slices.Compact(edges)

	begin := len(c.ranges)
	for _, first := range edges {
		fits := indifferent
		for i := range c.policy.Rules {
			if holds(c.policy.Rules[i].ranges(d), first) {
				include(&fits, i)
			}
		}
		set := c.set(fits)
		if n := len(c.ranges); n > begin && c.ranges[n-1].Set == set {
			continue
		}
		c.ranges = append(c.ranges, ruleRange{First: first, Set: set})
	}
	count := len(c.ranges) - begin
	if count > maxRanges {
		return fmt.Errorf("compiling policy: its rules cut %s into %d ranges, the limit is %d: use fewer or wider ranges",
			dimensionName(d), count, maxRanges)
	}
	// The kernel searches by halves, without looking where the end is.
	size := 1 << bits.Len(uint(count-1))
	for len(c.ranges) < begin+size {
		c.ranges = append(c.ranges, c.ranges[len(c.ranges)-1])
	}
	at := &c.settings.Dimensions[d]
	at.Begin, at.Size, at.Absent = uint32(begin), uint32(size), c.set(indifferent)
	return nil
}

func holds(all []Range, number uint32) bool {
	at, found := slices.BinarySearchFunc(all, number, func(r Range, n uint32) int { return cmp.Compare(r.First, n) })
	return found || at > 0 && number <= all[at-1].Last
}

func dimensionName(d dimension) string {
	return [...]string{"encapsulation", "session", "gre_key", "vni", "vlan", "direction"}[d]
}

func (rule *Rule) prefixes(s side) []netip.Prefix {
	if s == sideExporter {
		return rule.Exporters
	}
	return rule.Collectors
}

// side finds for every prefix that a rule names the rules that fit the addresses
// of which it is the longest: its own, and those of the prefixes around it.
func (c *compiler) side(s side) error {
	own := map[netip.Prefix]*ruleSet{}
	var indifferent ruleSet
	for i := range c.policy.Rules {
		asked := c.policy.Rules[i].prefixes(s)
		if asked == nil {
			include(&indifferent, i)
		}
		for _, p := range asked {
			if own[p] == nil {
				own[p] = new(ruleSet)
			}
			include(own[p], i)
		}
	}
	if len(own) == 0 {
		return nil
	}
	c.settings.Sides[s] = 1
	// The trie holds IPv4 as ::ffff:0:0/96; that prefix keeps what is said of IPv6 away from it.
	if all := netip.PrefixFrom(netip.IPv4Unspecified(), 0); own[all] == nil {
		own[all] = new(ruleSet)
	}
	c.prefixes[rulePrefix{Bits: 8, Side: uint8(s)}] = c.set(indifferent)
	if len(c.prefixes)+len(own) > maxPrefixes {
		return fmt.Errorf("compiling policy: its rules name %d prefixes, the limit is %d", len(c.prefixes)+len(own), maxPrefixes)
	}

	type enclosing struct {
		prefix netip.Prefix
		fits   ruleSet
	}
	var around []enclosing // from the widest to the one just before
	for _, p := range slices.SortedFunc(maps.Keys(own), netip.Prefix.Compare) {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(p) {
			around = around[:len(around)-1]
		}
		fits := indifferent
		if len(around) > 0 {
			fits = around[len(around)-1].fits
		}
		for w := range fits.Words {
			fits.Words[w] |= own[p].Words[w]
		}
		around = append(around, enclosing{p, fits})
		address, length := mapped(p)
		c.prefixes[rulePrefix{Bits: uint32(8 + length), Side: uint8(s), Address: address}] = c.set(fits)
	}
	return nil
}

// carries says which of the numbers an encapsulation has.
func carries(key *bpf.FeedKey) (session, greKey, vni bool) {
	encap := bpf.Encap(key.Encap)
	vni = encap == bpf.EncapVXLAN || encap == bpf.EncapGeneve
	session = encap == bpf.EncapERSPAN2 || encap == bpf.EncapERSPAN3
	return session, key.Keyed != 0 && !vni, vni
}
