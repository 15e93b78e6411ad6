package collector_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/mirror"
)

// kept is a sink that keeps what it is given.
type kept struct {
	mu     sync.Mutex
	flows  []flow.Flow
	closed bool
}

func (k *kept) Write(_ context.Context, records []flow.Flow) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flows = append(k.flows, records...)
	return len(records), nil
}

func (k *kept) Close() error {
	k.closed = true
	return nil
}

// away is a sink that is never reached.
type away struct{ closed bool }

func (*away) Write(_ context.Context, records []flow.Flow) (int, error) {
	return 0, errors.New("no route to host")
}

func (a *away) Close() error {
	a.closed = true
	return nil
}

// rebuilding gives a configuration flows that no timeout cuts, to these sinks.
func rebuilding(config *collector.Config, targets ...export.Target) *collector.Flows {
	f := collector.DefaultFlows()
	f.Table.Idle, f.Table.Active, f.Table.Closed = time.Hour, time.Hour, time.Hour
	f.Sinks = func(*export.Labels) ([]export.Target, error) { return targets, nil }
	config.Flows = &f
	return &f
}

// packetsOf adds up what flows have.
func packetsOf(flows []flow.Flow) (packets uint64) {
	for i := range flows {
		packets += flows[i].Packets[0] + flows[i].Packets[1]
	}
	return packets
}

