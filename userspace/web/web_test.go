package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/web"
	"github.com/unspan/unspan/userspace/xsk"
)

// hostile is a host's name as a stranger would choose it.
const hostile = `<img src=x onerror=alert(1)>`

// snapshot is a ledger with losses of several kinds, in which every line adds up.
func snapshot() (ledger.Snapshot, error) {
	s := ledger.Snapshot{
		Subject: "eth1, native", Start: time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC), Elapsed: time.Minute, Live: true, Final: true,
		Feeds: []ledger.Feed{
			{
				Key: bpf.FeedKey{
					Exporter:  netip.MustParseAddr("::ffff:192.0.2.7").As16(),
					Collector: netip.MustParseAddr("::ffff:192.0.2.1").As16(),
					Session:   1000, Encap: uint8(bpf.EncapERSPAN2),
				},
				State: bpf.FeedState{Packets: 1_000_000, Bytes: 812_001_624, Kept: 1_000_000,
					Sequence: bpf.Sequence{Received: 1_000_000, Lost: 12_345, Flags: bpf.SequenceSeen}},
			},
			{Key: bpf.FeedKey{Exporter: netip.MustParseAddr("2001:db8::9").As16(), Collector: netip.MustParseAddr("2001:db8::1").As16(),
				Encap: uint8(bpf.EncapGRE)}, State: bpf.FeedState{Packets: 12_000, Bytes: 1_536_000, Kept: 12_000}},
		},
		Queues:  []ledger.Queue{{Stats: xsk.Stats{Received: 1_011_000, FillRingEmpty: 877}}},
		Workers: []ledger.Worker{{Inner: 1_011_000}},
		Output:  ledger.Output{Written: 1_010_940, WrittenBytes: 813_000_000, Backlog: 60},
	}
	s.XDP[bpf.RedirectInner] = bpf.Tally{Packets: 1_011_877, Bytes: 900_000_000}
	s.XDP[bpf.PassNotTunnel] = bpf.Tally{Packets: 345, Bytes: 20_700}
	s.XDP[bpf.DropPolicy] = bpf.Tally{Packets: 123, Bytes: 9_000}
	return s, nil
}

// flows answers like the tables of a small network: 40 clients of two servers.
func flows(_ context.Context, q flow.Query) (flow.Answer, error) {
	var a flow.Answer
	for i := range 40 {
		row := flow.Row{Flow: flow.Flow{
			ID: uint64(i + 1), First: 1e18, Last: 1e18 + 5e9, Protocol: 6, EtherType: 0x0800, Weight: 1,
			Address: [2][16]byte{netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).As16(), netip.AddrFrom4([4]byte{203, 0, 113, byte(i%2 + 1)}).As16()},
			Port:    [2]uint16{uint16(40000 + i), 443}, Packets: [2]uint64{10, 20}, Bytes: [2]uint64{1000, 20000}, Handshake: 3e6,
		}, Flows: 1, Rate: uint64(100_000 / (i + 1))}
		if m := q.Match.Address; m.IsValid() && !m.Contains(row.Addr(0).Unmap()) && !m.Contains(row.Addr(1).Unmap()) {
			continue
		}
		if len(a.Rows) == q.Limit {
			a.Rest.Flows++
			continue
		}
		a.Rows = append(a.Rows, row)
	}
	return a, nil
}

func config() web.Config {
	return web.Config{
		Ledger: snapshot, Flows: flows, Log: slog.New(slog.DiscardHandler),
		Labels: func() *export.Labels {
			return &export.Labels{Address: func(a netip.Addr) string {
				if a == netip.MustParseAddr("198.51.100.1") {
					return hostile
				}
				return ""
			}}
		},
		FeedID: func(name string) uint32 {
			if name == "192.0.2.7/erspan2/1000" {
				return 1
			}
			return 0
		},
	}
}

