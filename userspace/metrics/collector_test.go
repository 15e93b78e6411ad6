package metrics_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/metrics"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/xsk"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md from what the code does now")

func feed(i int, sequenced bool) ledger.Feed {
	f := ledger.Feed{
		Key: bpf.FeedKey{
			Exporter:  netip.MustParseAddr("::ffff:192.0.2.7").As16(),
			Collector: netip.MustParseAddr("::ffff:192.0.2.1").As16(),
			Session:   uint16(i), Encap: uint8(bpf.EncapERSPAN2),
		},
		State: bpf.FeedState{First: uint64(i), Packets: 10, Bytes: 1000, Kept: 9},
	}
	if sequenced {
		f.State.Sequence = bpf.Sequence{
			Received: 10, Lost: 4, Reordered: 3, Duplicates: 2, Strays: 1, Restarts: 1,
			Flags: bpf.SequenceSeen,
		}
	}
	return f
}

// busy is a live snapshot that adds up and in which every metric is not zero.
func busy() ledger.Snapshot {
	s := ledger.Snapshot{
		Live:  true,
		Final: true,
		Feeds: []ledger.Feed{feed(1, true), {
			Key: bpf.FeedKey{
				Exporter:  netip.MustParseAddr("2001:db8::9").As16(),
				Collector: netip.MustParseAddr("2001:db8::1").As16(),
				Key:       42, Keyed: 1, Encap: uint8(bpf.EncapGRE),
			},
			State: bpf.FeedState{First: 5, Packets: 20, Bytes: 2000, Kept: 20},
		}},
		Queues: []ledger.Queue{{Index: 3, Stats: xsk.Stats{
			Received: 30, RingFull: 4, FillRingEmpty: 2, TooLong: 1, Overlong: 1, Circulating: 512,
			Sockets: []xsk.SocketStats{{Received: 20, RingFull: 3}, {Received: 10, RingFull: 1}},
		}}},
		Workers: []ledger.Worker{{
			Inner: 21, Malformed: 1,
			Reassembly: reassembly.Stats{
				Held: 2, Reassembled: 5, Datagrams: 2,
				GivenUp: [reassembly.ReasonCount]uint64{reassembly.Timeout: 1},
			},
		}},
		Rules:    []ledger.Rule{{Name: "web", Packets: 9, Bytes: 900, Kept: 3}, {Name: "default", Packets: 30, Bytes: 3000, Kept: 28}},
		Overlaps: []ledger.Overlap{{First: "a", Second: "b", Packets: 5}},
		Output:   ledger.Output{Written: 12, WrittenBytes: 1200, Backlog: 4, Refused: 3, Surplus: 2, Unasked: 1},
	}
	s.Flows = &ledger.Flows{
		Counters: flow.Counters{
			flow.Tracked: 13, flow.ShortEthernet: 1, flow.ShortShim: 1, flow.DeepShims: 1, flow.ShortIP: 1, flow.BadIP: 1, flow.NotIP: 1, flow.OuterFragment: 1,
			flow.Created: 20, flow.EndedIdle: 1, flow.EndedClosed: 2, flow.EndedReused: 1, flow.EndedEvicted: 1, flow.EndedForced: 1,
			flow.Emitted: 9, flow.RecordsLost: 1,
		},
		Exports: []export.Stats{{Name: "ipfix 192.0.2.9:4739", Written: 3, Dropped: 2, Waiting: 3, Errors: 4}},
	}
	s.XDP[bpf.PassNotIP] = bpf.Tally{Packets: 6, Bytes: 360}
	s.XDP[bpf.RedirectFragment] = bpf.Tally{Packets: 8, Bytes: 12_000}
	s.XDP[bpf.RedirectInner] = bpf.Tally{Packets: 30, Bytes: 2_900}
	s.Workers[0].Verdicts[bpf.RedirectInner] = bpf.Tally{Packets: 1, Bytes: 3_000}
	s.Workers[0].Verdicts[bpf.DropPolicy] = bpf.Tally{Packets: 1, Bytes: 2_000}
	return s
}

