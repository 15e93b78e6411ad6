package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/unspan/unspan/bpf"
)

// A rule without a filter takes a box out of the space of all frames: one set of
// values for each thing it looks at. A rule that has nothing left when the boxes
// of the unfiltered rules before it are taken out of its own can never match.

// point is a number or an address of 128 bits.
type point struct{ high, low uint64 }

func (p point) compare(q point) int {
	return cmp.Or(cmp.Compare(p.high, q.high), cmp.Compare(p.low, q.low))
}

func (p point) next() point {
	p.low++
	if p.low == 0 {
		p.high++
	}
	return p
}

func (p point) previous() point {
	if p.low == 0 {
		p.high--
	}
	p.low--
	return p
}

// absent stands for a number that a frame does not have.
var absent = point{low: 1 << 32}

// interval holds the points from first to last, both included.
type interval struct{ first, last point }

// span is a set of points: intervals that are sorted and do not touch.
type span []interval

// minus is what a has and b has not.
func (a span) minus(b span) span {
	var out span
	for _, rest := range a {
		empty := false
		for _, cut := range b {
			if cut.last.compare(rest.first) < 0 || cut.first.compare(rest.last) > 0 {
				continue
			}
			if cut.first.compare(rest.first) > 0 {
				out = append(out, interval{rest.first, cut.first.previous()})
			}
			if cut.last.compare(rest.last) >= 0 {
				empty = true
				break
			}
			rest.first = cut.last.next()
		}
		if !empty {
			out = append(out, rest)
		}
	}
	return out
}

// and is what both have.
func (a span) and(b span) span {
	var out span
	for _, x := range a {
		for _, y := range b {
			first, last := x.first, x.last
			if y.first.compare(first) > 0 {
				first = y.first
			}
			if y.last.compare(last) < 0 {
				last = y.last
			}
			if first.compare(last) <= 0 {
				out = append(out, interval{first, last})
			}
		}
	}
	return out
}

func numbers(all []Range) span {
	var out span
	for _, r := range all {
		out = append(out, interval{point{low: uint64(r.First)}, point{low: uint64(r.Last)}})
	}
	return out
}

func pointOf(address [16]byte) point {
	return point{binary.BigEndian.Uint64(address[:8]), binary.BigEndian.Uint64(address[8:])}
}

func addresses(prefixes []netip.Prefix) span {
	var out span
	for _, p := range prefixes {
		address, bits := mapped(p)
		first := pointOf(address)
		last := first
		switch host := 128 - bits; {
		case host == 128:
			last = point{^uint64(0), ^uint64(0)}
		case host >= 64:
			last.high |= 1<<(host-64) - 1
			last.low = ^uint64(0)
		default:
			last.low |= 1<<host - 1
		}
		whole := span{{first, last}}
		if p.Addr().Is6() {
			whole = whole.minus(everyIP4) // an IPv6 prefix holds no IPv4 address, however they are written
		}
		out = append(out, whole...)
	}
	slices.SortFunc(out, func(a, b interval) int { return a.first.compare(b.first) })
	return out
}

// everyIP4 is ::ffff:0:0/96, RFC 4291 2.5.5.2.
var everyIP4 = span{{point{low: 0xffff << 32}, point{low: 0xffff<<32 | (1<<32 - 1)}}}

// mapped is a prefix over the 16 bytes in which the contract writes an address.
func mapped(p netip.Prefix) (address [16]byte, bits int) {
	bits = p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return p.Addr().As16(), bits
}

// box is a set of frames: a span for each number, then for each side's address.
type box [int(dimensionCount) + int(sideCount)]span

var everyAddress = span{{last: point{^uint64(0), ^uint64(0)}}}

// everything holds all frames.
func everything() box {
	all := func(last uint64) span { return span{{last: point{low: last}}} }
	orAbsent := func(s span) span { return append(s, interval{absent, absent}) }
	return box{
		dimensionEncap:                           all(uint64(bpf.EncapCount) - 1),
		dimensionSession:                         orAbsent(all(maxSession)),
		dimensionKey:                             orAbsent(all(maxKey)),
		dimensionVNI:                             orAbsent(all(maxVNI)),
		dimensionVLAN:                            all(maxVLAN + 1), // 4095 is reserved, and comes
		dimensionDirection:                       all(uint64(Egress)),
		int(dimensionCount) + int(sideExporter):  everyAddress,
		int(dimensionCount) + int(sideCollector): everyAddress,
	}
}

// box is what the rule takes, its filter aside.
func (rule *Rule) box() box {
	b := everything()
	narrow := func(i int, s span) {
		if s != nil {
			b[i] = b[i].and(s)
		}
	}
	narrow(int(dimensionEncap), numbers(rule.encapRanges()))
	narrow(int(dimensionSession), numbers(rule.Sessions))
	narrow(int(dimensionKey), numbers(rule.Keys))
	narrow(int(dimensionVNI), numbers(rule.VNIs))
	narrow(int(dimensionVLAN), numbers(rule.VLANs))
	narrow(int(dimensionDirection), numbers(rule.directionRanges()))
	narrow(int(dimensionCount)+int(sideExporter), addresses(rule.Exporters))
	narrow(int(dimensionCount)+int(sideCollector), addresses(rule.Collectors))
	// Only some encapsulations have the number that the rule asks for.
	for _, has := range rule.carriers() {
		narrow(int(dimensionEncap), has)
	}
	return b
}

func (rule *Rule) encapRanges() []Range {
	var out []Range
	for _, e := range rule.Encaps {
		out = append(out, Range{uint32(e), uint32(e)})
	}
	return joined(out)
}

func (rule *Rule) directionRanges() []Range {
	if rule.Direction == AnyDirection {
		return nil
	}
	return []Range{{uint32(rule.Direction), uint32(rule.Direction)}}
}

// carriers are the encapsulations that have each of the numbers the rule looks at.
func (rule *Rule) carriers() []span {
	of := func(first, last bpf.Encap) span {
		return span{{point{low: uint64(first)}, point{low: uint64(last)}}}
	}
	var out []span
	if rule.Sessions != nil {
		out = append(out, of(bpf.EncapERSPAN2, bpf.EncapERSPAN3))
	}
	if rule.Keys != nil {
		out = append(out, of(bpf.EncapERSPAN1, bpf.EncapGREIP))
	}
	if rule.VNIs != nil {
		out = append(out, of(bpf.EncapVXLAN, bpf.EncapGeneve))
	}
	return out
}

// without is what is left of b when other is taken out: at most one piece for each
// thing a rule looks at.
func (b box) without(other box) []box {
	for i := range b {
		if len(b[i].and(other[i])) == 0 {
			return []box{b}
		}
	}
	var out []box
	for i := range b {
		if rest := b[i].minus(other[i]); len(rest) > 0 {
			piece := b
			piece[i] = rest
			out = append(out, piece)
		}
		b[i] = b[i].and(other[i])
	}
	return out
}
