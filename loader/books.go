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

// Feeds reads the whole feed table, each entry under its lock.
func (d *Datapath) Feeds() ([]Feed, error) {
	const some = 256
	var (
		feeds  []Feed
		keys   [some]bpf.FeedKey
		values [some]bpf.DecapFeedEntry
		cursor ebpf.MapBatchCursor
	)
	for {
		n, err := d.objects.Feeds.BatchLookup(&cursor, keys[:], values[:], &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)})
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("reading the feed table: %w", err)
		}
		for i := range n {
			feeds = append(feeds, Feed{ID: values[i].Id, Key: keys[i], State: values[i].State})
		}
		if err != nil { // ErrKeyNotExist ends the table
			return feeds, nil
		}
	}
}

// FeedKey says whose feed id is. It is one system call: for the first frame of
// a feed, not for every frame.
func (d *Datapath) FeedKey(id uint32) (key bpf.FeedKey, err error) {
	if err := d.objects.FeedNames.Lookup(id&0xffff, &key); err != nil {
		return key, fmt.Errorf("looking up feed %d: %w", id, err)
	}
	return key, nil
}