// gather returns every series that is not zero, as name{label="value",...}.
func gather(t *testing.T, s ledger.Snapshot) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for _, f := range families(t, s) {
		for _, m := range f.GetMetric() {
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if value == 0 {
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			got[name] = value
		}
	}
	return got
}

func families(t *testing.T, s ledger.Snapshot) []*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func collector(s ledger.Snapshot) *metrics.Collector {
	return metrics.NewCollector(metrics.Build{Version: "1.2.3"},
		func() (ledger.Snapshot, error) { return s, nil })
}

func TestEverySeries(t *testing.T) {
	const (
		one = `{collector="192.0.2.1",encapsulation="erspan2",exporter="192.0.2.7",feed="192.0.2.7/erspan2/1",key="",session="1"}`
		two = `{collector="2001:db8::1",encapsulation="gre",exporter="2001:db8::9",feed="2001:db8::9/gre/0x2a",key="0x2a",session="0"}`
	)
	want := map[string]float64{
		`unspan_rule_packets_total{number="1",rule="web"}`:          9,
		`unspan_rule_bytes_total{number="1",rule="web"}`:            900,
		`unspan_rule_kept_packets_total{number="1",rule="web"}`:     3,
		`unspan_rule_packets_total{number="2",rule="default"}`:      30,
		`unspan_rule_bytes_total{number="2",rule="default"}`:        3000,
		`unspan_rule_kept_packets_total{number="2",rule="default"}`: 28,
		`unspan_overlap_packets_total{first="a",second="b"}`:        5,

		`unspan_wire_expected_packets_total`:             12,
		`unspan_wire_packets_total{outcome="in_order"}`:  4,
		`unspan_wire_packets_total{outcome="reordered"}`: 3,
		`unspan_wire_packets_total{outcome="strays"}`:    1,
		`unspan_wire_lost_packets`:                       4,
		`unspan_wire_duplicate_packets_total`:            2,
		`unspan_wire_restarts_total`:                     1,
		`unspan_wire_feeds{sequenced="true"}`:            1,
		`unspan_wire_feeds{sequenced="false"}`:           1,

		`unspan_xdp_packets_total{kind="not_ours",verdict="pass_not_ip"}`:     6,
		`unspan_xdp_packets_total{kind="onward",verdict="redirect_fragment"}`: 8,
		`unspan_xdp_packets_total{kind="onward",verdict="redirect_inner"}`:    30,
		`unspan_xdp_bytes_total{kind="not_ours",verdict="pass_not_ip"}`:       360,
		`unspan_xdp_bytes_total{kind="onward",verdict="redirect_fragment"}`:   12_000,
		`unspan_xdp_bytes_total{kind="onward",verdict="redirect_inner"}`:      2_900,

		`unspan_afxdp_packets_total{kind="onward",outcome="received"}`:        30,
		`unspan_afxdp_packets_total{kind="kernel",outcome="ring_full"}`:       4,
		`unspan_afxdp_packets_total{kind="kernel",outcome="fill_ring_empty"}`: 2,
		`unspan_afxdp_packets_total{kind="kernel",outcome="too_long"}`:        1,
		`unspan_afxdp_packets_total{kind="kernel",outcome="overlong"}`:        1,
		`unspan_queue_received_packets_total{queue="3",socket="0"}`:           20,
		`unspan_queue_received_packets_total{queue="3",socket="1"}`:           10,
		`unspan_queue_ring_full_packets_total{queue="3",socket="0"}`:          3,
		`unspan_queue_ring_full_packets_total{queue="3",socket="1"}`:          1,
		`unspan_queue_fill_ring_empty_packets_total{queue="3"}`:               2,
		`unspan_queue_circulating_buffers{queue="3"}`:                         512,

		`unspan_worker_packets_total{kind="onward",outcome="inner"}`:                 21,
		`unspan_worker_packets_total{kind="onward",outcome="fragments_reassembled"}`: 5,
		`unspan_worker_packets_total{kind="upstream",outcome="fragments_timeout"}`:   1,
		`unspan_worker_packets_total{kind="kernel",outcome="malformed"}`:             1,
		`unspan_worker_held_fragments`:                                               2,

		`unspan_reassembly_datagrams_total{kind="onward",verdict="redirect_inner"}`: 1,
		`unspan_reassembly_datagrams_total{kind="intended",verdict="drop_policy"}`:  1,
		`unspan_reassembly_bytes_total{kind="onward",verdict="redirect_inner"}`:     3_000,
		`unspan_reassembly_bytes_total{kind="intended",verdict="drop_policy"}`:      2_000,

		`unspan_output_packets_total{kind="onward",outcome="written"}`:   12,
		`unspan_output_packets_total{kind="disk",outcome="backlog"}`:     4,
		`unspan_output_packets_total{kind="disk",outcome="refused"}`:     3,
		`unspan_output_packets_total{kind="intended",outcome="surplus"}`: 2,
		`unspan_output_packets_total{kind="onward",outcome="unasked"}`:   1,
		`unspan_output_bytes_total`:                                      1200,

		`unspan_flow_frames_total{outcome="tracked"}`:                                  13,
		`unspan_flow_frames_total{outcome="short_ethernet"}`:                           1,
		`unspan_flow_frames_total{outcome="short_shim"}`:                               1,
		`unspan_flow_frames_total{outcome="deep_shims"}`:                               1,
		`unspan_flow_frames_total{outcome="short_ip"}`:                                 1,
		`unspan_flow_frames_total{outcome="bad_ip"}`:                                   1,
		`unspan_flow_frames_total{outcome="not_ip"}`:                                   1,
		`unspan_flow_frames_total{outcome="outer_fragment"}`:                           1,
		`unspan_flow_live_flows`:                                                       14,
		`unspan_flow_begun_flows_total`:                                                20,
		`unspan_flow_ended_flows_total{reason="idle"}`:                                 1,
		`unspan_flow_ended_flows_total{reason="closed"}`:                               2,
		`unspan_flow_ended_flows_total{reason="reused"}`:                               1,
		`unspan_flow_ended_flows_total{reason="evicted"}`:                              1,
		`unspan_flow_ended_flows_total{reason="forced"}`:                               1,
		`unspan_flow_records_total`:                                                    9,
		`unspan_export_records_total{outcome="written",sink="ipfix 192.0.2.9:4739"}`:   3,
		`unspan_export_records_total{outcome="dropped",sink="ipfix 192.0.2.9:4739"}`:   2,
		`unspan_export_records_total{outcome="ring_full",sink="ipfix 192.0.2.9:4739"}`: 1,
		`unspan_export_waiting_records{sink="ipfix 192.0.2.9:4739"}`:                   3,
		`unspan_export_errors_total{sink="ipfix 192.0.2.9:4739"}`:                      4,

		`unspan_feed_packets_total` + one:           10,
		`unspan_feed_bytes_total` + one:             1000,
		`unspan_feed_kept_packets_total` + one:      9,
		`unspan_feed_expected_packets_total` + one:  12,
		`unspan_feed_skipped_packets_total` + one:   7,
		`unspan_feed_lost_packets` + one:            4,
		`unspan_feed_reordered_packets_total` + one: 3,
		`unspan_feed_duplicate_packets_total` + one: 2,
		`unspan_feed_stray_packets_total` + one:     1,
		`unspan_feed_restarts_total` + one:          1,
		`unspan_feed_packets_total` + two:           20,
		`unspan_feed_bytes_total` + two:             2000,
		`unspan_feed_kept_packets_total` + two:      20,
	}
	got := gather(t, busy())
	for name := range maps.Clone(got) {
		if strings.HasPrefix(name, "unspan_build_info{") {
			if !strings.Contains(name, `,version="1.2.3"`) {
				t.Errorf("build info is %s", name)
			}
			delete(got, name)
		}
	}
	compare(t, got, want)
}