// Every frame of a live run is in a flow, all flows reach the sink with a reason
// why they ended, and one that is away costs nothing but its own records.
func TestLiveFlows(t *testing.T) {
	frames := conversations()
	config := collector.Default()
	config.Workers = 2
	sink, gone := &kept{}, &away{}
	f := rebuilding(&config, export.Target{Name: "kept", Sink: sink}, export.Target{Name: "away", Sink: gone})
	f.Export.Grace = 10 * time.Millisecond
	s := collect(t, lab.Config{MTU: 9100}, config)
	s.mirrorOnce([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: frames}})

	const name = "192.0.2.1/erspan2/1"
	s.await("the flows to be seen", func() bool {
		a, err := s.live.Flows(t.Context(), flow.Query{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var packets uint64
		for _, r := range a.Rows {
			packets += r.Packets[0] + r.Packets[1]
			if got := s.live.Labels().FeedName(r.Feed[0]); got != name {
				t.Fatalf("a flow of feed %q", got)
			}
		}
		return packets == uint64(len(frames))
	})
	match := flow.Match{Feed: s.live.FeedID(name)}
	if a, err := s.live.Flows(t.Context(), flow.Query{Limit: 1, Match: match}); err != nil || match.Feed == 0 || len(a.Rows) != 1 {
		t.Errorf("flows of feed %d: %+v, %v", match.Feed, a, err)
	}
	final := s.end()
	if _, err := s.live.Flows(t.Context(), flow.Query{}); err == nil || err.Error() != "ending" {
		t.Errorf("asking when it is over: %v", err)
	}
	if !sink.closed || !gone.closed {
		t.Error("a sink was not closed")
	}
	if n := packetsOf(sink.flows); n != uint64(len(frames)) {
		t.Errorf("%d packets in %d flow records, want %d", n, len(sink.flows), len(frames))
	}
	for i := range sink.flows {
		if e := sink.flows[i].End; e != flow.EndForced && e != flow.EndClosed {
			t.Errorf("a flow ended %v", e)
		}
	}
	n := uint64(len(sink.flows))
	want := []export.Stats{{Name: "kept", Written: n}, {Name: "away", Dropped: n}}
	got := slices.Clone(final.Flows.Exports)
	if got[1].Errors == 0 {
		t.Error("failed attempts are not counted")
	}
	got[1].Errors = 0
	if !slices.Equal(got, want) {
		t.Errorf("exports %+v, want %+v", got, want)
	}
	if c := final.Flows.Counters; c.Frames() != uint64(len(frames)) || c[flow.Tracked] != c.Frames() || c.Live() != 0 || c[flow.Created] == 0 {
		t.Errorf("counters %v", c)
	}
}

// The same conversations by two feeds are flows of each, or of their domain.
func TestDomains(t *testing.T) {
	frames := conversations()
	run := func(t *testing.T, domains ...collector.Domain) ([]flow.Flow, ledger.Snapshot) {
		config := collector.Default()
		sink := &kept{}
		f := rebuilding(&config, export.Target{Name: "kept", Sink: sink})
		f.Domains = domains
		s := collect(t, lab.Config{MTU: 9100}, config)
		one, two := mirror.DefaultSession(bpf.EncapERSPAN2), mirror.DefaultSession(bpf.EncapERSPAN2)
		two.ID = 2
		s.mirrorOnce([]mirror.Feed{{Session: one, Frames: frames}})
		s.mirrorOnce([]mirror.Feed{{Session: two, Frames: frames}})
		final := s.end()
		return sink.flows, final
	}
	needRoot(t)
	here, elsewhere := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	apart, _ := run(t)
	for _, c := range []struct {
		name    string
		domains []collector.Domain
		domain  uint32 // of all flows
	}{
		{"all feeds", []collector.Domain{{ID: 7}}, 7},
		{"by exporter", []collector.Domain{{ID: 8, Exporters: elsewhere}, {ID: 9, Exporters: here}}, 9},
		{"none of these", []collector.Domain{{ID: 8, Exporters: elsewhere}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := run(t, c.domains...)
			want := len(apart)
			if c.domain != 0 {
				want /= 2
			}
			if len(got) != want || packetsOf(got) != uint64(2*len(frames)) {
				t.Errorf("%d flows of %d packets, want %d of %d", len(got), packetsOf(got), want, 2*len(frames))
			}
			for i := range got {
				if got[i].Domain != c.domain {
					t.Fatalf("a flow of domain %d, want %d", got[i].Domain, c.domain)
				}
			}
		})
	}
}

// A file's flows all reach the sink though the table is small: reading waits.
func TestOfflineFlows(t *testing.T) {
	config := collector.Default()
	config.Settings.AnyDestination = 1
	sink := &kept{}
	f := rebuilding(&config, export.Target{Name: "kept", Sink: sink})
	f.Table.Flows, f.Table.Records, f.Export.Queue, f.Export.Batch = 4, 512, 8, 4
	o, err := collector.NewOffline(config, []string{"../traffic/testdata/feed.pcap"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := o.Snapshot()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	c := s.Flows.Counters
	if c[flow.EndedEvicted] == 0 || c[flow.RecordsLost] != 0 || packetsOf(sink.flows) != c[flow.Tracked] || c[flow.Tracked] == 0 || !sink.closed {
		t.Errorf("%d packets in %d flow records: %v", packetsOf(sink.flows), len(sink.flows), c)
	}
}

// What cannot be set up is said before anything is collected.
func TestFlowsRefuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*collector.Flows)
		want   string
	}{
		{"domain", func(f *collector.Flows) { f.Domains = []collector.Domain{{}} }, "flow domain 0: must be 1 to 2147483647"},
		{"table", func(f *collector.Flows) { f.Table.Idle = 0 }, "flow idle timeout: 0s is not above 0"},
		{"export", func(f *collector.Flows) { f.Export.Queue = 0 }, "export queue: 0 is not above 0"},
		{"sinks", func(f *collector.Flows) {
			f.Sinks = func(*export.Labels) ([]export.Target, error) { return nil, errors.New("no such directory") }
		}, "no such directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := collector.Default()
			sink := &kept{}
			c.change(rebuilding(&config, export.Target{Name: "kept", Sink: sink}))
			o, err := collector.NewOffline(config, []string{"../traffic/testdata/feed.pcap"})
			if err == nil {
				err = o.Run(t.Context())
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
			if c.name == "export" && !sink.closed {
				t.Error("the sink was not closed")
			}
		})
	}
}

// What the kernel samples is scaled in the flows, and marked.
func TestSampledFlows(t *testing.T) {
	config := collector.Default()
	config.Policy = mustRead(t, "rules: [{action: keep, sample: {one_in: 4, by: packet}}]")
	sink := &kept{}
	rebuilding(&config, export.Target{Name: "kept", Sink: sink})
	s := collect(t, lab.Config{MTU: 9100}, config)
	s.mirrorOnce([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: conversations()}})
	final := s.end()
	kept := final.Flows.Counters[flow.Tracked]
	if n := packetsOf(sink.flows); kept == 0 || kept != final.XDP[bpf.RedirectInner].Packets || n != 4*kept {
		t.Errorf("%d packets in flows, of %d that were kept", n, kept)
	}
	for i := range sink.flows {
		if w := sink.flows[i].Weight; w != 4 {
			t.Errorf("a flow has the factor %d", w)
		}
	}
}
