package flow

import (
	"encoding/binary"
	"unsafe"
)

// sweep is a hand that goes round the deadlines about once a second of packet
// time. A deadline is four bytes and is not moved by packets: when it has come,
// the flow itself is asked, and mostly gets a new one. So a packet costs the
// sweep nothing, and a flow costs a look per idle timeout.
type sweep struct {
	hand   int
	turned uint64 // clock.elapsed up to which the hand has gone round
}

const (
	sweepShift = 30   // the hand goes round in 2^30 ns
	busySweep  = 1024 // deadlines looked at in one Flush at most
	idleSweep  = 1 << 16
	victims    = 8 // flows of which the longest silent one is evicted
)

// expire moves the hand as far as time went on, at most limit deadlines. It
// waits while the ring has no place: better a flow that ends late than a record
// that is lost.
func (t *Table) expire(limit int) {
	if t.used == 0 {
		t.sweep.turned = t.clock.elapsed
		return
	}
	gone := min(t.clock.elapsed-t.sweep.turned, 1<<sweepShift) // once round is all there is to do
	n := int(gone * uint64(t.used) >> sweepShift)
	if n == 0 {
		return
	}
	if n > limit {
		n = limit
		t.sweep.turned += uint64(n) << sweepShift / uint64(t.used)
	} else {
		t.sweep.turned = t.clock.elapsed
	}
	hand, tick := t.sweep.hand, t.clock.tick
	for range n {
		if hand >= t.used {
			hand = 0
		}
		if t.deadline[hand] <= tick && !t.visit(uint32(hand)) {
			break
		}
		hand++
	}
	t.sweep.hand = hand
}

// visit asks the flow whose deadline has come. It returns false when the flow
// is over but the ring is full.
func (t *Table) visit(i uint32) bool {
	e := &t.hot[i]
	silence := t.ticks.idle
	why := EndedIdle
	if e.state.over() {
		silence, why = t.ticks.closed, EndedClosed
	}
	tick := t.clock.tick
	if tick-e.seen >= silence {
		if t.ring.place() == nil {
			return false
		}
		t.end(i, why)
		return true
	}
	next := due(e.seen, silence)
	if begun := t.cold[i].begun; e.bits&bitFresh == 0 {
		if tick-begun >= t.ticks.active {
			if t.ring.place() == nil {
				return false
			}
			t.report(i)
		} else {
			next = min(next, due(begun, t.ticks.active))
		}
	}
	t.deadline[i] = next
	return true
}

// victim picks the flow to go when the table is full: the longest silent of a
// few, starting at the hand. It need not be the oldest of all, but costs the same
// however many there are. It returns noSlot when all of the few are free.
func (t *Table) victim() uint32 {
	best, silence := noSlot, uint32(0)
	for range victims {
		i := uint32(t.sweep.hand % t.used)
		t.sweep.hand = int(i) + 1
		if t.hot[i].id == 0 {
			continue
		}
		if s := t.clock.tick - t.hot[i].seen; best == noSlot || s > silence {
			best, silence = i, s
		}
	}
	return best
}

// spareFor is how many slots a table of so many flows keeps free: enough for
// the flows that can begin until the house is kept again. A small table has
// none and evicts when it must.
func spareFor(flows int) int {
	if flows < 4096 {
		return 0
	}
	return 2 * houseEvery
}

// makeRoom evicts some flows ahead when the table is all but full. Many at once
// cost less: the memory of all is asked for before the first is looked at.
func (t *Table) makeRoom() {
	var going [houseEvery]uint32
	for len(t.free) < t.spare {
		n := 0
		for range going {
			if i := t.victim(); i != noSlot {
				t.prefetchCold(i)
				going[n] = i
				n++
			}
		}
		for _, i := range going[:n] {
			_, place := t.seed.hash(&t.cold[i].key)
			first, second := &t.index.buckets[place&t.index.mask], t.index.second(place)
			prefetch(unsafe.Pointer(first), unsafe.Pointer(second))
		}
		for _, i := range going[:n] {
			t.end(i, EndedEvicted)
		}
	}
}

// prefetchCold asks for all lines of a slot's cold part, and for the hot one.
func (t *Table) prefetchCold(i uint32) {
	c := &t.cold[i]
	prefetch(unsafe.Pointer(&t.hot[i]), unsafe.Pointer(&c.key))
	prefetch(unsafe.Pointer(&c.number), unsafe.Pointer(&c.retransmissions))
	prefetch(unsafe.Pointer(&c.holes), unsafe.Pointer(&c.feed))
}

// end exports a flow and takes it out.
func (t *Table) end(i uint32, why Counter) {
	t.unlink(i)
	t.dismiss(i, why)
}

// unlink takes a flow out of the index.
func (t *Table) unlink(i uint32) {
	_, place := t.seed.hash(&t.cold[i].key)
	t.index.remove(place, i)
}

