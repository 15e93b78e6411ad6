package loader_test

import (
	"strings"
	"testing"

	"github.com/unspan/unspan/loader"
)

// A full table costs a feed its own books, never its packets.
func TestMoreFeedsThanSlots(t *testing.T) {
	needRoot(t)
	d := mustLoad(t, func(c *loader.Config) { c.MaxFeeds = 2 })
	for session, want := range []uint32{1, 2, 0, 0} {
		if got := deliver(t, d, erspan2(uint16(session), 9)).Feed; got != want {
			t.Errorf("session %d: feed %d, want %d", session, got, want)
		}
	}
	if got := deliver(t, d, erspan2(0, 10)).Feed; got != 1 {
		t.Errorf("session 0 again: feed %d, want 1", got)
	}
	want := map[uint32]uint64{1: 2, 2: 1}
	feeds, err := d.Feeds()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range feeds {
		if f.State.Packets != want[f.ID] {
			t.Errorf("feed %d has %d packets, want %d", f.ID, f.State.Packets, want[f.ID])
		}
		delete(want, f.ID)
	}
	if len(want) != 0 {
		t.Errorf("feeds %v are missing", want)
	}
}

// A feed that is forgotten leaves its slot to the next, which has another id,
// and starts anew when it comes again.
func TestForget(t *testing.T) {
	needRoot(t)
	d := mustLoad(t, func(c *loader.Config) { c.MaxFeeds = 1 })
	id := deliver(t, d, erspan2(7, 100)).Feed
	if id != 1 {
		t.Fatalf("the first feed is %d, want 1", id)
	}
	for _, next := range []struct {
		name    string
		session uint16
		want    uint32
	}{
		{"another", 8, 1<<16 | 1},
		{"the first again", 7, 2<<16 | 1},
		{"the first once more", 7, 3<<16 | 1},
	} {
		if err := d.Forget(id); err != nil {
			t.Fatal(err)
		}
		if feeds, err := d.Feeds(); err != nil || len(feeds) != 0 {
			t.Errorf("%s: feeds %+v, %v after forgetting the only one", next.name, feeds, err)
		}
		if _, err := d.FeedState(id); err == nil {
			t.Errorf("%s: feed %d is still in the table", next.name, id)
		}
		if err := d.Forget(id); err == nil || !strings.Contains(err.Error(), "it is not in the table") {
			t.Errorf("%s: forgetting feed %d twice: %v", next.name, id, err)
		}
		// A gap of 100 numbers, were it the same feed.
		r := deliver(t, d, erspan2(next.session, 201))
		if r.Feed != next.want || r.Gap != 0 {
			t.Errorf("%s: feed %#x, gap %d, want %#x without", next.name, r.Feed, r.Gap, next.want)
		}
		key, err := d.FeedKey(r.Feed)
		if err != nil || key != keyOf(next.session) {
			t.Errorf("%s: feed %#x is %+v, %v, want session %d", next.name, r.Feed, key, err, next.session)
		}
		state, err := d.FeedState(r.Feed)
		if err != nil || state.Packets != 1 || state.Sequence.Received != 1 || state.Sequence.Lost != 0 {
			t.Errorf("%s: books %+v, %v, want those of one packet", next.name, state, err)
		}
		id = r.Feed
	}
	if got := deliver(t, d, erspan2(9, 1)).Feed; got != 0 {
		t.Errorf("feed %d while the table is full, want 0", got)
	}
}

// User space finds and makes feeds as the program does.
func TestFind(t *testing.T) {
	needRoot(t)
	d := mustLoad(t, func(c *loader.Config) { c.MaxFeeds = 2 })
	find := func(session uint16) uint32 {
		key := keyOf(session)
		return d.Find(&key)
	}
	for _, step := range []struct {
		name    string
		do      func(uint16) uint32
		session uint16
		want    uint32
	}{
		{"made here", find, 7, 1},
		{"found here", find, 7, 1},
		{"found by the program", func(s uint16) uint32 { return deliver(t, d, erspan2(s, 1)).Feed }, 7, 1},
		{"made by the program", func(s uint16) uint32 { return deliver(t, d, erspan2(s, 1)).Feed }, 8, 2},
		{"found here, made there", find, 8, 2},
		{"no slot left", find, 9, 0},
	} {
		if got := step.do(step.session); got != step.want {
			t.Errorf("%s: feed %d, want %d", step.name, got, step.want)
		}
	}
	state, err := d.FeedState(1)
	if err != nil || state.Packets != 1 {
		t.Errorf("books of feed 1: %+v, %v, want the one packet that the program saw", state, err)
	}
}
