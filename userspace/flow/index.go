package flow

import "math/bits"

// index finds a flow's slot from the place its hash gives it. A bucket is one cache
// line and holds eight flows; a flow lives in one of two buckets, so a packet
// of a known flow costs one line here, seldom two, however full the table is
// (cuckoo hashing; Pagh and Rodler 2001, with buckets as Dietzfelbinger and
// Weidling 2007). The tag in front of a slot is 16 bits of the hash: comparing
// all eight takes two words and no branch.
type index struct {
	buckets []bucket
	mask    uint64
	turn    uint64 // which of eight is moved next when a bucket is full
}

type bucket struct {
	tags  [2]uint64 // eight tags of 16 bits, 0 is free
	slots [8]uint32
	_     [16]byte
}

const (
	lanes     = 8
	laneOnes  = 0x0001_0001_0001_0001
	laneHighs = 0x8000_8000_8000_8000
	maxMoves  = 64 // flows moved aside for a new one before an old one is given up
	noSlot    = ^uint32(0)
)

// bucketsFor leaves half of all places free: moves are then rare and short.
func bucketsFor(flows int) int {
	return max(2, 1<<bits.Len64(uint64(flows*2/lanes-1)))
}

func tagOf(hash uint64) uint64 {
	tag := hash >> 48
	if tag == 0 {
		return 1
	}
	return tag
}

// other is the flow's second bucket seen from the first, and the reverse.
func (x *index) other(b, tag uint64) uint64 { return (b ^ tag*0x5bd1e995) & x.mask }

// equalLanes has the top bit of each 16-bit lane of word set that equals tag. Lanes
// above the lowest one that is equal may be set wrongly: callers compare identities.
func equalLanes(word, tag uint64) uint64 {
	word ^= tag * laneOnes
	return (word - laneOnes) &^ word & laneHighs
}

// match returns the bucket's lanes with this tag, a bit each.
func (b *bucket) match(tag uint64) uint32 {
	low, high := equalLanes(b.tags[0], tag), equalLanes(b.tags[1], tag)
	// Gather bits 15, 31, 47, 63 into bits 0-3.
	const gather = 0x0000_2000_4000_8001
	return uint32(low>>15*gather>>45&15 | high>>15*gather>>45&15<<4)
}

func (b *bucket) tag(lane int) uint64 { return b.tags[lane/4] >> (lane % 4 * 16) & 0xffff }

func (b *bucket) set(lane int, tag uint64, slot uint32) {
	shift := lane % 4 * 16
	b.tags[lane/4] = b.tags[lane/4]&^(0xffff<<shift) | tag<<shift
	b.slots[lane] = slot
}

// free returns a free lane, -1 when there is none.
func (b *bucket) free() int {
	for lane := range lanes {
		if b.tag(lane) == 0 {
			return lane
		}
	}
	return -1
}

// guess returns the slot that most likely holds the flow, as its first bucket
// has it, noSlot when that one has none.
func (x *index) guess(hash uint64) uint32 {
	b := &x.buckets[hash&x.mask]
	m := b.match(tagOf(hash))
	if m == 0 {
		return noSlot
	}
	return b.slots[bits.TrailingZeros32(m)&7]
}

// second is the bucket to look into when the first has none.
func (x *index) second(hash uint64) *bucket {
	return &x.buckets[x.other(hash&x.mask, tagOf(hash))]
}

// find returns the slot of the flow with this identity, noSlot when there is none.
func (x *index) find(hash uint64, entries []hot, id uint64) uint32 {
	tag := tagOf(hash)
	n := hash & x.mask
	for range 2 {
		b := &x.buckets[n]
		for m := b.match(tag); m != 0; m &= m - 1 {
			slot := b.slots[bits.TrailingZeros32(m)&7]
			if int(slot) < len(entries) && entries[slot].id == id {
				return slot
			}
		}
		n = x.other(n, tag)
	}
	return noSlot
}

// insert puts the slot in. When no flow can be moved aside it takes the place of
// another one and returns that one's slot, for the caller to end.
func (x *index) insert(hash uint64, slot uint32) (displaced uint32) {
	tag, n, moving := tagOf(hash), hash&x.mask, slot
	for range maxMoves {
		for range 2 {
			if lane := x.buckets[n].free(); lane >= 0 {
				x.buckets[n].set(lane, tag, moving)
				return noSlot
			}
			n = x.other(n, tag)
		}
		moving, tag = x.replace(n, tag, moving)
		n = x.other(n, tag)
	}
	if moving == slot { // it was moved itself, in a circle
		moving, _ = x.replace(hash&x.mask, tag, moving)
	}
	return moving
}

// replace puts a flow in the place of one of a full bucket's, which it returns.
func (x *index) replace(n, tag uint64, slot uint32) (replaced uint32, replacedTag uint64) {
	x.turn++
	lane := int(x.turn % lanes)
	b := &x.buckets[n]
	replaced, replacedTag = b.slots[lane], b.tag(lane)
	b.set(lane, tag, slot)
	return replaced, replacedTag
}

// remove takes the slot out.
func (x *index) remove(hash uint64, slot uint32) {
	tag := tagOf(hash)
	n := hash & x.mask
	for range 2 {
		b := &x.buckets[n]
		for lane := range lanes {
			if b.tag(lane) == tag && b.slots[lane] == slot {
				b.set(lane, 0, 0)
				return
			}
		}
		n = x.other(n, tag)
	}
}
