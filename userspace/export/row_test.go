package export_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// TestRow fills every field of a flow with a value of its own and looks for
// each in the row.
func TestRow(t *testing.T) {
	f := flow.Flow{
		ID: 1, First: 1_764_000_000_123_456_789, Last: 1_764_000_001_000_000_000,
		Packets: [2]uint64{2, 3}, Bytes: [2]uint64{4, 5},
		Handshake: 6, ServerRTT: 7, ClientRTT: 8, FirstByte: 9,
		Address: [2][16]byte{netip.MustParseAddr("198.51.100.7").As16(), netip.MustParseAddr("192.0.2.1").As16()},
		Domain:  10, Feed: [2]uint32{11, 12}, Weight: 13,
		Retransmissions: [2]uint32{14, 15}, OutOfOrder: [2]uint32{16, 17}, ZeroWindows: [2]uint32{18, 19},
		Gaps: [2]uint32{20, 21}, MirrorReordered: [2]uint32{22, 23}, MirrorGaps: [2]uint32{24, 25},
		Copies: [2]uint32{26, 27}, Resets: [2]uint16{28, 29}, Port: [2]uint16{30, 31}, VLAN: [2]uint16{32, 33},
		EtherType: 0x0800, MAC: [2][6]byte{{0, 0, 0x5e, 0, 0x53, 1}, {0, 0, 0x5e, 0, 0x53, 2}},
		TCPFlags: [2]uint8{34, 35}, Protocol: 6, ICMPType: 36, ICMPCode: 37, ICMPID: 38,
		TCPState: flow.StateClosed, End: flow.EndActive, Certain: true, Continued: true,
	}
	const want = `{"flow_id":1,"first_seen":"2025-11-24T16:00:00.123456789Z","last_seen":"2025-11-24T16:00:01Z","end_reason":"active",` +
		`"continued":true,"client_certain":true,"sampling":13,"domain":10,"client_feed":"feed 11","server_feed":"feed 12","vlan":32,"inner_vlan":33,` +
		`"ether_type":2048,"client_mac":"00:00:5e:00:53:01","server_mac":"00:00:5e:00:53:02","client_ip":"198.51.100.7","server_ip":"192.0.2.1","client_name":"client.example",` +
		`"protocol":6,"client_port":30,"server_port":31,"icmp_type":36,"icmp_code":37,"icmp_id":38,` +
		`"client_packets":2,"server_packets":3,"client_bytes":4,"server_bytes":5,"tcp_state":"closed","client_tcp_flags":34,"server_tcp_flags":35,` +
		`"handshake_ns":6,"server_rtt_ns":7,"client_rtt_ns":8,"first_byte_ns":9,"client_retransmissions":14,"server_retransmissions":15,` +
		`"client_out_of_order":16,"server_out_of_order":17,"client_zero_windows":18,"server_zero_windows":19,"client_resets":28,"server_resets":29,` +
		`"client_gaps":20,"server_gaps":21,"client_mirror_gaps":24,"server_mirror_gaps":25,"client_mirror_reordered":22,"server_mirror_reordered":23,` +
		`"client_copies":26,"server_copies":27}`
	labels := &export.Labels{
		Feed: func(id uint32) string { return fmt.Sprint("feed ", id) },
		Address: func(a netip.Addr) string {
			return map[string]string{"198.51.100.7": "client.example"}[a.String()]
		},
		MAC: func(mac [6]byte) string { return fmt.Sprintf("host-%x", mac[5]) },
	}
	got, err := json.Marshal(export.RowOf(&f, labels))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("row\n got %s\nwant %s", got, want)
	}

	f.Protocol, f.EtherType = 255, 0x0806
	r := export.RowOf(&f, labels)
	if r.ClientIP != "" || r.ServerIP != "" {
		t.Errorf("a flow that is not IP has addresses %q, %q", r.ClientIP, r.ServerIP)
	}
	if r.ClientName != "host-1" || r.ServerName != "host-2" {
		t.Errorf("it has names %q, %q", r.ClientName, r.ServerName)
	}
	if r := export.RowOf(&f, nil); r.ClientName != "" || r.ClientFeed != "" {
		t.Errorf("without labels it has names %q, %q", r.ClientName, r.ClientFeed)
	}
}

// TestRowNames: JSON and Parquet call every column the same.
func TestRowNames(t *testing.T) {
	row := reflect.TypeFor[export.Row]()
	for i := range row.NumField() {
		field := row.Field(i)
		j, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		p, _, _ := strings.Cut(field.Tag.Get("parquet"), ",")
		if j == "" || j != p {
			t.Errorf("%s: %q in JSON, %q in Parquet", field.Name, j, p)
		}
	}
}
