package reassembly

import "hash/maphash"

// none ends a chain of slots.
const none int32 = -1

// begin returns a new datagram, in the place of the oldest when there are too many.
func (r *Reassembler) begin(k *key, hash, now uint64) *datagram {
	if len(r.free) == 0 {
		r.discard(&r.slots[r.oldest], EvictedDatagrams)
	}
	self := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	bucket := &r.buckets[hash&uint64(len(r.buckets)-1)]
	d := &r.slots[self]
	*d = datagram{
		key: *k, hash: hash, begun: now, total: unknown,
		self: self, chain: *bucket, older: r.newest, newer: none,
	}
	*bucket = self
	if r.newest == none {
		r.oldest = self
	} else {
		r.slots[r.newest].newer = self
	}
	r.newest = self
	r.counts.waiting.Add(1)
	return d
}

// find returns the datagram of a key, or nil.
func (r *Reassembler) find(k *key, hash uint64) *datagram {
	for i := r.buckets[hash&uint64(len(r.buckets)-1)]; i != none; i = r.slots[i].chain {
		if d := &r.slots[i]; d.hash == hash && d.key == *k {
			return d
		}
	}
	return nil
}

// kill gives up a datagram and remembers that, for what is still to come: RFC 5722
// 4, "any constituent fragments, including those not yet received, MUST be silently
// discarded". The memory ends as everything does, by age or to make place.
func (r *Reassembler) kill(d *datagram, reason Reason) {
	r.giveUp(d, reason)
	d.dead, d.reason = true, reason
}

// discard gives up a datagram and forgets it.
func (r *Reassembler) discard(d *datagram, reason Reason) {
	r.giveUp(d, reason)
	r.remove(d)
}

func (r *Reassembler) giveUp(d *datagram, reason Reason) {
	r.counts.held.Add(-int64(d.fragments))
	r.counts.givenUp[reason].Add(uint64(d.fragments))
	d.fragments = 0
	if d.buffer != nil {
		r.pool.put(d.buffer)
		d.buffer = nil
	}
}

// remove frees the slot of a datagram that holds no fragments any more.
func (r *Reassembler) remove(d *datagram) {
	link := &r.buckets[d.hash&uint64(len(r.buckets)-1)]
	for *link != d.self {
		link = &r.slots[*link].chain
	}
	*link = d.chain

	if d.older == none {
		r.oldest = d.newer
	} else {
		r.slots[d.older].newer = d.newer
	}
	if d.newer == none {
		r.newest = d.older
	} else {
		r.slots[d.newer].older = d.older
	}
	r.free = append(r.free, d.self)
	r.counts.waiting.Add(-1)
}

// countSender counts a fragment of the pair of addresses in k and returns the count.
func (r *Reassembler) countSender(k *key) uint32 {
	recent := &r.recent[maphash.Comparable(r.seed, k.pair())%senders]
	*recent++
	return *recent
}

// guardReuse gives up the datagram that an IPv4 fragment seems to belong to when its
// sender has used the id again: see reuseDistance.
func (r *Reassembler) guardReuse(d *datagram, recent uint32) *datagram {
	if d == nil || recent-d.recent <= reuseDistance {
		return d
	}
	r.discard(d, Reused)
	return nil
}
