package flow

import (
	"math/rand/v2"
	"testing"
)

// TestIndexAgainstMap does what a table does, at random, and a map beside it.
func TestIndexAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	const slots = 1000
	x := index{buckets: make([]bucket, bucketsFor(slots)), mask: uint64(bucketsFor(slots) - 1)}
	entries := make([]hot, slots)
	places := map[uint32]uint64{} // by slot
	free := make([]uint32, slots)
	for i := range free {
		free[i] = uint32(i)
	}
	for range 100_000 {
		if len(free) > 0 && random.IntN(3) > 0 {
			slot := free[len(free)-1]
			free = free[:len(free)-1]
			place := random.Uint64()
			entries[slot].id = place | 1
			places[slot] = place
			if displaced := x.insert(place, slot); displaced != noSlot {
				t.Fatalf("slot %d displaced with %d of %d used", displaced, len(places), slots)
			}
		} else {
			for slot, place := range places {
				x.remove(place, slot)
				delete(places, slot)
				entries[slot].id = 0
				free = append(free, slot)
				break
			}
		}
		if len(places) > 0 && len(free) > 0 {
			slot := uint32(random.IntN(slots))
			place, live := places[slot]
			if live && x.find(place, entries, place|1) != slot {
				t.Fatalf("slot %d is not found", slot)
			}
		}
		if place := random.Uint64(); x.find(place, entries, place|1) != noSlot {
			t.Fatal("found what was never put in")
		}
	}
	for slot, place := range places {
		if x.find(place, entries, place|1) != slot {
			t.Errorf("slot %d is not found at the end", slot)
		}
	}
}

// TestIndexOverfull puts in more than there are places: each slot too many
// displaces exactly one, and every other one is still found.
func TestIndexOverfull(t *testing.T) {
	x := index{buckets: make([]bucket, 2), mask: 1}
	entries := make([]hot, 100)
	places := map[uint32]uint64{}
	random := rand.New(rand.NewPCG(5, 6))
	for slot := range uint32(100) {
		place := random.Uint64()
		entries[slot].id = place | 1
		places[slot] = place
		displaced := x.insert(place, slot)
		if displaced == slot {
			t.Fatal("the new one was displaced")
		}
		if displaced != noSlot {
			if _, ok := places[displaced]; !ok {
				t.Fatalf("slot %d displaced twice", displaced)
			}
			delete(places, displaced)
			entries[displaced].id = 0
		}
		for slot, place := range places {
			if x.find(place, entries, place|1) != slot {
				t.Fatalf("slot %d is not found", slot)
			}
		}
	}
	if len(places) != 2*lanes {
		t.Errorf("%d in 2 buckets of %d", len(places), lanes)
	}
}

func TestMatch(t *testing.T) {
	for lane := range lanes {
		var b bucket
		b.set(lane, 0x8001, 7)
		if got := b.match(0x8001); got != 1<<lane {
			t.Errorf("lane %d: match %08b", lane, got)
		}
		if got := b.match(0x8002); got != 0 {
			t.Errorf("lane %d: another tag matches %08b", lane, got)
		}
		if b.tag(lane) != 0x8001 || b.slots[lane] != 7 {
			t.Errorf("lane %d holds %#x, %d", lane, b.tag(lane), b.slots[lane])
		}
	}
}
