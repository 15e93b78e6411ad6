package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
)

// Flows says that flows are rebuilt from the inner frames, and where their
// records go. Start from DefaultFlows.
type Flows struct {
	// Table is that of each worker, but for Flows, which all of them share.
	Table flow.Config
	// Domains put feeds together; the first that takes a feed has it. The
	// conversations of a feed in none are its own.
	Domains []Domain
	Export  export.Config
	// Sinks opens where records go. Its labels are good until the run has
	// ended. nil: nowhere, flows are there to be looked at.
	Sinks func(*export.Labels) ([]export.Target, error)
}

// Domain is a capture domain: the same conversation, mirrored by two of its
// feeds, is one flow.
type Domain struct {
	ID        uint32
	Exporters netip.Prefix // whose feeds are in it; the zero Prefix: all feeds
}

// DefaultFlows rebuilds flows and exports none.
func DefaultFlows() Flows { return Flows{Table: flow.Default(), Export: export.Default()} }

const maxDomain = 1<<31 - 1

func (f *Flows) validate() error {
	for _, d := range f.Domains {
		if d.ID < 1 || d.ID > maxDomain {
			return fmt.Errorf("flow domain %d: must be 1 to %d", d.ID, maxDomain)
		}
	}
	return nil
}

// domain is the capture domain of a feed from an exporter, 0 when it is in none.
func (f *Flows) domain(exporter netip.Addr) uint32 {
	for _, d := range f.Domains {
		if !d.Exporters.IsValid() || d.Exporters.Contains(exporter) {
			return d.ID
		}
	}
	return 0
}

// flows are the flow tables of a run and the export of their records. A nil one
// does nothing.
type flows struct {
	config   *Flows
	feeds    *flow.Feeds
	labels   *export.Labels
	tables   []*flow.Table // one a worker
	exporter *export.Exporter

	mu  sync.RWMutex
	met []known           // feeds, by the slots of their ids: whoever can send can make feeds
	ids map[string]uint32 // by name

	stop   context.CancelFunc
	done   chan struct{}
	failed error // what Run returned
	end    sync.Once
}

