package mirror

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
)

// feedOf is a feed with so many frames and faults.
func feedOf(t *testing.T, frames int, change func(*Session)) plannedFeed {
	t.Helper()
	s := DefaultSession(bpf.EncapERSPAN2)
	s.SourceMAC = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}
	s.DestinationMAC = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 2}
	s.Source, s.Destination = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if change != nil {
		change(&s)
	}
	w, err := NewWrapper(s)
	if err != nil {
		t.Fatal(err)
	}
	f := plannedFeed{wrapper: w}
	for i := range frames {
		f.frames = append(f.frames, make([]byte, 60))
		f.usable = append(f.usable, uint32(i))
	}
	return f
}

// spell writes events as feed, number and, if not on time, a mark.
func spell(events []event) string {
	var words []string
	for _, e := range events {
		words = append(words, fmt.Sprintf("%c%d%s", 'a'+e.feed, e.number, []string{"", "'", "+"}[e.kind]))
	}
	return strings.Join(words, " ")
}

// rounds is what a schedule gives in n rounds; "|" ends each.
func rounds(s *schedule, n int) string {
	var words []string
	for range n {
		var events []event
		for {
			e, ok := s.next()
			if !ok {
				break
			}
			events = append(events, e)
		}
		words = append(words, spell(events))
	}
	return strings.Join(words, " | ")
}

func TestScheduleOrder(t *testing.T) {
	for _, row := range []struct {
		name  string
		feeds []plannedFeed
		want  string
	}{
		{"one feed", []plannedFeed{feedOf(t, 3, nil)}, "a0 a1 a2 | a3 a4 a5"},
		{"two feeds", []plannedFeed{feedOf(t, 4, nil), feedOf(t, 2, nil)}, "a0 b0 a1 a2 b1 a3 | a4 b2 a5 a6 b3 a7"},
		{"a feed without frames", []plannedFeed{feedOf(t, 0, nil), feedOf(t, 2, nil)}, "b0 b1 | b2 b3"},
		{"lost", []plannedFeed{feedOf(t, 5, func(s *Session) { s.LoseEvery = 3 })}, "a0 a1 a3 a4 | a6 a7 a9"},
		{"twice", []plannedFeed{feedOf(t, 4, func(s *Session) { s.DuplicateEvery = 3 })}, "a0 a1 a2 a2+ a3 | a4 a5 a5+ a6 a7"},
		{"late", []plannedFeed{feedOf(t, 6, func(s *Session) { s.ReorderEvery = 4 })}, "a0 a1 a2 a4 a3' a5 | a6 a8 a7' a9 a10 a11"},
		{"held to the end of the round", []plannedFeed{feedOf(t, 4, func(s *Session) { s.ReorderEvery = 4 })}, "a0 a1 a2 a3 | a4 a5 a6 a7"},
		{"late behind a lost one", []plannedFeed{feedOf(t, 5, func(s *Session) { s.ReorderEvery, s.LoseEvery = 2, 3 })}, "a0 a3 a1' a4 | a6 a9 a7'"},
		{"one that would be both is lost", []plannedFeed{feedOf(t, 4, func(s *Session) { s.DuplicateEvery, s.LoseEvery = 2, 2 })}, "a0 a2 | a4 a6"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := rounds(newSchedule(row.feeds), 2); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// A pass is as many rounds as the faults need to come out even.
func TestUnroll(t *testing.T) {
	for _, row := range []struct {
		name         string
		frames       int
		change       func(*Session)
		rounds, most int
		packets      int
		stride       uint64
	}{
		{"no faults", 7, nil, 0, 100, 7, 7},
		{"even at once", 6, func(s *Session) { s.LoseEvery = 3 }, 0, 100, 4, 6},
		{"even after three rounds", 7, func(s *Session) { s.DuplicateEvery = 3 }, 0, 100, 28, 21},
		{"two faults", 4, func(s *Session) { s.LoseEvery, s.DuplicateEvery = 3, 5 }, 0, 1000, 60 - 20 + 8, 60},
		{"one round only", 7, func(s *Session) { s.DuplicateEvery = 3 }, 1, 100, 9, 7},
		{"as many as allowed", 7, func(s *Session) { s.DuplicateEvery = 1000 }, 0, 30, 28, 28},
	} {
		t.Run(row.name, func(t *testing.T) {
			pass, strides := newSchedule([]plannedFeed{feedOf(t, row.frames, row.change)}).unroll(row.rounds, row.most)
			if len(pass) != row.packets || strides[0] != row.stride {
				t.Errorf("%d packets using %d numbers, want %d and %d", len(pass), strides[0], row.packets, row.stride)
			}
		})
	}
}

// What pass.stats reckons from a number of frames is what counting the events
// one by one gives, at every possible end.
func TestPassStatsAtEveryFrame(t *testing.T) {
	p := &plan{loop: true, feeds: []plannedFeed{
		feedOf(t, 5, func(s *Session) { s.LoseEvery, s.ReorderEvery = 7, 3 }),
		feedOf(t, 3, func(s *Session) { s.DuplicateEvery = 4 }),
	}}
	p.feeds[0].frames[2] = make([]byte, 1500) // three fragments
	p.feeds[0].wrapper.session.MTU = 576
	s, err := newPass(p, testTime)
	if err != nil {
		t.Fatal(err)
	}
	want := p.newStats()
	want.Feeds = slices.Clone(want.Feeds)
	frames := uint64(0)
	for round := range uint64(3) {
		for i, e := range s.events {
			first, end := s.starts[i], s.starts[i+1]
			for at := first; at < end; at++ { // in the middle of the packet it does not count yet
				if got := s.stats(frames); got.Packets != want.Packets || got.Frames != frames || got.Bytes != want.Bytes || !slices.Equal(got.Feeds, want.Feeds) {
					t.Fatalf("after %d frames\n%+v, want\n%+v", frames, got, want)
				}
				want.Bytes += uint64(s.length(&s.steps[at]))
				frames++
			}
			if got, wantEnd := s.packetEnd(frames), frames; got != wantEnd {
				t.Fatalf("the packet after %d frames ends at %d", frames, got)
			}
			if end-first == 3 && s.packetEnd(frames-1) != frames {
				t.Fatalf("in a packet of three fragments, %d frames go on to %d, want %d", frames-1, s.packetEnd(frames-1), frames)
			}
			e.number += round * s.strides[e.feed]
			want.Packets++
			want.Feeds[e.feed].count(e)
		}
		if got := s.frames((round + 1) * uint64(len(s.events))); got != frames {
			t.Fatalf("%d rounds are %d frames, want %d", round+1, got, frames)
		}
	}
}
