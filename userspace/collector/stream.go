package collector

import (
	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/feed"
)

// stream is what one worker knows of one feed: the interface its packets are
// written under, and what was learned of the sender.
type stream struct {
	feed  uint32 // id; a slot is used again by another feed when this one is idle
	link  pcapng.LinkType
	id    uint32 // of the interface
	clock clock.Feed
	next  *stream // of the same slot
}

// stream finds the packet's, or begins it: once in a feed's life, and again
// when its frames turn from Ethernet to bare IP, which is another link type.
func (w *worker) stream(rec *bpf.Record) *stream {
	link := pcapng.LinkEthernet
	if rec.Flags&bpf.RecordRawIP != 0 {
		link = pcapng.LinkRaw
	}
	slot := &w.streams[int(rec.Feed&0xffff)%len(w.streams)]
	for s := *slot; s != nil; s = s.next {
		if s.feed == rec.Feed && s.link == link {
			return s
		}
	}
	head := *slot
	if head != nil && head.feed != rec.Feed {
		head = nil // the slot's former feed is gone
	}
	*slot = &stream{feed: rec.Feed, link: link, id: w.out.addInterface(w.describe(rec, link), rec.Feed), next: head}
	return *slot
}

// describe makes the feed an interface of the capture.
func (w *worker) describe(rec *bpf.Record, link pcapng.LinkType) pcapng.Interface {
	i := pcapng.Interface{LinkType: link, FCSLength: -1}
	key, err := w.feeds.FeedKey(rec.Feed)
	if err != nil {
		// The feed table is full: all that found no place share one interface.
		i.Name, i.Description = "other", "feeds beyond the size of the feed table"
		return i
	}
	i.Name, i.Description = feed.Name(&key), feed.Description(&key)
	return i
}
