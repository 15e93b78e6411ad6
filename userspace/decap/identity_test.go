package decap_test

import (
	"net/netip"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

// identity is the key of a feed between the addresses of these tests.
func identity(encap bpf.Encap, key uint32, keyed uint8, session uint16) bpf.FeedKey {
	return bpf.FeedKey{
		Exporter:  netip.MustParseAddr(exporter).As16(),
		Collector: netip.MustParseAddr(collector).As16(),
		Key:       key, Keyed: keyed, Session: session, Encap: uint8(encap),
	}
}

func TestIdentity(t *testing.T) {
	rows := []struct {
		name  string
		frame []byte
		setup func(*setup)
		want  bpf.FeedKey
	}{
		{name: "type I", frame: type1, want: identity(bpf.EncapERSPAN1, 0, 0, 0)},
		{name: "type II", frame: type2, want: identity(bpf.EncapERSPAN2, 0, 0, 1000)},
		{name: "type II with key", frame: eth(0x0800, ip4(47, gre(0x3000, 0x88be, 42, 77), erspan2(0, 0), inside)), want: identity(bpf.EncapERSPAN2, 42, 1, 1000)},
		{name: "type III", frame: type3, want: identity(bpf.EncapERSPAN3, 0, 0, 1000)},
		{name: "bridging", frame: bridged, want: identity(bpf.EncapGRE, 0, 0, 0)},
		{name: "bridging with key 0", frame: eth(0x0800, ip4(47, gre(0x2000, 0x6558, 0), inside)), want: identity(bpf.EncapGRE, 0, 1, 0)},
		{name: "bridging with checksum and key", frame: eth(0x0800, ip4(47, gre(0xa000, 0x6558, 1, 0xfffffffe), inside)), want: identity(bpf.EncapGRE, 0xfffffffe, 1, 0)},
		{name: "ip", frame: routed, want: identity(bpf.EncapGREIP, 0, 0, 0)},
		{name: "vxlan", frame: overlay, want: identity(bpf.EncapVXLAN, 5001, 1, 0)},
		{name: "vxlan, reserved byte set", frame: with(overlay, l5+7, 0xff), want: identity(bpf.EncapVXLAN, 5001, 1, 0)},
		{name: "geneve", frame: generic, want: identity(bpf.EncapGeneve, 5001, 1, 0)},
		{name: "rspan", frame: tagged(inside, 300), setup: rspan, want: bpf.FeedKey{Session: 300, Encap: uint8(bpf.EncapRSPAN)}},
		{name: "native", frame: inside, setup: also(bpf.EncapNative), want: bpf.FeedKey{Encap: uint8(bpf.EncapNative)}},
		{name: "ip6", frame: eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), want: bpf.FeedKey{
			Exporter:  netip.MustParseAddr(exporter6).As16(),
			Collector: netip.MustParseAddr(collectr6).As16(),
			Encap:     uint8(bpf.EncapERSPAN1),
		}},
		{name: "first fragment", frame: head4, want: identity(bpf.EncapERSPAN2, 0, 0, 1000)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			if row.setup != nil {
				row.setup(&s)
			}
			feeds := feed.NewTable(1)
			e := s.engineWith(feeds)
			rec, _, v := e.Decap(append([]byte(nil), row.frame...), now)
			if v < bpf.RedirectFragment || rec.Feed != 1 {
				t.Fatalf("verdict %s, feed %d", bpf.VerdictName(v), rec.Feed)
			}
			got, err := feeds.FeedKey(1)
			if err != nil || got != row.want {
				t.Errorf("key %+v, %v\nwant %+v", got, err, row.want)
			}
			for _, state := range feeds.All() {
				want := bpf.FeedState{First: now, Last: now, Packets: 1, Bytes: uint64(rec.WireLength), Kept: 1, Sequence: state.Sequence}
				if state != want {
					t.Errorf("state %+v\nwant  %+v", state, want)
				}
			}
		})
	}
}

