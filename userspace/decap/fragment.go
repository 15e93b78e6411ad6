package decap

import (
	"hash/maphash"

	"github.com/unspan/unspan/bpf"
)

// position is where in its datagram an outer fragment lies.
type position uint8

const (
	whole position = iota
	first
	later
)

// datagram is what the fragments of one outer datagram have in common, RFC 791
// 3.2, RFC 8200 4.5.
type datagram struct {
	source, destination [16]byte
	id                  uint32
	protocol            uint8
}

// hash is the flow hash of a datagram's fragments: all of them meet the same worker.
func (d *datagram) hash() uint32 {
	return hashFlow(foldIP6(d.source[:]), foldIP6(d.destination[:]), uint64(d.id)<<8|uint64(d.protocol))
}

// firstFragment settles what a datagram is, given what the tunnel headers in its first
// fragment said. Where the headers go on in the next fragment it is a tunnel:
// reassembly will tell which.
func (e *Engine) firstFragment(p *packet, v bpf.Verdict) bpf.Verdict {
	switch v {
	case bpf.RedirectInner:
	case bpf.DropGREShort, bpf.DropERSPANShort, bpf.DropUDPShort, bpf.DropInnerShort:
		p.key.Encap = uint8(bpf.EncapNone)
	default:
		e.kinds.remember(&p.datagram, false)
		return v
	}
	e.kinds.remember(&p.datagram, true)
	return bpf.RedirectFragment
}

// laterFragment asks what the first fragment of its datagram was. One that overtook it
// is taken for a tunnel when it is GRE: little else is.
func (e *Engine) laterFragment(p *packet) bpf.Verdict {
	tunnel, known := e.kinds.recall(&p.datagram)
	if !known {
		tunnel = p.protocol == protocolGRE
	}
	if tunnel {
		return bpf.RedirectFragment
	}
	return bpf.PassFragment
}

// kinds remembers of which datagrams the first fragment has been seen, and
// whether they were tunnels. It holds the newest ones and forgets the least
// recently used: fragments that never become a datagram cannot fill it.
type kinds struct {
	seed    maphash.Seed
	buckets []int32 // heads of chains; a power of two
	entries []remembered
	used    int
	newest  int32
	oldest  int32
}

type remembered struct {
	datagram     datagram
	tunnel       bool
	next         int32 // in the bucket's chain
	newer, older int32
}

const nobody = -1

func newKinds(size int) *kinds {
	buckets := 1
	for buckets < size {
		buckets *= 2
	}
	k := &kinds{
		seed:    maphash.MakeSeed(),
		buckets: make([]int32, buckets),
		entries: make([]remembered, size),
		newest:  nobody,
		oldest:  nobody,
	}
	for i := range k.buckets {
		k.buckets[i] = nobody
	}
	return k
}

func (k *kinds) bucket(key *datagram) *int32 {
	return &k.buckets[maphash.Comparable(k.seed, *key)&uint64(len(k.buckets)-1)]
}

func (k *kinds) find(key *datagram) int32 {
	i := *k.bucket(key)
	for i != nobody && k.entries[i].datagram != *key {
		i = k.entries[i].next
	}
	return i
}

func (k *kinds) recall(key *datagram) (tunnel, known bool) {
	i := k.find(key)
	if i == nobody {
		return false, false
	}
	k.touch(i)
	return k.entries[i].tunnel, true
}

func (k *kinds) remember(key *datagram, tunnel bool) {
	i := k.find(key)
	if i == nobody {
		i = k.place(key)
	}
	k.entries[i].tunnel = tunnel
	k.touch(i)
}

// place makes room for key: a fresh entry, or the least recently used one.
func (k *kinds) place(key *datagram) int32 {
	i := int32(k.used)
	if k.used < len(k.entries) {
		k.used++
	} else {
		i = k.oldest
		link := k.bucket(&k.entries[i].datagram)
		for *link != i {
			link = &k.entries[*link].next
		}
		*link = k.entries[i].next
		k.unlink(i)
	}
	bucket := k.bucket(key)
	k.entries[i] = remembered{datagram: *key, next: *bucket, newer: nobody, older: nobody}
	*bucket = i
	return i
}

// touch makes entry i the most recently used.
func (k *kinds) touch(i int32) {
	if k.newest == i {
		return
	}
	if k.entries[i].newer != nobody {
		k.unlink(i)
	}
	k.entries[i].newer, k.entries[i].older = nobody, k.newest
	if k.newest != nobody {
		k.entries[k.newest].newer = i
	} else {
		k.oldest = i
	}
	k.newest = i
}

func (k *kinds) unlink(i int32) {
	e := &k.entries[i]
	if e.newer != nobody {
		k.entries[e.newer].older = e.older
	} else {
		k.newest = e.older
	}
	if e.older != nobody {
		k.entries[e.older].newer = e.newer
	} else {
		k.oldest = e.newer
	}
}
