package decap

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// prefixes is a set of addresses, as sorted ranges that do not overlap.
type prefixes []addressRange

type addressRange struct{ low, high address128 }

// address128 is an address as a number; IPv4 is mapped, ::ffff:a.b.c.d.
type address128 struct{ upper, lower uint64 }

func newAddress(a *[16]byte) address128 {
	return address128{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

func (a address128) compare(b address128) int {
	return cmp.Or(cmp.Compare(a.upper, b.upper), cmp.Compare(a.lower, b.lower))
}

func newPrefixes(list []netip.Prefix) prefixes {
	var set prefixes
	for _, p := range list {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		bytes := p.Addr().As16()
		low := newAddress(&bytes)
		var mask address128 // host part
		if bits < 64 {
			mask = address128{^uint64(0) >> bits, ^uint64(0)}
		} else {
			mask = address128{0, ^uint64(0) >> (bits - 64)}
		}
		low = address128{low.upper &^ mask.upper, low.lower &^ mask.lower}
		set = append(set, addressRange{low, address128{low.upper | mask.upper, low.lower | mask.lower}})
	}
	// Two prefixes are disjoint or one holds the other: sorted by start, the
	// widest first, those inside another one follow it and go.
	slices.SortFunc(set, func(a, b addressRange) int {
		return cmp.Or(a.low.compare(b.low), b.high.compare(a.high))
	})
	kept := set[:0]
	for _, r := range set {
		if n := len(kept); n == 0 || r.high.compare(kept[n-1].high) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}

func (s prefixes) contain(address *[16]byte) bool {
	a := newAddress(address)
	_, found := slices.BinarySearchFunc(s, a, func(r addressRange, a address128) int {
		switch {
		case r.high.compare(a) < 0:
			return -1
		case r.low.compare(a) > 0:
			return 1
		}
		return 0
	})
	return found
}
