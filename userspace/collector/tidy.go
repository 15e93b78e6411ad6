package collector

import (
	"cmp"
	"slices"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/ledger"
)

// The feed table is bounded, and whoever can send packets can make feeds. Live
// ones are never put out for new ones. But when places get scarce, those of feeds
// that have sent nothing for long are given away, a few at a time: a flood of
// feeds that never were cannot have more than that.
const (
	tidyEvery = 10 * time.Second
	tidyIdle  = time.Hour
	tidyStep  = 16
)

// tidy keeps a sixteenth of the table free, if there are feeds idle for that.
func (r *run) tidy(now time.Time, monotonic uint64) error {
	if now.Sub(r.tidied) < tidyEvery {
		return nil
	}
	r.tidied = now
	feeds, err := r.path.Feeds()
	if err != nil {
		return err
	}
	for _, f := range idlest(feeds, r.places-r.places/16, monotonic) {
		if err := r.path.Forget(f.ID); err != nil {
			return err
		}
		r.endedMu.Lock()
		r.ended.Add(&ledger.Feed{Key: f.Key, State: f.State})
		r.endedStates[f.ID] = f.State
		r.endedMu.Unlock()
	}
	return nil
}

// idlest are the feeds to forget when there are more than enough of them: those
// that have been idle for longest, and for long.
func idlest(feeds []loader.Feed, enough int, monotonic uint64) []loader.Feed {
	if len(feeds) <= enough {
		return nil
	}
	idle := slices.DeleteFunc(slices.Clone(feeds), func(f loader.Feed) bool {
		return f.State.Last+uint64(tidyIdle) > monotonic
	})
	slices.SortFunc(idle, func(a, b loader.Feed) int { return cmp.Compare(a.State.Last, b.State.Last) })
	return idle[:min(len(idle), len(feeds)-enough, tidyStep)]
}

// endedState gives the last books of a feed that is not in the table any more.
func (r *run) endedState(id uint32) (bpf.FeedState, bool) {
	r.endedMu.Lock()
	defer r.endedMu.Unlock()
	s, known := r.endedStates[id]
	return s, known
}
