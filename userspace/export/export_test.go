package export_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// memory is a sink that keeps what it is given, and fails when told.
type memory struct {
	mu     sync.Mutex
	ids    []uint64
	idle   int
	closed bool
	fail   func(call int) (took int, err error) // nil: never
	calls  int
	stall  bool // blocks until the context ends
}

func (m *memory) Write(ctx context.Context, records []flow.Flow) (int, error) {
	if m.stall {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(records) == 0 {
		m.idle++
	}
	n, err := len(records), error(nil)
	if m.fail != nil {
		if n, err = m.fail(m.calls); err == nil {
			n = len(records)
		}
		n = min(n, len(records))
	}
	m.calls++
	for _, f := range records[:n] {
		m.ids = append(m.ids, f.ID)
	}
	return n, err
}

func (m *memory) Close() error {
	m.closed = true
	return nil
}

// quick is a config that does not make tests wait.
func quick() export.Config {
	c := export.Default()
	c.Queue, c.Batch = 1000, 16
	c.Poll, c.Retry, c.RetryMax, c.Grace = time.Millisecond, time.Millisecond, 4*time.Millisecond, 30*time.Second
	return c
}

// endings are what the table of a worker gave to its ring: n flows that were
// evicted one after the other.
func endings(t *testing.T, n int) *flow.Ring {
	t.Helper()
	c := flow.Default()
	c.Flows, c.Records = 1, n
	table, err := flow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	frame := make([]byte, 60)
	copy(frame[12:], []byte{8, 0, 0x45, 0, 0, 46})
	for i := range n + 1 {
		frame[26], frame[27], frame[28] = 10, byte(i>>8), byte(i)
		table.Observe(&bpf.Record{Feed: 1}, frame, 60, uint64(i))
	}
	table.Tick(uint64(n) + 1)
	if got := table.Counters(); got[flow.Emitted] != uint64(n) {
		t.Fatalf("emitted %d, want %d", got[flow.Emitted], n)
	}
	return table.Ring()
}

// run runs an exporter until done says so, and returns its statistics by name.
func run(t *testing.T, c export.Config, log *slog.Logger, rings []*flow.Ring, targets []export.Target, done func(map[string]export.Stats) bool) map[string]export.Stats {
	t.Helper()
	e, err := export.New(c, log, rings, targets)
	if err != nil {
		t.Fatal(err)
	}
	read := func() map[string]export.Stats {
		all := map[string]export.Stats{}
		for _, s := range e.Stats() {
			all[s.Name] = s
		}
		return all
	}
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- e.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); !done(read()); {
		if time.Now().After(deadline) {
			t.Errorf("not done: %+v", read())
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
	return read()
}

func inOrder(t *testing.T, name string, ids []uint64, n int) {
	t.Helper()
	if len(ids) != n {
		t.Fatalf("%s: %d records, want %d", name, len(ids), n)
	}
	for i, id := range ids {
		if id != uint64(i+1) {
			t.Fatalf("%s: record %d is of flow %d", name, i, id)
		}
	}
}

// TestSinks: a good sink gets everything while others fail now and then, take
// half, or never answer.
func TestSinks(t *testing.T) {
	good, moody, halves, dead := &memory{}, &memory{}, &memory{}, &memory{stall: true}
	moody.fail = func(call int) (int, error) {
		if call%3 != 0 {
			return 0, errors.New("not now")
		}
		return 0, nil
	}
	halves.fail = func(call int) (int, error) {
		if call%2 == 0 {
			return 5, errors.New("that was all")
		}
		return 0, nil
	}
	c := quick()
	c.Queue, c.Grace = 200, 10*time.Millisecond
	stats := run(t, c, slog.New(slog.DiscardHandler), []*flow.Ring{endings(t, 150)}, []export.Target{
		{Name: "good", Sink: good}, {Name: "moody", Sink: moody}, {Name: "halves", Sink: halves}, {Name: "dead", Sink: dead},
	}, func(s map[string]export.Stats) bool {
		return s["good"].Written == 150 && s["moody"].Written == 150 && s["halves"].Written == 150
	})
	inOrder(t, "good", good.ids, 150)
	inOrder(t, "moody", moody.ids, 150)
	inOrder(t, "halves", halves.ids, 150)
	want := export.Stats{Name: "good", Written: 150}
	if stats["good"] != want {
		t.Errorf("%+v, want %+v", stats["good"], want)
	}
	if stats["moody"].Errors == 0 || stats["halves"].Errors == 0 {
		t.Errorf("failures not counted: %+v", stats)
	}
	if want := (export.Stats{Name: "dead", Dropped: 150}); stats["dead"] != want {
		t.Errorf("%+v, want %+v", stats["dead"], want)
	}
	for name, m := range map[string]*memory{"good": good, "moody": moody, "halves": halves, "dead": dead} {
		if !m.closed {
			t.Errorf("%s was not closed", name)
		}
	}
}

// TestQueueFull drops and counts what a sink cannot take in time, and no more.
func TestQueueFull(t *testing.T) {
	m := &memory{}
	open := make(chan struct{})
	m.fail = func(int) (int, error) {
		select {
		case <-open:
			return 0, nil
		default:
			return 0, errors.New("closed")
		}
	}
	c := quick()
	c.Queue = 100
	opened := false
	stats := run(t, c, slog.New(slog.DiscardHandler), []*flow.Ring{endings(t, 300)}, []export.Target{{Name: "m", Sink: m}},
		func(s map[string]export.Stats) bool {
			if !opened && s["m"].Dropped == 200 {
				opened = true
				close(open)
			}
			return s["m"].Written == 100
		})
	if s := stats["m"]; s.Written != 100 || s.Dropped != 200 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	inOrder(t, "what was in time", m.ids, 100)
}

// TestPut hands over the flows of a drained table: more than the queue holds,
// none is dropped while the sink takes them.
func TestPut(t *testing.T) {
	m := &memory{}
	c := quick()
	c.Queue = 16
	e, err := export.New(c, slog.New(slog.DiscardHandler), nil, []export.Target{{Name: "m", Sink: m}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- e.Run(ctx) }()
	for id := range uint64(500) {
		e.Put(ctx, &flow.Flow{ID: id + 1})
	}
	stop()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	inOrder(t, "put", m.ids, 500)

	// Nobody takes any more: what has no room is dropped, not waited for.
	for id := range uint64(20) {
		e.Put(ctx, &flow.Flow{ID: id})
	}
	if s := e.Stats()[0]; s.Written != 500 || s.Waiting != 16 || s.Dropped != 4 {
		t.Errorf("%+v", s)
	}
}

// TestPutBesideFailing: what a failing sink has no room for is dropped, and the
// other one gets all.
func TestPutBesideFailing(t *testing.T) {
	good, bad := &memory{}, &memory{fail: func(int) (int, error) { return 0, errors.New("away") }}
	c := quick()
	c.Queue, c.Grace = 16, time.Millisecond
	e, err := export.New(c, slog.New(slog.DiscardHandler), nil, []export.Target{{Name: "bad", Sink: bad}, {Name: "good", Sink: good}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- e.Run(ctx) }()
	for id := range uint64(500) {
		e.Put(context.Background(), &flow.Flow{ID: id + 1})
	}
	for s := e.Stats()[1]; s.Written < 500; s = e.Stats()[1] {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	inOrder(t, "good", good.ids, 500)
	if s := e.Stats()[0]; s.Written != 0 || s.Dropped != 500 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// TestIdleSinkIsCalled: templates and files are due though no flow ends.
func TestIdleSinkIsCalled(t *testing.T) {
	m := &memory{}
	run(t, quick(), slog.New(slog.DiscardHandler), nil, []export.Target{{Name: "m", Sink: m}}, func(map[string]export.Stats) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.idle > 0
	})
}

// TestLog tells of a failure once, and of its end.
func TestLog(t *testing.T) {
	m := &memory{fail: func(call int) (int, error) {
		if call < 5 {
			return 0, errors.New("no route")
		}
		return 0, nil
	}}
	var out strings.Builder
	run(t, quick(), slog.New(slog.NewTextHandler(&out, nil)), []*flow.Ring{endings(t, 10)}, []export.Target{{Name: "m", Sink: m}},
		func(s map[string]export.Stats) bool { return s["m"].Written == 10 })
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="exporting flows" sink=m error="no route" waiting=10 dropped=0`) ||
		!strings.Contains(lines[1], `level=INFO msg="exporting flows again" sink=m dropped=0`) {
		t.Errorf("log:\n%s", out.String())
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*export.Config)
		want   string
	}{
		{func(c *export.Config) { c.Queue = 0 }, "export queue: 0 is not above 0"},
		{func(c *export.Config) { c.Batch = 0 }, "export batch: 0 is not between 1 and the queue's 65536"},
		{func(c *export.Config) { c.Poll = 0 }, "export poll: 0s is not above 0"},
		{func(c *export.Config) { c.RetryMax = 1 }, "export retry: 100ms to 1ns is no range above 0"},
		{func(c *export.Config) { c.Grace = -1 }, "export grace: -1ns is below 0"},
	} {
		c := export.Default()
		test.change(&c)
		if _, err := export.New(c, slog.New(slog.DiscardHandler), nil, nil); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
