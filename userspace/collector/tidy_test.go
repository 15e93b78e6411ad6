package collector

import (
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
)

// Only what has been idle for long goes, the longest first, and no more than is needed.
func TestIdlest(t *testing.T) {
	const now = uint64(100 * time.Hour)
	feeds := func(idle ...time.Duration) (all []loader.Feed) {
		for i, d := range idle {
			all = append(all, loader.Feed{ID: uint32(i + 1), State: bpf.FeedState{Last: now - uint64(d)}})
		}
		return all
	}
	many := make([]time.Duration, 100)
	for i := range many {
		many[i] = 2*time.Hour + time.Duration(i)
	}
	for _, c := range []struct {
		name   string
		feeds  []loader.Feed
		enough int
		want   []uint32 // ids
	}{
		{"places enough", feeds(5*time.Hour, 5*time.Hour), 2, nil},
		{"all live", feeds(0, time.Minute, time.Hour-1), 1, nil},
		{"one too many", feeds(0, 3*time.Hour, 2*time.Hour), 2, []uint32{2}},
		{"two too many, one live", feeds(0, 2*time.Hour, 3*time.Hour), 1, []uint32{3, 2}},
		{"a flood", feeds(many...), 10, []uint32{100, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90, 89, 88, 87, 86, 85}},
	} {
		var got []uint32
		for _, f := range idlest(c.feeds, c.enough, now) {
			got = append(got, f.ID)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
}
