package collector

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/feed"
)

// A mirror that mirrors its own feed melts the network: whoever watches the log
// shall read which one, and not be flooded by it.
const (
	loopSilence = time.Minute // a feed is named at most once in this time
	loopNames   = 10          // so many feeds at most at a time
)

// loopWatch warns of feeds that carry a mirror's own packets.
type loopWatch struct {
	log   *slog.Logger
	seen  uint64 // loops of all feeds, when last looked at
	feeds map[uint32]loopNote
}

type loopNote struct {
	loops uint64
	told  time.Time
}

// watchLoops looks whether there are more than before. The verdicts say so at
// little cost; the feeds are read only then.
func (r *run) watchLoops() error {
	if r.loops.log == nil {
		return nil
	}
	verdicts, err := r.path.Verdicts()
	if err != nil {
		return err
	}
	seen := verdicts[bpf.DropLoop].Packets
	for _, w := range r.workers {
		seen += w.books.nested.Load()
	}
	if seen == r.loops.seen {
		return nil
	}
	r.loops.seen = seen
	feeds, err := r.path.Feeds()
	if err != nil {
		return err
	}
	r.loops.warn(feeds, time.Now())
	return nil
}

// warn names the feeds whose loops have become more.
func (l *loopWatch) warn(feeds []loader.Feed, now time.Time) {
	before := l.feeds
	l.feeds = make(map[uint32]loopNote)
	named := 0
	for i := range feeds {
		f := &feeds[i]
		if f.State.Loops == 0 {
			continue
		}
		note := before[f.ID]
		if f.State.Loops > note.loops && now.Sub(note.told) >= loopSilence && named < loopNames {
			named++
			l.log.Warn("a mirror mirrors its own feed: take the port that leads to the collector out of the mirror session",
				"feed", feed.Name(&f.Key), "packets", fmt.Sprint(f.State.Loops-note.loops))
			note = loopNote{loops: f.State.Loops, told: now}
		}
		l.feeds[f.ID] = note
	}
}
