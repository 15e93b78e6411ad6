package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/unspan/unspan/userspace/flow"
)

// pump brings the records of one queue to one sink.
type pump struct {
	config  Config
	log     *slog.Logger
	target  Target
	queue   *queue
	errors  atomic.Uint64
	failing atomic.Bool
	told    time.Time // when the failure was last logged
}

const (
	// idleWrite is how often a sink is called when it has nothing to deliver.
	idleWrite = time.Second
	// tellEvery is how often a lasting failure is logged.
	tellEvery = time.Minute
)

func newPump(config Config, log *slog.Logger, target Target) *pump {
	return &pump{config: config, log: log, target: target, queue: newQueue(config.Queue)}
}

// run delivers until the queue has ended and is empty, or ctx is done.
func (p *pump) run(ctx context.Context) error {
	batch := make([]flow.Flow, p.config.Batch)
	wait := p.config.Retry
	for ctx.Err() == nil {
		n, ended := p.queue.peek(batch)
		if n == 0 && ended {
			break
		}
		if n == 0 && !p.idle(ctx) {
			continue
		}
		if p.write(ctx, batch[:n]) {
			wait = p.config.Retry
			continue
		}
		pause(ctx, wait)
		wait = min(2*wait, p.config.RetryMax)
	}
	p.queue.abandon()
	return p.target.Sink.Close()
}

// idle waits for records; it returns true when none came for so long that the
// sink is to be called without.
func (p *pump) idle(ctx context.Context) bool {
	timer := time.NewTimer(idleWrite)
	defer timer.Stop()
	select {
	case <-p.queue.ready:
		return false
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// write gives the sink a batch once and reports whether all of it went out.
func (p *pump) write(ctx context.Context, batch []flow.Flow) bool {
	n, err := p.target.Sink.Write(ctx, batch)
	n = min(max(n, 0), len(batch))
	p.queue.done(n)
	if err == nil && n < len(batch) {
		err = fmt.Errorf("took %d of %d records", n, len(batch))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return false // the end, not a failure of the sink
	case err != nil:
		p.errors.Add(1)
		if !p.failing.Load() || time.Since(p.told) >= tellEvery {
			s := p.queue.stats()
			p.log.Warn("exporting flows", "sink", p.target.Name, "error", err, "waiting", s.Waiting, "dropped", s.Dropped)
			p.told = time.Now()
		}
		p.failing.Store(true)
		return false
	case p.failing.Load():
		p.failing.Store(false)
		p.log.Info("exporting flows again", "sink", p.target.Name, "dropped", p.queue.stats().Dropped)
	}
	return true
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p *pump) stats() Stats {
	s := p.queue.stats()
	s.Name, s.Errors = p.target.Name, p.errors.Load()
	return s
}

func joinNamed(errs []error, pumps []*pump) error {
	var named []error
	for i, err := range errs {
		if err != nil {
			named = append(named, fmt.Errorf("closing flow export %s: %w", pumps[i].target.Name, err))
		}
	}
	return errors.Join(named...)
}
