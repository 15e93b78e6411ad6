package decap_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
)

// TestLinkTypes: the same tunnel behind the header of every link type.
func TestLinkTypes(t *testing.T) {
	four, six := type1[l3:], ip6(47, gre(0, 0x88be), inside)
	sll := func(protocol uint16) []byte { return join(make([]byte, 14), u16(protocol)) }
	sll2 := func(protocol uint16) []byte { return join(u16(protocol), make([]byte, 18)) }
	rows := []struct {
		name  string
		link  decap.LinkType
		frame []byte
		want  bpf.Verdict
	}{
		{"ethernet", decap.Ethernet, type1, bpf.RedirectInner},
		{"raw 4", decap.Raw, four, bpf.RedirectInner},
		{"raw 6", decap.Raw, six, bpf.RedirectInner},
		{"raw of BSD", decap.RawBSD, four, bpf.RedirectInner},
		{"raw of OpenBSD", decap.RawOld, four, bpf.RedirectInner},
		{"raw empty", decap.Raw, nil, bpf.PassNotIP},
		{"raw version 5", decap.Raw, with(four, 0, 0x55), bpf.PassNotIP},
		{"ipv4", decap.IPv4, four, bpf.RedirectInner},
		{"ipv4 with version 6", decap.IPv4, six, bpf.PassBadIP},
		{"ipv6", decap.IPv6, six, bpf.RedirectInner},
		{"cooked 4", decap.LinuxSLL, join(sll(0x0800), four), bpf.RedirectInner},
		{"cooked 6", decap.LinuxSLL, join(sll(0x86dd), six), bpf.RedirectInner},
		{"cooked, tag", decap.LinuxSLL, join(sll(0x8100), vlan(5, 0x0800), four), bpf.RedirectInner},
		{"cooked arp", decap.LinuxSLL, join(sll(0x0806), four), bpf.PassNotIP},
		{"cooked short", decap.LinuxSLL, sll(0x0800)[:15], bpf.PassNotIP},
		{"cooked 2, 4", decap.LinuxSLL2, join(sll2(0x0800), four), bpf.RedirectInner},
		{"cooked 2, tag", decap.LinuxSLL2, join(sll2(0x88a8), vlan(5, 0x0800), four), bpf.RedirectInner},
		{"cooked 2 short", decap.LinuxSLL2, sll2(0x0800)[:19], bpf.PassNotIP},
		{"null, little-endian", decap.Null, join([]byte{2, 0, 0, 0}, four), bpf.RedirectInner},
		{"null, big-endian", decap.Null, join([]byte{0, 0, 0, 2}, four), bpf.RedirectInner},
		{"null 6, macOS", decap.Null, join([]byte{30, 0, 0, 0}, six), bpf.RedirectInner},
		{"null 6, FreeBSD", decap.Null, join([]byte{0, 0, 0, 28}, six), bpf.RedirectInner},
		{"null of something else", decap.Null, join([]byte{3, 0, 0, 0}, four), bpf.PassNotIP},
		{"null short", decap.Null, []byte{2, 0, 0}, bpf.PassNotIP},
		{"loop", decap.Loop, join([]byte{0, 0, 0, 24}, six), bpf.RedirectInner},
		{"802.11", decap.LinkType(105), four, bpf.PassNotIP},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			s.config.RspanVlan = 5 // never the mirror's where there are no addresses
			s.config.Accept |= accept(bpf.EncapRSPAN)
			rec, inner, v := s.engine().Captured(row.link, slices.Clone(row.frame), len(row.frame), now)
			if v != row.want {
				t.Fatalf("verdict %s, want %s", bpf.VerdictName(v), bpf.VerdictName(row.want))
			}
			if v != bpf.RedirectInner {
				return
			}
			if want := *of(bpf.EncapERSPAN1, inside); rec != want {
				t.Errorf("record %+v\nwant   %+v", rec, want)
			}
			if !bytes.Equal(inner, inside) {
				t.Errorf("inner % x", inner)
			}
		})
	}
}

func TestKnown(t *testing.T) {
	for link := range decap.LinkType(300) {
		_, _, v := everything().engine().Captured(link, type1, len(type1), now)
		if v == bpf.RedirectInner && !link.Known() {
			t.Errorf("link type %d is not known, and yet decapsulated", link)
		}
	}
	for _, link := range []decap.LinkType{0, 1, 12, 14, 101, 108, 113, 228, 229, 276} {
		if !link.Known() {
			t.Errorf("link type %d is not known", link)
		}
	}
	if decap.LinkType(105).Known() { // 802.11
		t.Error("link type 105 is known")
	}
}

