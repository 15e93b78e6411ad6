package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxPieces bounds the search. A rule cut into more pieces than this by those
// before it is taken to be of use: it is never called unreachable without proof.
const maxPieces = 4096

// contradiction says why no frame can meet the conditions of a rule, whatever the
// other rules are; empty when one can.
func (rule *Rule) contradiction() string {
	switch {
	case len(rule.box()[dimensionEncap]) == 0:
		return "its encapsulation does not have what it asks for: session is of erspan2 and erspan3, " +
			"gre_key of what GRE carries, vni of vxlan and geneve"
	case !sameFamily(rule.Exporters, rule.Collectors):
		return "no exporter sends IPv4 to an IPv6 collector, or the other way round"
	}
	return ""
}

func sameFamily(some, others []netip.Prefix) bool {
	for _, a := range some {
		for _, b := range others {
			if a.Addr().Is4() == b.Addr().Is4() {
				return true
			}
		}
	}
	return some == nil || others == nil
}

// unreachable finds the rules that can never match because of the exporter list or
// of the rules before them.
func (r *fileReader) unreachable() {
	exporter := int(dimensionCount) + int(sideExporter)
	var earlier []*Rule
	for i := range r.policy.Rules {
		rule := &r.policy.Rules[i]
		whole := rule.box()
		if r.policy.Exporters != nil {
			// Feeds without an outer header have no exporter, and no list keeps them out.
			listed := append(span{{}}, addresses(r.policy.Exporters)...)
			whole[exporter] = whole[exporter].and(listed)
		}
		switch takers, taken := covered(whole, earlier); {
		case len(whole[exporter]) == 0:
			r.problem(rule.Line, "%s can never match: none of its exporters is on the list under exporters: allow", rule.Name)
		case taken:
			r.problem(rule.Line, "%s can never match: %s before it; move it up, or remove it", rule.Name, takers)
		}
		if rule.Filter == nil {
			earlier = append(earlier, rule)
		}
	}
}

// covered says whether the rules take all of a box between them, and which do.
func covered(whole box, rules []*Rule) (takers string, taken bool) {
	left := []box{whole}
	var names []string
	for _, rule := range rules {
		other := rule.box()
		touched := false
		var rest []box
		for _, piece := range left {
			pieces := piece.without(other)
			touched = touched || len(pieces) != 1 || !pieces[0].same(piece)
			rest = append(rest, pieces...)
		}
		if touched {
			names = append(names, fmt.Sprintf("%s (line %d)", rule.Name, rule.Line))
		}
		left = rest
		if len(left) == 0 {
			break
		}
		if len(left) > maxPieces {
			return "", false
		}
	}
	verb := "takes"
	if len(names) > 1 {
		verb = "take"
	}
	return fmt.Sprintf("%s %s all of it", strings.Join(names, ", "), verb), len(left) == 0
}

// same says whether a piece came through untouched.
func (b box) same(other box) bool {
	for i := range b {
		if len(b[i]) != len(other[i]) {
			return false
		}
		for j := range b[i] {
			if b[i][j] != other[i][j] {
				return false
			}
		}
	}
	return true
}
