package reassembly

import "math/bits"

// A buffer holds a datagram in the making: headers right-aligned before the payload,
// every fragment at its own place. Fragment offsets count units of eight bytes; a bit
// for each unit says that it is here, another that a fragment starts with it.
//
//	bytes    [ ...... headers | payload ............ ]
//	                          headroom
//	covered                     1 1 1 1 1 0 0 1 1 0
//	starts                      1 0 0 1 0 0 0 1 0 0
type buffer struct {
	class   int
	bytes   []byte
	covered []uint64
	starts  []uint64
}

const unit = 8

func (b *buffer) capacity() int { return len(b.bytes) - headroom }

// payload is the place of the bytes from offset up to end.
func (b *buffer) payload(offset, end int) []byte { return b.bytes[headroom+offset : headroom+end] }

// headers is the place of n bytes of headers.
func (b *buffer) headers(n int) []byte { return b.bytes[headroom-n : headroom] }

// frame is headers and payload together.
func (b *buffer) frame(head, payload int) []byte {
	return b.bytes[headroom-head : headroom+payload : headroom+payload]
}

// copy takes over what is in a smaller buffer whose payload ends at end.
func (b *buffer) copy(from *buffer, end int) {
	copy(b.bytes, from.bytes[:headroom+end])
	copy(b.covered, from.covered)
	copy(b.starts, from.starts)
}

// mark notes that a fragment is here.
func (b *buffer) mark(offset, end int) {
	from, to := units(offset, end)
	eachWord(from, to, func(word int, mask uint64) bool {
		b.covered[word] |= mask
		return true
	})
	b.starts[from/64] |= 1 << (from % 64)
}

// overlaps reports whether any byte between offset and end is here. Units are whole:
// the last fragment alone may end inside one, and nothing comes behind it.
func (b *buffer) overlaps(offset, end int) bool {
	from, to := units(offset, end)
	clean := eachWord(from, min(to, len(b.covered)*64), func(word int, mask uint64) bool {
		return b.covered[word]&mask == 0
	})
	return !clean
}

// isFragment reports whether one fragment that is here began at offset and ended at
// end.
func (b *buffer) isFragment(offset, end int) bool {
	from, to := units(offset, end)
	if b.starts[from/64]>>(from%64)&1 == 0 {
		return false
	}
	started := 0
	whole := eachWord(from, to, func(word int, mask uint64) bool {
		started += bits.OnesCount64(b.starts[word] & mask)
		return b.covered[word]&mask == mask
	})
	if !whole || started != 1 {
		return false
	}
	word, bit := to/64, to%64
	return word == len(b.covered) || b.covered[word]>>bit&1 == 0 || b.starts[word]>>bit&1 == 1
}

// units is the range of units that bytes fall into.
func units(offset, end int) (from, to int) { return offset / unit, (end + unit - 1) / unit }

// eachWord calls do for the words that hold the bits from up to to, with a mask of
// those, as long as it returns true. It reports whether it always did.
func eachWord(from, to int, do func(word int, mask uint64) bool) bool {
	for from < to {
		word, bit := from/64, from%64
		n := min(64-bit, to-from)
		if !do(word, ^uint64(0)>>(64-n)<<bit) {
			return false
		}
		from += n
	}
	return true
}