// TestFeedTableFull: a feed that finds no room is delivered all the same.
func TestFeedTableFull(t *testing.T) {
	s := everything()
	e := s.engineWith(feed.NewTable(1))
	for i, want := range []uint32{1, 0, 1} {
		frame := type2
		if want == 0 {
			frame = type3
		}
		rec, inner, v := e.Decap(frame, now)
		if v != bpf.RedirectInner || rec.Feed != want || len(inner) != len(inside) {
			t.Errorf("packet %d: verdict %s, feed %d, %d bytes; want feed %d and the frame", i, bpf.VerdictName(v), rec.Feed, len(inner), want)
		}
	}
}

// TestGap: what the sequence tracker says goes into the record.
func TestGap(t *testing.T) {
	e := everything().engine()
	for _, row := range []struct{ number, gap uint32 }{{77, 0}, {78, 0}, {81, 2}, {79, 0}, {82, 0}} {
		rec, _, _ := e.Decap(with(type2, l4+4, u32(row.number)...), now)
		if rec.Sequence != row.number || rec.Gap != row.gap {
			t.Errorf("number %d: sequence %d, gap %d; want gap %d", row.number, rec.Sequence, rec.Gap, row.gap)
		}
	}
}

func TestExporters(t *testing.T) {
	rows := []struct {
		name   string
		list   []string
		source string
		want   bpf.Verdict
	}{
		{"first of the prefix", []string{"192.0.2.0/24"}, "192.0.2.0", bpf.RedirectInner},
		{"last of the prefix", []string{"192.0.2.0/24"}, "192.0.2.255", bpf.RedirectInner},
		{"before the prefix", []string{"192.0.2.0/24"}, "192.0.1.255", bpf.DropStranger},
		{"behind the prefix", []string{"192.0.2.0/24"}, "192.0.3.0", bpf.DropStranger},
		{"host bits set in the list", []string{"192.0.2.99/24"}, "192.0.2.1", bpf.RedirectInner},
		{"one host", []string{"192.0.2.7/32"}, "192.0.2.7", bpf.RedirectInner},
		{"the next host", []string{"192.0.2.7/32"}, "192.0.2.8", bpf.DropStranger},
		{"everybody with IPv4", []string{"0.0.0.0/0"}, "255.255.255.255", bpf.RedirectInner},
		{"a prefix inside another, behind it", []string{"192.0.2.0/28", "192.0.0.0/16"}, "192.0.200.1", bpf.RedirectInner},
		{"the same prefix twice", []string{"192.0.2.0/24", "192.0.2.0/24", "203.0.113.0/24"}, "203.0.113.1", bpf.RedirectInner},
		{"between two prefixes", []string{"192.0.2.0/24", "203.0.113.0/24"}, "198.51.100.1", bpf.DropStranger},
		{"mapped", []string{"::ffff:192.0.2.0/120"}, "192.0.2.5", bpf.RedirectInner},
		{"ip6 only", []string{"2001:db8::/32"}, "192.0.2.5", bpf.DropStranger},
		{"everybody", []string{"::/0"}, "192.0.2.5", bpf.RedirectInner},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			exporters(true, row.list...)(&s)
			source := netip.MustParseAddr(row.source).As4()
			if _, _, v := s.engine().Decap(with(type1, l3+12, source[:]...), now); v != row.want {
				t.Errorf("verdict %s, want %s", bpf.VerdictName(v), bpf.VerdictName(row.want))
			}
		})
	}
	t.Run("ip6", func(t *testing.T) {
		frame := eth(0x86dd, ip6(47, gre(0, 0x88be), inside))
		for list, want := range map[string]bpf.Verdict{
			"2001:db8::/32": bpf.RedirectInner, "2001:db8::6/127": bpf.RedirectInner,
			"2001:db8::8/125": bpf.DropStranger, "2001:db9::/32": bpf.DropStranger,
		} {
			s := everything()
			exporters(true, list)(&s)
			if _, _, v := s.engine().Decap(frame, now); v != want {
				t.Errorf("list %s: verdict %s, want %s", list, bpf.VerdictName(v), bpf.VerdictName(want))
			}
		}
	})
}
