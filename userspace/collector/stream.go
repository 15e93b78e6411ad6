package collector

import (
	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/frame"
)

// stream is what one worker knows of one feed: the interface its packets are
// written under, and what was learned of the sender.
type stream struct {
	feed  uint32 // id; a slot is used again by another feed when this one is idle
	link  pcapng.LinkType
	named bool
	id    uint32 // of the interface, when named
	frame frame.Feed
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
	head := *slot
	for s := head; s != nil; s = s.next {
		if s.feed == rec.Feed && s.link == link {
			return s
		}
	}
	if head != nil && head.feed != rec.Feed {
		head = nil // the slot's former feed is gone
	}
	w.rebuilt.meet(rec.Feed, w.feeds)
	*slot = &stream{feed: rec.Feed, link: link, frame: frame.NewFeed(w.config.Frame), next: head}
	return *slot
}

// name makes the feed an interface of the capture; its first frame has told
// whether frames end in a check sequence.
func (w *worker) name(s *stream, rec *bpf.Record) {
	i := pcapng.Interface{LinkType: s.link, FCSLength: s.frame.FCSLength()}
	if key, err := w.feeds.FeedKey(rec.Feed); err == nil {
		i.Name, i.Description = feed.Name(&key), feed.Description(&key)
	} else {
		// The feed table is full: all that found no place share one interface.
		i.Name, i.Description = "other", "feeds beyond the size of the feed table"
	}
	s.id, s.named = w.out.addInterface(i, rec.Feed), true
}