// openFlows makes the tables, opens the sinks and begins to export. inline says
// that the one worker hands over its records itself, waiting for the sinks.
func openFlows(c *Config, workers int, inline bool) (f *flows, err error) {
	if c.Flows == nil {
		return nil, nil
	}
	f = &flows{
		config: c.Flows, feeds: flow.NewFeeds(c.MaxFeeds + 1),
		met: make([]known, c.MaxFeeds+1), ids: map[string]uint32{},
		done: make(chan struct{}),
	}
	f.labels = &export.Labels{Feed: f.feedName, Address: c.Names.Address, MAC: c.Names.MAC}
	var rings []*flow.Ring
	for i := range workers {
		t := c.Flows.Table
		t.Flows = (t.Flows + workers - 1) / workers
		t.Feeds, t.Worker = f.feeds, i
		table, err := flow.New(t)
		if err != nil {
			return nil, errors.Join(err, f.free())
		}
		f.tables = append(f.tables, table)
		if !inline {
			rings = append(rings, table.Ring())
		}
	}
	var targets []export.Target
	if c.Flows.Sinks != nil {
		if targets, err = c.Flows.Sinks(f.labels); err != nil {
			return nil, errors.Join(err, f.free())
		}
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if f.exporter, err = export.New(c.Flows.Export, log, rings, targets); err != nil {
		for _, t := range targets {
			err = errors.Join(err, t.Sink.Close())
		}
		return nil, errors.Join(err, f.free())
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() {
		defer close(f.done)
		f.failed = f.exporter.Run(ctx)
	}()
	return f, nil
}

// table is that of worker i; nil when no flows are rebuilt.
func (f *flows) table(i int) *flow.Table {
	if f == nil {
		return nil
	}
	return f.tables[i]
}

// meet learns of a feed: its name, and which domain it is in. Workers call it
// once in a feed's life, before its first frame is in a flow.
func (f *flows) meet(id uint32, of feeds) {
	if f == nil {
		return
	}
	key, err := of.FeedKey(id)
	if id == 0 {
		f.feeds.SetDomain(id, f.config.domain(netip.Addr{})) // beyond the feed table: nobody knows whose
	}
	if err != nil {
		return // or it has lost its place since
	}
	f.feeds.SetDomain(id, f.config.domain(feed.Exporter(&key)))
	f.learn(id, feed.Name(&key))
}

// known is a feed that has a slot, until another has it.
type known struct {
	id   uint32
	name string
}

func (k *known) is(id uint32) bool { return k.id == id && k.name != "" }

// learn notes the name of a feed in place of that which had its slot before.
func (f *flows) learn(id uint32, name string) {
	slot := int(id & 0xffff)
	if slot >= len(f.met) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.met[slot]; before.name != "" && f.ids[before.name] == before.id {
		delete(f.ids, before.name)
	}
	f.met[slot], f.ids[name] = known{id, name}, id
}

func (f *flows) feedName(id uint32) string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if slot := int(id & 0xffff); slot < len(f.met) && f.met[slot].is(id) {
		return f.met[slot].name
	}
	return ""
}

// drain ends a worker's flows; the worker calls it last. It waits for the sinks
// as long as they take records.
func (f *flows) drain(t *flow.Table) {
	if f == nil {
		return
	}
	const step = 1024 // records within the time of grace
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	grace := time.AfterFunc(f.config.Export.Grace, cancel)
	defer grace.Stop()
	n := 0
	t.Drain(func(record *flow.Flow) {
		f.exporter.Put(ctx, record)
		if n++; n%step == 0 {
			grace.Reset(f.config.Export.Grace)
		}
	})
}

// hand takes the records that wait in the one worker's ring to the sinks, at
// their pace.
func (f *flows) hand(ctx context.Context, batch []flow.Flow) {
	if f == nil {
		return
	}
	for {
		n := f.tables[0].Ring().Read(batch)
		if n == 0 {
			return
		}
		for i := range batch[:n] {
			f.exporter.Put(ctx, &batch[i])
		}
	}
}

// wait ends the export when all tables are drained, and returns when the sinks
// are closed.
func (f *flows) wait() error {
	if f == nil {
		return nil
	}
	f.end.Do(func() {
		f.stop()
		<-f.done
	})
	return f.failed
}

// close ends what wait has not and frees the tables. No worker runs any more.
func (f *flows) close() error {
	if f == nil {
		return nil
	}
	ended := false
	f.end.Do(func() {
		ended = true
		f.stop()
		<-f.done
	})
	err := f.free()
	if ended {
		err = errors.Join(err, f.failed)
	}
	return err
}

func (f *flows) free() error {
	var errs []error
	for _, t := range f.tables {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// ledger reads what became of records before what was made of them, so that
// those on their way show as missing.
func (f *flows) ledger() *ledger.Flows {
	if f == nil {
		return nil
	}
	l := &ledger.Flows{Exports: f.exporter.Stats()}
	for _, t := range f.tables {
		counters := t.Counters()
		for i, n := range counters {
			l.Counters[i] += n
		}
	}
	return l
}

// errNoFlows is said to whoever looks for flows where there are none.
var errNoFlows = errors.New("this collector does not rebuild flows: start it with --flows")

// lookTime is how long the workers have to answer. One that is busy looks at
// some entries a batch, an idle one at all of them within some rounds.
const lookTime = 3 * time.Second

// Flows answers a view's question about the flows as they are. Any goroutine may
// call it.
func (l *Live) Flows(ctx context.Context, q flow.Query) (flow.Answer, error) {
	f, err := l.flows()
	if err != nil {
		return flow.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return flow.Ask(ctx, q, f.tables...)
}

// Labels names what the rows of Flows have as numbers; nil when no flows are
// rebuilt.
func (l *Live) Labels() *export.Labels {
	f, err := l.flows()
	if err != nil {
		return nil
	}
	return f.labels
}

// FeedID is the id that flow.Match wants for a feed's name; 0 when no flow has
// come by such a feed.
func (l *Live) FeedID(name string) uint32 {
	f, err := l.flows()
	if err != nil {
		return 0
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.ids[name]
}

func (l *Live) flows() (*flows, error) {
	if l.config.Flows == nil {
		return nil, errNoFlows
	}
	if err := l.Ready(); err != nil {
		return nil, err
	}
	return l.run.Load().flows, nil
}