// dismiss exports a flow that the index has already lost.
func (t *Table) dismiss(i uint32, why Counter) {
	t.emit(i, endOf(why))
	t.release(i)
	t.count[why]++
}

// release frees a slot.
func (t *Table) release(i uint32) {
	t.hot[i].id = 0
	t.deadline[i] = never
	t.free = append(t.free, i) // never grows: there are as many places as slots
}

// endOf is the End of a flow that was ended for the reason a counter names.
func endOf(why Counter) End {
	switch why {
	case EndedIdle:
		return EndIdle
	case EndedClosed, EndedReused:
		return EndClosed
	case EndedEvicted:
		return EndEvicted
	}
	return EndForced
}

// report exports a flow that goes on and begins its next period.
func (t *Table) report(i uint32) {
	t.emit(i, EndActive)
	t.count[EmittedActive]++
	e, c := &t.hot[i], &t.cold[i]
	e.packets, e.bytes, e.flags = [2]uint32{}, [2]uint64{}, [2]uint8{}
	e.bits = e.bits&^bitSampled | bitFresh | bitReported
	c.retransmissions, c.outOfOrder, c.zeroWindows = [2]uint32{}, [2]uint32{}, [2]uint32{}
	c.gaps, c.mirrorReordered, c.mirrorGaps = [2]uint32{}, [2]uint32{}, [2]uint32{}
	c.copies, c.resets = [2]uint32{}, [2]uint16{}
	c.shown = 0
}

// emit puts a record of the flow into the ring. A flow without a packet since
// its last record has nothing to tell.
func (t *Table) emit(i uint32, why End) {
	if t.hot[i].bits&bitFresh != 0 {
		return
	}
	t.count[Emitted]++
	f := t.ring.place()
	if f == nil {
		t.count[RecordsLost]++
		return
	}
	t.describe(i, f)
	f.End = why
	t.ring.push()
}

// describe writes what is known of a flow.
func (t *Table) describe(i uint32, f *Flow) {
	e, c := &t.hot[i], &t.cold[i]
	*f = Flow{
		ID:        c.number,
		First:     c.first,
		Last:      e.last,
		Handshake: c.handshake,
		ServerRTT: c.serverRTT,
		ClientRTT: c.clientRTT,
		FirstByte: c.firstByte,
		Weight:    c.weight,
		VLAN:      [2]uint16{uint16(c.key[5] >> 16), uint16(c.key[5])},
		EtherType: c.key.etherType(),
		Protocol:  c.key.protocol(),
		TCPState:  e.state,
		Certain:   e.bits&bitCertain != 0,
		Continued: e.bits&bitReported != 0,
	}
	if scope := c.key.scope(); scope&domainScope != 0 {
		f.Domain = scope &^ domainScope
	}
	for d := range uint8(2) {
		side := (e.lead ^ d) & 1
		f.Packets[d], f.Bytes[d] = uint64(e.packets[side]), e.bytes[side]
		f.Feed[d] = c.feed[side]
		f.Retransmissions[d], f.OutOfOrder[d] = c.retransmissions[side], c.outOfOrder[side]
		f.ZeroWindows[d], f.Gaps[d] = c.zeroWindows[side], c.gaps[side]
		f.MirrorReordered[d], f.MirrorGaps[d] = c.mirrorReordered[side], c.mirrorGaps[side]
		f.Copies[d], f.Resets[d] = c.copies[side], c.resets[side]
		f.MAC[d], f.TCPFlags[d] = c.mac[side], e.flags[side]
		if f.IsIP() {
			f.Address[d] = address(&c.key, side)
		}
		f.Port[d] = c.key.port(side)
	}
	if f.Protocol == protocolICMP || f.Protocol == protocolICMPv6 {
		f.ICMPType = c.key.message()
		if _, _, query := icmpQuery(f.Protocol, f.ICMPType); query {
			f.ICMPID = f.Port[0]
		} else {
			f.ICMPCode = uint8(f.Port[0])
		}
		f.Port = [2]uint16{}
	}
}

// address returns the address of a side of the key in network order.
func address(k *key, side uint8) (a [16]byte) {
	binary.BigEndian.PutUint64(a[:], k[2*side])
	binary.BigEndian.PutUint64(a[8:], k[2*side+1])
	return a
}

// Drain ends all flows and hands their records to f, beside the ring, which may
// be too small for them all and is to be read once more afterwards. The record is
// f's until it returns.
func (t *Table) Drain(f func(*Flow)) {
	t.settle()
	t.releaseAll()
	var record Flow
	for i := range uint32(t.used) {
		if t.deadline[i] == never {
			continue
		}
		if t.hot[i].bits&bitFresh == 0 {
			t.describe(i, &record)
			record.End = EndForced
			t.count[Emitted]++
			f(&record)
		}
		t.unlink(i)
		t.release(i)
		t.count[EndedForced]++
	}
	t.show()
	t.serve(t.used) // a view that waits is told what is left: nothing
}