// compare asserts two whole maps, both ways.
func compare(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	for name, value := range got {
		if _, is := want[name]; !is {
			t.Errorf("%s is %v, want no such series", name, value)
		}
	}
}

func TestPacketsOnTheirWayAreTheBalance(t *testing.T) {
	s := busy()
	s.Final = false
	s.XDP[bpf.RedirectInner].Packets += 16
	got := map[string]float64{}
	for name, value := range gather(t, s) {
		if strings.HasPrefix(name, "unspan_ledger_") {
			got[name] = value
		}
	}
	compare(t, got, map[string]float64{`unspan_ledger_balance_packets{line="afxdp"}`: 16})
}

func TestAFeedFloodIsBounded(t *testing.T) {
	var s ledger.Snapshot
	const flood = 5000
	for i := flood; i > 0; i-- { // a map yields feeds in any order
		s.Feeds = append(s.Feeds, feed(i, i%2 == 0))
	}
	series, sessions := 0, map[string]bool{}
	other := map[string]float64{}
	for name, value := range gather(t, s) {
		if !strings.HasPrefix(name, "unspan_feed_") {
			continue
		}
		series++
		if name, is := strings.CutSuffix(name, `{collector="",encapsulation="",exporter="",feed="other",key="",session=""}`); is {
			other[name] = value
		} else if strings.HasPrefix(name, "unspan_feed_packets_total") {
			sessions[name[strings.Index(name, `session=`):]] = true
		}
	}
	const rest = flood - metrics.MaxFeeds
	compare(t, other, map[string]float64{
		`unspan_feed_packets_total`:           10 * rest,
		`unspan_feed_bytes_total`:             1000 * rest,
		`unspan_feed_kept_packets_total`:      9 * rest,
		`unspan_feed_expected_packets_total`:  12 * rest / 2,
		`unspan_feed_skipped_packets_total`:   7 * rest / 2,
		`unspan_feed_lost_packets`:            4 * rest / 2,
		`unspan_feed_reordered_packets_total`: 3 * rest / 2,
		`unspan_feed_duplicate_packets_total`: 2 * rest / 2,
		`unspan_feed_stray_packets_total`:     1 * rest / 2,
		`unspan_feed_restarts_total`:          1 * rest / 2,
	})
	if len(sessions) != metrics.MaxFeeds || !sessions[`session="1"}`] || !sessions[fmt.Sprintf(`session="%d"}`, metrics.MaxFeeds)] {
		t.Errorf("%d feeds have series of their own, want the %d that came first", len(sessions), metrics.MaxFeeds)
	}
	if want := metrics.MaxFeeds*(3+10)/2 + 10; series != want {
		t.Errorf("a flood makes %d series, want %d", series, want)
	}
}

