package flow

import "sync/atomic"

// Feeds is what all flow tables share about the mirror feeds: which capture
// domain a feed belongs to and how much of it the mirror has lost. It is safe
// for use by any number of goroutines.
type Feeds struct {
	feeds []feed
}

type feed struct {
	domain  atomic.Uint32
	missing atomic.Uint32
	_       [56]byte // a line each: workers write different feeds
}

// NewFeeds makes room for feeds in slots below n. Feeds beyond it still make
// flows, each in a scope of its own, but belong to no domain and are not asked
// for loss.
func NewFeeds(n int) *Feeds { return &Feeds{feeds: make([]feed, n)} }

// slot is the feed's place in tables of feeds: the lower half of its id. The
// upper half tells the feeds apart that had this place one after the other.
func slot(feed uint32) int { return int(feed & 0xffff) }

// SetDomain puts a feed into a capture domain, 1 to 2^31-1; 0 takes it out.
// The same conversation seen by two feeds of one domain is one flow; without a
// domain, or in two, it is two flows. Flows already begun stay as they are.
func (f *Feeds) SetDomain(feed, domain uint32) {
	if s := slot(feed); s < len(f.feeds) {
		f.feeds[s].domain.Store(domain &^ domainScope)
	}
}

// Domain returns the feed's capture domain, 0 when it is in none.
func (f *Feeds) Domain(feed uint32) uint32 {
	if s := slot(feed); s < len(f.feeds) {
		return f.feeds[s].domain.Load()
	}
	return 0
}

// lane is what one table knows of a feed's order of arrival.
type lane struct {
	feed    uint32 // whose order it is
	highest uint32
	seen    bool
}

// lateWindow is how far behind the newest a sequence number is late rather than
// the sender's new start.
const lateWindow = 1024

// late tells whether the mirror delivered this packet after one that it took
// later, or delivers it twice.
func (l *lane) late(feed, sequence uint32) bool {
	if l.feed != feed {
		*l = lane{feed: feed}
	}
	if behind := l.highest - sequence; l.seen && behind < lateWindow {
		return true
	}
	l.highest, l.seen = sequence, true
	return false
}
