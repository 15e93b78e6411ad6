package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The largest numbers of what a rule looks at.
const (
	maxSession = 1<<10 - 1 // draft-foschiano-erspan-03 4.1: 10 bits
	maxKey     = 1<<32 - 1 // RFC 2890 2.1
	maxVNI     = 1<<24 - 1 // RFC 7348 5, RFC 8926 3.4
	maxVLAN    = 4094      // IEEE 802.1Q: 4095 is reserved
)

// ranges reads numbers and ranges of them, sorted and joined.
func (r *reader) ranges(n *yaml.Node, what string, most uint32, plural string) []Range {
	var all []Range
	r.each(n, what, func(n *yaml.Node) {
		text, ok := r.text(n, what)
		if !ok {
			return
		}
		if what == "vlan" && text == "untagged" {
			all = append(all, Range{})
			return
		}
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		low, okLow := number(first)
		high, okHigh := number(last)
		switch {
		case !okLow || !okHigh:
			r.problem(n.Line, "%s is %q, want a number such as 100 or 0x64, or a range such as 100-199", what, text)
		case low > high:
			r.problem(n.Line, "%s is %q, a range from high to low: write %s-%s", what, text, strings.TrimSpace(last), strings.TrimSpace(first))
		case high > uint64(most):
			r.problem(n.Line, "%s is %q, but %s are 0 to %d", what, text, plural, most)
		default:
			all = append(all, Range{uint32(low), uint32(high)})
		}
	})
	return joined(all)
}

// number reads decimal, or hexadecimal behind 0x. A leading zero means eight to one
// reader and ten to another, so it is refused.
func number(text string) (uint64, bool) {
	text = strings.TrimSpace(text)
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		text, base = hex, 16
	} else if len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	if strings.HasPrefix(text, "+") {
		return 0, false
	}
	value, err := strconv.ParseUint(text, base, 32)
	return value, err == nil
}

// joined sorts ranges and makes one of those that touch.
func joined(all []Range) []Range {
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var out []Range
	for _, next := range all {
		if n := len(out); n > 0 && uint64(next.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, next.Last)
			continue
		}
		out = append(out, next)
	}
	return out
}

// prefixes reads addresses and prefixes, IPv4 and IPv6. Prefixes that lie in
// another one of the list are left out: they add nothing.
func (r *reader) prefixes(n *yaml.Node, what string) []netip.Prefix {
	var all []netip.Prefix
	r.each(n, what, func(n *yaml.Node) {
		text, ok := r.text(n, what)
		if !ok {
			return
		}
		prefix, why := parsePrefix(text)
		if why != "" {
			r.problem(n.Line, "%s is %q, %s", what, text, why)
			return
		}
		all = append(all, prefix)
	})
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range all {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// parsePrefix reads an address as the prefix that holds it alone. why is empty, or
// says what is wrong.
func parsePrefix(text string) (prefix netip.Prefix, why string) {
	const want = "want an address such as 192.0.2.7 or a prefix such as 192.0.2.0/24"
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return prefix, want
		}
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return prefix, want
	}
	if masked := prefix.Masked(); masked != prefix {
		return prefix, "which has bits behind the prefix: write " + masked.String()
	}
	return prefix, ""
}

// actionReader reads the keys that say what a rule does.
type actionReader struct {
	*fileReader
	what   string
	verb   string
	action Action
	sample bool
}

func (a *actionReader) addTo(known map[string]func(*yaml.Node)) {
	known["action"] = func(n *yaml.Node) {
		if i, ok := a.choice(n, "action", "keep", "drop"); ok {
			a.verb = []string{"keep", "drop"}[i]
		}
	}
	known["snap"] = func(n *yaml.Node) { a.action.Snap = a.count(n, "snap", minSnap, maxSnap) }
	known["sample"] = func(n *yaml.Node) {
		a.sample = true
		a.fields(n, "sample", map[string]func(*yaml.Node){
			"one_in": func(n *yaml.Node) { a.action.OneIn = a.count(n, "one_in", 2, maxOneIn) },
			"by": func(n *yaml.Node) {
				i, _ := a.choice(n, "by", "packet", "flow")
				a.action.ByFlow = i == 1
			},
		})
	}
}

func (a *actionReader) count(n *yaml.Node, what string, least, most uint32) uint32 {
	text, ok := a.text(n, what)
	if !ok {
		return 0
	}
	value, ok := number(text)
	if !ok || value < uint64(least) || value > uint64(most) {
		a.problem(n.Line, "%s is %q, want a number from %d to %d", what, text, least, most)
		return 0
	}
	return uint32(value)
}

// done checks what the keys say together; broken: one of them was wrong already.
func (a *actionReader) done(line int, broken bool) Action {
	action := a.action
	action.Drop = a.verb == "drop"
	switch {
	case broken:
	case a.verb == "":
		a.problem(line, "%s has no action: add action: keep or action: drop", a.what)
	case action.Drop && (a.sample || action.Snap > 0):
		a.problem(line, "%s drops every frame, so there is none to sample or cut: remove sample and snap, or keep", a.what)
	case a.sample && action.OneIn == 0:
		a.problem(line, "sample does not say how much: add one_in, such as one_in: 1000")
	}
	if !a.sample {
		action.OneIn = 1
	}
	return action
}
