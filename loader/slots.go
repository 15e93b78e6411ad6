package loader

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
)

// A feed's id is its slot, and above 16 bits how often the slot was given away:
// who knows a feed by its id never takes the next one in its slot for it.
const (
	slotBits = 16
	slotMask = 1<<slotBits - 1
)

// Find finds or makes the feed of a datagram whose first fragment was too short
// to say whose it is, and returns its id; 0 when the table is full, as in the kernel.
func (d *Datapath) Find(key *bpf.FeedKey) uint32 {
	var slot uint32
	if err := d.maps.FeedSlots.Lookup(key, &slot); err != nil {
		if slot = d.addFeed(key); slot == 0 {
			return 0
		}
	}
	var entry bpf.DecapFeedEntry
	if err := d.maps.Feeds.Lookup(slot, &entry); err != nil || entry.Key != *key {
		return 0
	}
	return entry.Id
}

// Observe counts nothing: the datagram is counted with the reassembled ones; the
// feed's own books are the kernel's, and it has not seen this one.
func (d *Datapath) Observe(*bpf.Record, bpf.Verdict) {}

// addFeed is make_feed of bpf/feed.h.
func (d *Datapath) addFeed(key *bpf.FeedKey) (slot uint32) {
	var id uint32
	if err := d.maps.FreeFeeds.LookupAndDelete(nil, &id); err != nil {
		return 0
	}
	slot = id & slotMask
	entry := bpf.DecapFeedEntry{Id: id, Key: *key}
	if err := d.maps.Feeds.Put(slot, &entry); err == nil {
		if d.maps.FeedSlots.Update(key, slot, ebpf.UpdateNoExist) == nil {
			return slot
		}
	}
	// The kernel was first, or the table is full: the id goes back.
	_ = d.maps.Feeds.Put(slot, &bpf.DecapFeedEntry{})
	_ = d.maps.FreeFeeds.Put(nil, id)
	if d.maps.FeedSlots.Lookup(key, &slot) != nil {
		return 0
	}
	return slot
}

// Forget takes a feed that sends no more out of the table, and gives its slot to
// whichever comes next, under another id. The caller has read its books.
//
// A packet of the feed that comes in this very moment is delivered and counted in
// the verdicts, with the old id, and is in no feed's books. One that comes later
// makes a new feed.
func (d *Datapath) Forget(id uint32) error {
	entry, err := d.entry(id)
	if err != nil {
		return fmt.Errorf("forgetting: %w", err)
	}
	if err := d.maps.FeedSlots.Delete(&entry.Key); err != nil {
		return fmt.Errorf("forgetting feed %d: taking it out of the table: %w", id, err)
	}
	slot := id & slotMask
	if err := d.clear(slot); err != nil {
		return fmt.Errorf("forgetting feed %d: %w", id, err)
	}
	// The program may have the slot in hand on another CPU, and count into it.
	awaitGracePeriod()
	if err := d.clear(slot); err != nil {
		return fmt.Errorf("forgetting feed %d: %w", id, err)
	}
	if err := d.maps.FreeFeeds.Put(nil, id+1<<slotBits); err != nil {
		return fmt.Errorf("forgetting feed %d: freeing its slot: %w", id, err)
	}
	return nil
}

// clear makes a slot nobody's. The CPUs that remember it look at its id first.
func (d *Datapath) clear(slot uint32) error {
	if err := d.maps.Feeds.Update(slot, &bpf.DecapFeedEntry{}, ebpf.UpdateExist|ebpf.UpdateLock); err != nil {
		return fmt.Errorf("clearing slot %d: %w", slot, err)
	}
	return nil
}

// awaitGracePeriod returns when every run of a program that was under way has
// ended: XDP programs run under RCU, and membarrier(2) is synchronize_rcu. Where
// the kernel has none (nohz_full) it waits longer than NAPI polls in one go.
func awaitGracePeriod() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL, linux/membarrier.h
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(100 * time.Millisecond)
	}
}
