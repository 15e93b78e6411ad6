// Package export takes flow records from the workers' rings to the sinks.
//
//	Ring ─┐                    ┌─ queue ─► IPFIX      each queue is bounded, each
//	Ring ─┼─► Exporter.Run ────┼─ queue ─► Parquet    sink has its own goroutine:
//	Ring ─┘  copies to each    └─ queue ─► Kafka      a slow one holds up nobody
//
// A sink that cannot be reached never stops anything else: its queue fills,
// further records are dropped and counted, and it is tried again, ever less
// often. The sinks are in the packages below this one.
package export

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/unspan/unspan/userspace/flow"
)

// Sink delivers flow records somewhere. One goroutine calls it.
type Sink interface {
	// Write delivers records, connecting first when it has to, and returns how
	// many surely went out, from the first on; when that is not all, also why.
	// The rest is offered again. It is also called with no record about once a
	// second, for what is due. It returns soon after ctx is done. The records
	// are the caller's again when it returns.
	Write(ctx context.Context, records []flow.Flow) (int, error)
	// Close delivers what is held and lets go of everything.
	Close() error
}

// Target is a sink under the name that logs and metrics use.
type Target struct {
	Name string
	Sink Sink
}

// Config is how records wait.
type Config struct {
	// Queue is how many records wait for one sink at most; each takes about 330 bytes.
	Queue int
	// Batch is how many records a sink is given at once.
	Batch int
	// Poll is how often the rings are looked at when they are empty.
	Poll time.Duration
	// Retry is the first wait after a failure; it doubles up to RetryMax.
	Retry, RetryMax time.Duration
	// Grace is how long the queues have to empty once Run is told to end.
	Grace time.Duration
}

// Default holds 65,536 records, 21 MiB, for each sink.
func Default() Config {
	return Config{
		Queue:    1 << 16,
		Batch:    1024,
		Poll:     10 * time.Millisecond,
		Retry:    100 * time.Millisecond,
		RetryMax: 30 * time.Second,
		Grace:    5 * time.Second,
	}
}

func (c *Config) validate() error {
	switch {
	case c.Queue < 1:
		return fmt.Errorf("export queue: %d is not above 0", c.Queue)
	case c.Batch < 1 || c.Batch > c.Queue:
		return fmt.Errorf("export batch: %d is not between 1 and the queue's %d", c.Batch, c.Queue)
	case c.Poll <= 0:
		return fmt.Errorf("export poll: %v is not above 0", c.Poll)
	case c.Retry <= 0 || c.RetryMax < c.Retry:
		return fmt.Errorf("export retry: %v to %v is no range above 0", c.Retry, c.RetryMax)
	case c.Grace < 0:
		return fmt.Errorf("export grace: %v is below 0", c.Grace)
	}
	return nil
}

// Exporter moves records from rings to sinks.
type Exporter struct {
	config Config
	rings  []*flow.Ring
	pumps  []*pump
}

// New makes an exporter that does nothing before Run. It owns the sinks from
// then on.
func New(config Config, log *slog.Logger, rings []*flow.Ring, targets []Target) (*Exporter, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	e := &Exporter{config: config, rings: rings}
	for _, t := range targets {
		e.pumps = append(e.pumps, newPump(config, log, t))
	}
	return e, nil
}

// Run moves records until ctx is done, then gives the sinks Grace to take what
// waits, closes them and returns. Its error is that of closing them.
func (e *Exporter) Run(ctx context.Context) error {
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	errs := make([]error, len(e.pumps))
	var running sync.WaitGroup
	for i, p := range e.pumps {
		running.Go(func() { errs[i] = p.run(hard) })
	}

	batch := make([]flow.Flow, e.config.Batch)
	timer := time.NewTimer(e.config.Poll)
	defer timer.Stop()
	for ctx.Err() == nil {
		if e.collect(batch) == 0 {
			timer.Reset(e.config.Poll)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}
	for e.collect(batch) != 0 {
	}
	for _, p := range e.pumps {
		p.queue.end()
	}
	grace := time.AfterFunc(e.config.Grace, kill)
	defer grace.Stop()
	running.Wait()
	return joinNamed(errs, e.pumps)
}

// collect reads each ring once and returns how many records there were.
func (e *Exporter) collect(batch []flow.Flow) (total int) {
	for _, r := range e.rings {
		n := r.Read(batch)
		for _, p := range e.pumps {
			p.queue.offer(batch[:n])
		}
		total += n
	}
	return total
}

// Put hands over a record that is in no ring, as Table.Drain yields them. It
// waits for room in every queue, until ctx is done and but for queues whose sink
// fails; what has none is dropped and counted. It may be called while Run runs,
// from any goroutine.
func (e *Exporter) Put(ctx context.Context, f *flow.Flow) {
	for _, p := range e.pumps {
		p.queue.put(ctx, &p.failing, f)
	}
}

// Stats is what became of the records of one sink. All of them are in exactly
// one of Written, Dropped and Waiting.
type Stats struct {
	Name    string
	Written uint64 // delivered, as far as the sink can know
	Dropped uint64 // the queue was full, or the end came first
	Waiting uint64 // in the queue or being written
	Errors  uint64 // failed attempts
}

// Stats reads the counters of all sinks. Any goroutine may call it.
func (e *Exporter) Stats() []Stats {
	var all []Stats
	for _, p := range e.pumps {
		all = append(all, p.stats())
	}
	return all
}
