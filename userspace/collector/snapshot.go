package collector

import (
	"errors"
	"fmt"
	"time"

	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/ledger"
)

// Snapshot is the ledger as it stands; after Run has returned, as it ended.
func (l *Live) Snapshot() (ledger.Snapshot, error) {
	r := l.run.Load()
	if r == nil {
		return ledger.Snapshot{}, errors.New("nothing is collected yet")
	}
	r.reading.RLock()
	defer r.reading.RUnlock()
	if last := r.last.Load(); last != nil {
		return *last, nil
	}
	return r.snapshot()
}

// Started reports whether Run got as far as collecting.
func (l *Live) Started() bool { return l.run.Load() != nil }

// Ready is nil while packets are being received.
func (l *Live) Ready() error {
	r := l.run.Load()
	switch {
	case r == nil:
		return errors.New("still setting up")
	case r.ending.Load():
		return errors.New("ending")
	}
	return nil
}

// snapshot reads from the output backwards to XDP, as ledger.Snapshot asks: what
// is on its way between two readings then shows as not yet arrived.
func (r *run) snapshot() (s ledger.Snapshot, err error) {
	s = ledger.Snapshot{
		Subject: fmt.Sprintf("%s, %s", r.nic.Link.Attrs().Name, r.path.Mode()),
		Start:   r.start, Elapsed: time.Since(r.start),
		Live: true, Final: r.drained.Load(),
	}
	s.Flows = r.flows.ledger()
	workers := make([]*worker, len(r.workers))
	for i, w := range r.workers {
		workers[i] = w.worker
	}
	s.Output = r.output.ledger(workers)
	for _, w := range workers {
		s.Workers = append(s.Workers, w.ledger())
	}
	for i, q := range r.queues {
		stats, err := q.Stats()
		if err != nil {
			return s, err
		}
		s.Queues = append(s.Queues, ledger.Queue{Index: i, Stats: stats})
	}
	feeds, err := r.path.Feeds()
	if err != nil {
		return s, err
	}
	r.endedMu.Lock()
	s.Ended = r.ended
	r.endedMu.Unlock()
	names := make(map[uint32]string)
	for _, f := range feeds {
		s.Feeds = append(s.Feeds, ledger.Feed{Key: f.Key, State: f.State})
		names[f.ID] = feed.Name(&f.Key)
	}
	if s.Rules, err = r.rules(); err != nil {
		return s, err
	}
	if s.Overlaps, err = r.overlaps(names); err != nil {
		return s, err
	}
	s.XDP, err = r.path.Verdicts()
	return s, err
}