func open(t *testing.T, c web.Config) *web.Page {
	t.Helper()
	page, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestAnswers(t *testing.T) {
	noFlows, noLedger, guarded := config(), config(), config()
	noFlows.Flows = nil
	noLedger.Ledger = func() (ledger.Snapshot, error) { return ledger.Snapshot{}, errors.New("nothing is collected yet") }
	guarded.Guarded = true
	tests := []struct {
		name, url string
		config    web.Config
		status    int
		want      string // somewhere in the answer
	}{
		{"page", "http://127.0.0.1:9477/", config(), 200, "<title>Unspan</title>"},
		{"script", "http://127.0.0.1:9477/main.js", config(), 200, "api/ledger"},
		{"nothing", "http://127.0.0.1:9477/none", config(), 404, ""},
		{"localhost", "http://localhost:9477/", config(), 200, ""},
		{"IPv6", "http://[::1]:9477/", config(), 200, ""},
		{"other name", "http://evil.example:9477/api/flows", config(), 421, "localhost only"},
		{"other name, guarded", "https://collector.example/api/flows", guarded, 200, ""},
		{"ledger", "http://127.0.0.1/api/ledger", config(), 200, `"title":"fill ring empty","kind":"kernel","packets":877`},
		{"ledger, limit", "http://127.0.0.1/api/ledger?limit=0", config(), 400, "limit is not a number above 0"},
		{"no ledger", "http://127.0.0.1/api/ledger", noLedger, 503, `{"error":"nothing is collected yet"}`},
		{"flows", "http://127.0.0.1/api/flows", config(), 200, `"client_ip":"198.51.100.1"`},
		{"flows, markup in a name", "http://127.0.0.1/api/flows", config(), 200, `\u003cimg src=x`},
		{"flows, search", "http://127.0.0.1/api/flows?q=198.51.100.7+tcp+443", config(), 200, `"client_ip":"198.51.100.7"`},
		{"flows, feed", "http://127.0.0.1/api/flows?q=feed+192.0.2.7/erspan2/1000", config(), 200, ""},
		{"flows, no such feed", "http://127.0.0.1/api/flows?q=feed+x", config(), 400, "no flow has come by feed"},
		{"flows, no address", "http://127.0.0.1/api/flows?q=nonsense", config(), 400, "neither an address, a prefix, a port nor a protocol"},
		{"flows, two addresses", "http://127.0.0.1/api/flows?q=192.0.2.1+192.0.2.2", config(), 400, "two addresses"},
		{"flows, two ports", "http://127.0.0.1/api/flows?q=192.0.2.1:80+443", config(), 400, "two different ports"},
		{"flows, port", "http://127.0.0.1/api/flows?q=port+65536", config(), 400, "not between 1 and 65535"},
		{"flows, vlan", "http://127.0.0.1/api/flows?q=vlan", config(), 400, "nothing stands behind vlan"},
		{"flows, long", "http://127.0.0.1/api/flows?q=" + strings.Repeat("1+", 101), config(), 400, "more than 200"},
		{"flows, by", "http://127.0.0.1/api/flows?by=x", config(), 400, "by is none of"},
		{"flows, order", "http://127.0.0.1/api/flows?order=x", config(), 400, "order is none of"},
		{"no flows", "http://127.0.0.1/api/flows", noFlows, 404, "start it with --flows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			open(t, tt.config).ServeHTTP(w, httptest.NewRequest("GET", tt.url, nil))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d, want %d: want %q in %s", w.Code, tt.status, tt.want, w.Body)
			}
			if h := w.Header(); !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none';") || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", h)
			}
		})
	}
}

// The page's ledger is the ledger: every line, every box that is not empty.
func TestLedgerAgrees(t *testing.T) {
	w := httptest.NewRecorder()
	open(t, config()).ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/api/ledger", nil))
	var got struct {
		Lines []struct {
			Name  string
			In    struct{ Packets uint64 }
			Boxes []struct {
				Name, Kind string
				Packets    uint64
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	s, _ := snapshot()
	lines := s.Lines()
	if len(got.Lines) != len(lines) {
		t.Fatalf("%d lines, want %d", len(got.Lines), len(lines))
	}
	for i, l := range lines {
		g := got.Lines[i]
		if g.Name != l.Name || g.In.Packets != l.In.Packets {
			t.Errorf("line %s with %d, want %s with %d", g.Name, g.In.Packets, l.Name, l.In.Packets)
		}
		for _, b := range l.Boxes {
			if b.Packets == 0 {
				continue
			}
			if len(g.Boxes) == 0 || g.Boxes[0].Name != b.Name || g.Boxes[0].Kind != b.Kind.String() || g.Boxes[0].Packets != b.Packets {
				t.Fatalf("line %s has %+v, want box %s %s %d next", l.Name, g.Boxes, b.Name, b.Kind, b.Packets)
			}
			g.Boxes = g.Boxes[1:]
		}
		if len(g.Boxes) > 0 {
			t.Errorf("line %s has %+v beside", l.Name, g.Boxes)
		}
	}
}

// However many ask for more, an answer has its bounds.
func TestAnswersAreBounded(t *testing.T) {
	asked := 0
	c := config()
	c.Flows = func(_ context.Context, q flow.Query) (flow.Answer, error) {
		asked = q.Limit
		return flow.Answer{}, nil
	}
	open(t, c).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://127.0.0.1/api/flows?limit=1000000", nil))
	if asked != 200 {
		t.Errorf("asked for %d rows, want 200", asked)
	}
}
