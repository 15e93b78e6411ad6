package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/view"
)

// looked is a collector's one flow, and the last question it was asked.
func looked(c *control.Config, asked *flow.Query) {
	c.Flows = func(_ context.Context, q flow.Query) (flow.Answer, error) {
		*asked = q
		if q.Match.Port == 13 {
			return flow.Answer{}, errors.New("asking the flow tables: context deadline exceeded")
		}
		return flow.Answer{Rows: []flow.Row{{Flows: 1, Rate: 125_000, Flow: flow.Flow{
			EtherType: 0x0800, Protocol: 6, Port: [2]uint16{40000, 443}, Feed: [2]uint32{3, 3}, Packets: [2]uint64{7, 5},
			Address: [2][16]byte{netip.MustParseAddr("198.51.100.7").As16(), netip.MustParseAddr("192.0.2.1").As16()},
		}}}}, nil
	}
	c.Labels = func() *export.Labels {
		return &export.Labels{Feed: func(uint32) string { return "192.0.2.7/erspan2/1" }}
	}
	c.FeedID = func(name string) uint32 {
		if name == "192.0.2.7/erspan2/1" {
			return 3
		}
		return 0
	}
}

func TestFlows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	c := config(path)
	var asked flow.Query
	looked(&c, &asked)
	serve(t, c)
	client := control.NewClient(path)
	for _, test := range []struct {
		looking control.Looking
		want    flow.Query
		err     string
	}{
		{control.Looking{}, flow.Query{Limit: 25}, ""},
		{control.Looking{By: "edge", Order: "loss", Limit: 3, Search: "tcp feed 192.0.2.7/erspan2/1"},
			flow.Query{By: flow.ByEdge, Order: flow.MostLoss, Limit: 3, Match: flow.Match{Protocol: 6, Feed: 3}}, ""},
		{control.Looking{By: "x"}, flow.Query{}, `by "x": it is none of flow,address,service,edge`},
		{control.Looking{Order: "y", Search: "z"}, flow.Query{}, "order \"y\": it is none of rate,bytes,packets,flows,loss,handshake,newest\nsearching: \"z\" is neither"},
		{control.Looking{Search: "port 13"}, flow.Query{Limit: 25, Match: flow.Match{Port: 13}}, "asking the flow tables: context deadline exceeded"},
	} {
		asked = flow.Query{}
		var b bytes.Buffer
		err := client.Flows(t.Context(), &b, test.looking, false)
		if asked != test.want {
			t.Errorf("%+v asks %+v, want %+v", test.looking, asked, test.want)
		}
		switch {
		case test.err != "":
			if err == nil || !strings.HasPrefix(err.Error(), test.err) {
				t.Errorf("%+v: %v, want %q", test.looking, err, test.err)
			}
		case err != nil:
			t.Errorf("%+v: %v", test.looking, err)
		case !strings.Contains(b.String(), "1.00") || !strings.Contains(b.String(), "198.51.100.7"):
			t.Errorf("%+v: %s", test.looking, &b)
		}
	}
	var b bytes.Buffer
	if err := client.Flows(t.Context(), &b, control.Looking{}, true); err != nil {
		t.Fatal(err)
	}
	var a view.Answer
	if err := json.Unmarshal(b.Bytes(), &a); err != nil || len(a.Rows) != 1 || a.Rows[0].Rate != 125_000 || a.Rows[0].ClientFeed != "192.0.2.7/erspan2/1" {
		t.Errorf("%+v, %v: %s", a, err, &b)
	}
}

func TestTop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	c := config(path)
	c.Ledger = func() (ledger.Snapshot, error) {
		s := ledger.Snapshot{Subject: "eth1, native"}
		for i := range 5 {
			s.Feeds = append(s.Feeds, ledger.Feed{Key: bpf.FeedKey{Encap: uint8(bpf.EncapRSPAN), Session: uint16(300 + i)}, State: bpf.FeedState{Packets: uint64(i)}})
		}
		return s, nil
	}
	none := c
	none.Path = filepath.Join(t.TempDir(), "eth2.sock")
	var asked flow.Query
	looked(&c, &asked)
	serve(t, c)
	serve(t, none)
	top := func(path string) string {
		var b bytes.Buffer
		if err := control.NewClient(path).Top(t.Context(), &b, control.Looking{By: "service", Limit: 4, Feeds: 2}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for path, want := range map[string][]string{
		c.Path:    {"rspan/304", "rspan/303", "And 3 more.", "  upstream  none\n", "  service\n", "tcp 192.0.2.1:443\n"},
		none.Path: {"And 3 more.", "  disk      none\n", "No flows: this collector does not rebuild flows: start it with --flows\n"},
	} {
		got := top(path)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in\n%s", w, got)
			}
		}
		if strings.Contains(got, "rspan/302") {
			t.Errorf("too many feeds:\n%s", got)
		}
	}
	if want := (flow.Query{By: flow.ByService, Limit: 4}); asked != want {
		t.Errorf("asked %+v, want %+v", asked, want)
	}
	var b bytes.Buffer
	if err := control.NewClient(none.Path).Flows(t.Context(), &b, control.Looking{}, false); err == nil || !strings.Contains(err.Error(), "--flows") {
		t.Errorf("flows where there are none: %v", err)
	}
}
