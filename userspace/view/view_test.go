package view_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/view"
)

var labels = &export.Labels{
	Feed:    func(id uint32) string { return map[uint32]string{1: "192.0.2.7/erspan2/1", 2: "rspan/300"}[id] },
	Address: func(a netip.Addr) string { return map[string]string{"192.0.2.1": "web.example"}[a.String()] },
	MAC:     func(mac [6]byte) string { return "" },
}

// some are flows of every kind.
func some() []flow.Flow {
	client, server := netip.MustParseAddr("198.51.100.7").As16(), netip.MustParseAddr("192.0.2.1").As16()
	six := netip.MustParseAddr("2001:db8::7").As16()
	return []flow.Flow{
		{
			ID: 1, EtherType: 0x0800, Protocol: 6, Address: [2][16]byte{client, server}, Port: [2]uint16{40000, 443}, VLAN: [2]uint16{100, 7},
			Packets: [2]uint64{12, 10}, Bytes: [2]uint64{12_345, 6_000_000}, Feed: [2]uint32{1, 2}, Weight: 1, TCPState: flow.StateClosed,
			Handshake: 1_234_567, Retransmissions: [2]uint32{1, 2},
		},
		{
			ID: 2, EtherType: 0x86dd, Protocol: 17, Address: [2][16]byte{six, six}, Port: [2]uint16{40000, 53},
			Packets: [2]uint64{4, 0}, Bytes: [2]uint64{400, 0}, Feed: [2]uint32{1, 1}, Weight: 10,
		},
		{ID: 3, EtherType: 0x0800, Protocol: 1, ICMPType: 8, Address: [2][16]byte{client, server}, Packets: [2]uint64{1, 1}, Bytes: [2]uint64{98, 98}},
		{ID: 4, EtherType: 0x0806, Protocol: 255, MAC: [2][6]byte{{0, 0, 0x5e, 0, 0x53, 1}, {0, 0, 0x5e, 0, 0x53, 2}}, Packets: [2]uint64{1, 1}, Bytes: [2]uint64{60, 60}},
	}
}

func answer(q flow.Query) flow.Answer {
	v := flow.NewView(q)
	for _, f := range some() {
		v.Add(&f)
	}
	return v.Answer()
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		name string
		q    flow.Query
		want string
	}{
		{"flows", flow.Query{Order: flow.MostBytes}, `
  packets  back  bytes  back  1 in  handshake  again   state  flow
       12    10  12.3k  6.0M           1.23ms      3  closed  tcp 198.51.100.7:40000 > web.example:443  vlan 100.7  192.0.2.7/erspan2/1, rspan/300
        4     0    400     0    10                            udp [2001:db8::7]:40000 > [2001:db8::7]:53  192.0.2.7/erspan2/1
        1     1     98    98                                  icmp 8 198.51.100.7 > web.example
        1     1     60    60                                  arp 00:00:5e:00:53:01 > 00:00:5e:00:53:02
`},
		{"hosts", flow.Query{By: flow.ByAddress, Order: flow.MostPackets, Limit: 2}, `
  sent  received  bytes   back  flows  again  host
    11        13   6.0M  12.4k      2      3  web.example
    13        11  12.4k   6.0M      2      3  198.51.100.7

And more.
`},
		{"services", flow.Query{By: flow.ByService, Order: flow.MostBytes, Limit: 1}, `
  packets  back  bytes  back  flows  handshake  again  service
       12    10  12.3k  6.0M      1     1.23ms      3  tcp web.example:443

And more, with 8 packets and 716 bytes.
`},
		{"edges", flow.Query{By: flow.ByEdge, Order: flow.MostBytes, Match: flow.Match{Protocol: 17}}, `
  packets  back  bytes  back  1 in  flows  who calls what
        4     0    400     0    10      1  2001:db8::7 > udp [2001:db8::7]:53
`},
		{"none", flow.Query{Match: flow.Match{Port: 1}}, "\nNo flow.\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := answer(c.q)
			var b bytes.Buffer
			if err := view.WriteText(&b, &a, c.q.By, labels, false); err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimPrefix(c.want, "\n"); b.String() != want {
				t.Errorf("got\n%swant\n%s", &b, want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	a := answer(flow.Query{Order: flow.MostBytes, Limit: 1})
	text, err := json.Marshal(view.Of(&a, labels))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"rows":[{"flow_id":1,`, `"client_feed":"192.0.2.7/erspan2/1"`, `"server_name":"web.example"`, `"flows":1,"bytes_per_second":0}]`,
		`"rest":{"flows":3,"packets":8,"bytes":716,"bytes_per_second":0}}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestWords(t *testing.T) {
	for name, want := range map[string]flow.Group{"": flow.ByFlow, "flow": flow.ByFlow, "address": flow.ByAddress, "service": flow.ByService, "edge": flow.ByEdge} {
		if got, err := view.Group(name); got != want || err != nil {
			t.Errorf("by %q is %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]flow.Order{"": flow.MostRate, "bytes": flow.MostBytes, "newest": flow.Newest, "handshake": flow.SlowestHandshake} {
		if got, err := view.Order(name); got != want || err != nil {
			t.Errorf("order %q is %v, %v", name, got, err)
		}
	}
	if _, err := view.Group("host"); err == nil || !strings.Contains(err.Error(), "none of flow,address,service,edge") {
		t.Error(err)
	}
	if _, err := view.Order("size"); err == nil {
		t.Error("order size is known")
	}
}

func TestSearch(t *testing.T) {
	feed := func(name string) uint32 { return map[string]uint32{"rspan/300": 2}[name] }
	net := netip.MustParsePrefix
	for _, c := range []struct {
		text string
		want flow.Match
		err  string
	}{
		{"", flow.Match{}, ""},
		{"192.0.2.7", flow.Match{Address: net("192.0.2.7/32")}, ""},
		{"192.0.2.7/24 and TCP", flow.Match{Address: net("192.0.2.0/24"), Protocol: 6}, ""},
		{"::ffff:192.0.2.7", flow.Match{Address: net("192.0.2.7/32")}, ""},
		{"[2001:db8::7]:443", flow.Match{Address: net("2001:db8::7/128"), Port: 443}, ""},
		{"port 53 udp vlan 7 feed rspan/300", flow.Match{Port: 53, Protocol: 17, VLAN: 7, Feed: 2}, ""},
		{":53 protocol 47", flow.Match{Port: 53, Protocol: 47}, ""},
		{"feed rspan/301", flow.Match{}, `no flow has come by feed "rspan/301"`},
		{"feed", flow.Match{}, "nothing stands behind feed"},
		{"port", flow.Match{}, "nothing stands behind port"},
		{"vlan 5000", flow.Match{}, "not between 1 and 4094"},
		{"port 70000", flow.Match{}, "not between 1 and 65535"},
		{"tcp udp", flow.Match{}, "two different protocols"},
		{"192.0.2.1 192.0.2.2", flow.Match{}, "two addresses"},
		{"web.example", flow.Match{}, "neither an address, a prefix, a port nor a protocol"},
		{strings.Repeat("x", 201), flow.Match{}, "more than 200 characters"},
	} {
		got, err := view.Search(c.text, feed)
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%q: %+v, %v", c.text, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: %v, want %q", c.text, err, c.err)
		}
	}
	if _, err := view.Search("feed rspan/300", nil); err == nil {
		t.Error("a feed is known where none are")
	}
}