func TestScrapeFailsWithTheLedger(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(metrics.Build{}, func() (ledger.Snapshot, error) {
		return ledger.Snapshot{}, errors.New("iterating feeds: bad file descriptor")
	}))
	_, err := registry.Gather()
	if err == nil || !strings.Contains(err.Error(), "reading the ledger: iterating feeds: bad file descriptor") {
		t.Errorf("gathering says %v", err)
	}
}

func TestNamesFollowPrometheus(t *testing.T) {
	problems, err := promlint.NewWithMetricFamilies(families(t, busy())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The table in the documentation is what the code exports, in full.
func TestDocumentation(t *testing.T) {
	const begin, end = "<!-- metrics: go test ./userspace/metrics -update -->\n", "<!-- end -->\n"
	var table bytes.Buffer
	table.WriteString("\n| metric | type | labels | |\n|---|---|---|---|\n")
	gathered := families(t, busy())
	descs := make(chan *prometheus.Desc, 1000)
	collector(busy()).Describe(descs)
	if len(gathered) != len(descs) {
		t.Errorf("%d metrics have a description, but %d a value: the table would be incomplete", len(descs), len(gathered))
	}
	for _, f := range gathered {
		labels := []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, " "), f.GetHelp())
	}
	table.WriteString("\n")

	path := filepath.Join("..", "..", "docs", "metrics.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, is := strings.Cut(string(text), begin)
	old, after, closed := strings.Cut(rest, end)
	if !is || !closed {
		t.Fatalf("%s lacks the marks around the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		old = table.String()
	}
	if old != table.String() {
		t.Errorf("%s is not what the code exports (rewrite with go test -update): want%s", path, table.String())
	}
}
