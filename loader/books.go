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
	cpus := make([]bpf.DecapCpu, ebpf.MustPossibleCPU())
	if err := d.maps.Cpus.Lookup(uint32(0), cpus); err != nil {
		return boxes, fmt.Errorf("reading the verdicts: %w", err)
	}
	for i := range cpus {
		for v, t := range cpus[i].Verdicts {
			boxes[v].Packets += t.Packets
			boxes[v].Bytes += t.Bytes
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

// Feeds reads the feed table in the order in which the feeds were first given a
// slot. Each entry is read as it was at one moment; but when the program needs no
// locks (Config.Queues), while packets flow, its counters may be a packet apart.
func (d *Datapath) Feeds() ([]Feed, error) {
	const some = 256
	var (
		feeds  []Feed
		slots  [some]uint32
		values [some]bpf.DecapFeedEntry
		cursor ebpf.MapBatchCursor
	)
	for {
		n, err := d.maps.Feeds.BatchLookup(&cursor, slots[:], values[:], &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)})
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
	entry, err := d.entry(id)
	return entry.Key, err
}

// FeedState returns the books of the feed with this id.
func (d *Datapath) FeedState(id uint32) (bpf.FeedState, error) {
	entry, err := d.entry(id)
	return entry.State, err
}

func (d *Datapath) entry(id uint32) (entry bpf.DecapFeedEntry, err error) {
	if err := d.maps.Feeds.LookupWithFlags(id&slotMask, &entry, ebpf.LookupLock); err != nil {
		return entry, fmt.Errorf("looking up feed %d: %w", id, err)
	}
	if id == 0 || entry.Id != id {
		return bpf.DecapFeedEntry{}, fmt.Errorf("looking up feed %d: it is not in the table", id)
	}
	return entry, nil
}