// TestCut: what a capture's snap length took is delivered as far as it goes.
func TestCut(t *testing.T) {
	const snap = 10
	wire := func(n uint32) func(*bpf.Record) { return func(r *bpf.Record) { r.WireLength = n } }
	rows := []struct {
		name   string
		frame  []byte
		wire   int
		setup  func(*setup)
		record *bpf.Record
		inner  []byte
	}{
		{"inner frame cut", cut(type1, snap), len(type1), nil, of(bpf.EncapERSPAN1, cut(inside, snap), wire(60), flags(bpf.RecordClipped)), cut(inside, snap)},
		{"ip6", cut(eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), snap), 14 + 40 + 4 + 60, nil, of(bpf.EncapERSPAN1, cut(inside, snap), wire(60), flags(bpf.RecordClipped)), cut(inside, snap)},
		{"udp", cut(overlay, snap), len(overlay), nil, of(bpf.EncapVXLAN, cut(inside, snap), wire(60), flags(bpf.RecordClipped)), cut(inside, snap)},
		{"udp says less than ip", cut(eth(0x0800, ip4(17, udp(4789, vxlan(8, 5001), inside), make([]byte, 30))), 30+snap), len(overlay) + 30, nil, of(bpf.EncapVXLAN, cut(inside, snap), wire(60), flags(bpf.RecordClipped)), cut(inside, snap)},
		{"only padding cut", type1, len(type1) + 20, nil, of(bpf.EncapERSPAN1, inside), inside},
		{"the packet lies too", cut(type1, snap), len(type1) - 4, nil, of(bpf.EncapERSPAN1, cut(inside, snap), wire(56), flags(bpf.RecordClipped)), cut(inside, snap)},
		{"total length 0", cut(with(type1, l3+2, 0, 0), snap), len(type1), nil, of(bpf.EncapERSPAN1, cut(inside, snap), wire(60)), cut(inside, snap)},
		{"wire length smaller than the frame", type1, 3, nil, of(bpf.EncapERSPAN1, inside), inside},
		{"fragment", cut(head4, snap), len(head4), nil, fragmentOf(cut(head4, snap), datagram4GRE, wire(uint32(len(head4))), flags(bpf.RecordClipped), tag, sequence(77), feed1(bpf.EncapERSPAN2)), cut(head4, snap)},
		{"native", cut(inside, snap), len(inside), also(bpf.EncapNative), of(bpf.EncapNative, cut(inside, snap), wire(60)), cut(inside, snap)},
		{"rspan", cut(tagged(inside, 300), snap), len(inside) + 4, rspan, of(bpf.EncapRSPAN, cut(inside, snap), wire(60)), cut(inside, snap)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			if row.setup != nil {
				row.setup(&s)
			}
			e := s.engine()
			rec, inner, v := e.Captured(decap.Ethernet, slices.Clone(row.frame), row.wire, now)
			if rec != *row.record {
				t.Errorf("record %+v\nwant   %+v", rec, *row.record)
			}
			if !bytes.Equal(inner, row.inner) {
				t.Errorf("inner % x\nwant  % x", inner, row.inner)
			}
			want := bpf.Tally{Packets: 1, Bytes: uint64(max(row.wire, len(row.frame)))}
			if got := e.Frames()[v]; got != want {
				t.Errorf("tally %+v, want %+v", got, want)
			}
		})
	}
}

// TestWithoutEthernet: fragments and native packets begin with IP there.
func TestWithoutEthernet(t *testing.T) {
	cooked := func(protocol uint16, ip []byte) []byte { return join(make([]byte, 14), u16(protocol), ip) }
	rows := []struct {
		name   string
		frame  []byte
		setup  func(*setup)
		want   bpf.Verdict
		record *bpf.Record
		inner  []byte
	}{
		{"fragment", cooked(0x0800, tail4[l3:]), nil, bpf.RedirectFragment, fragmentOf(tail4[l3:], datagram4GRE, flags(bpf.RecordRawIP)), tail4[l3:]},
		{"native", cooked(0x0800, insideIP), also(bpf.EncapNative), bpf.RedirectInner, of(bpf.EncapNative, insideIP, raw(insideHash)), insideIP},
		{"native arp", cooked(0x0806, insideIP), also(bpf.EncapNative), bpf.PassNotIP, nil, nil},
		{"native of 15 bytes", cooked(0x0800, nil)[:15], also(bpf.EncapNative), bpf.PassNotIP, nil, nil},
		{"native ip too short", cooked(0x0800, insideIP[:19]), also(bpf.EncapNative), bpf.PassBadIP, nil, nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			if row.setup != nil {
				row.setup(&s)
			}
			rec, inner, v := s.engine().Captured(decap.LinuxSLL, row.frame, len(row.frame), now)
			if v != row.want {
				t.Fatalf("verdict %s, want %s", bpf.VerdictName(v), bpf.VerdictName(row.want))
			}
			if row.record != nil && rec != *row.record {
				t.Errorf("record %+v\nwant   %+v", rec, *row.record)
			}
			if !bytes.Equal(inner, row.inner) {
				t.Errorf("inner % x\nwant  % x", inner, row.inner)
			}
		})
	}
}
