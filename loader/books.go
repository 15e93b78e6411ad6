package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/unspan/unspan/bpf"
)

// Verdicts sums each box of the XDP line over the CPUs. The boxes sum to the
// frames the program has seen; while it runs, one frame may be between two reads.
func (d *Datapath) Verdicts() (boxes [bpf.VerdictCount]bpf.Tally, err error) {
	cpus := make([]bpf.Tally, ebpf.MustPossibleCPU())
	for v := range boxes {
		if err := d.objects.Verdicts.Lookup(uint32(v), cpus); err != nil {
			return boxes, fmt.Errorf("reading verdict %s: %w", bpf.VerdictName(bpf.Verdict(v)), err)
		}
		for _, c := range cpus {
			boxes[v].Packets += c.Packets
			boxes[v].Bytes += c.Bytes
		}
	}
	return boxes, nil
}

// Feed is one line of the kernel's feed table.
type Feed struct {
	ID    uint32
	Key   bpf.FeedKey
	State bpf.FeedState
}

// Feeds reads the feed table, each entry under its lock, in the order in which
// the feeds were first given a slot.
func (d *Datapath) Feeds() ([]Feed, error) {
	const some = 256
	var (
		feeds  []Feed
		slots  [some]uint32
		values [some]bpf.DecapFeedEntry
		cursor ebpf.MapBatchCursor
	)
	for {
		n, err := d.objects.Feeds.BatchLookup(&cursor, slots[:], values[:], &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)})
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("reading the feed table: %w", err)
		}
		for i := range n {
			// An id without packets is a slot whose feed is just being made.
			if v := &values[i]; v.Id != 0 && v.State.Packets != 0 {
				feeds = append(feeds, Feed{ID: v.Id, Key: v.Key, State: v.State})
			}
		}
		if err != nil { // ErrKeyNotExist ends the table
			return feeds, nil
		}
	}
}

// FeedKey says whose feed id is. It is one system call: for the first frame of
// a feed, not for every frame.
func (d *Datapath) FeedKey(id uint32) (bpf.FeedKey, error) {
	var entry bpf.DecapFeedEntry
	if err := d.objects.Feeds.Lookup(id&0xffff, &entry); err != nil {
		return bpf.FeedKey{}, fmt.Errorf("looking up feed %d: %w", id, err)
	}
	if entry.Id != id {
		return bpf.FeedKey{}, fmt.Errorf("looking up feed %d: it has left the table", id)
	}
	return entry.Key, nil
}
