package decap_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/policy"
)

// now is the receive time of every packet here.
const now = 1_000_000_007

// Hashes of the inner flows, as the kernel half computes them too: agree_test.go.
const (
	insideHash         = 0x9b7ff760
	insideIP6Hash      = 0x6eb51577
	insideMACHash      = 0xf8baf524 // the addresses of inside, EtherType 0x88cc
	insideFragmentHash = 0xdc58c634 // inside as a fragment: without its ports
)

func accept(encaps ...bpf.Encap) (bits uint32) {
	for _, e := range encaps {
		bits |= 1 << e
	}
	return bits
}

// everything takes every encapsulation; RSPAN and native have their own rows,
// because they take packets that are something else too.
func everything() setup {
	return setup{
		config: bpf.Config{
			Accept: accept(bpf.EncapERSPAN1, bpf.EncapERSPAN2, bpf.EncapERSPAN3, bpf.EncapGRE,
				bpf.EncapGREIP, bpf.EncapVXLAN, bpf.EncapGeneve),
			Workers:     1,
			VxlanPorts:  [4]uint16{4789, 8472},
			GenevePorts: [4]uint16{6081},
		},
		collectors: []netip.Addr{netip.MustParseAddr(collector), netip.MustParseAddr(collectr6)},
		policy:     *policy.Default(),
	}
}

type setup struct {
	config     bpf.Config
	collectors []netip.Addr
	policy     policy.Policy
}

func (s setup) engine() *decap.Engine { return s.engineWith(feed.NewTable(feed.Max)) }

func (s setup) engineWith(feeds decap.Feeds) *decap.Engine {
	e := decap.New(s.config, s.collectors, feeds)
	e.SetPolicy(s.policy.Exporters, s.policy.DropStrangers, policy.NewEngine(&s.policy, &s.config, s.collectors).Apply)
	return e
}

// only narrows what is accepted.
func only(encaps ...bpf.Encap) func(*setup) {
	return func(s *setup) { s.config.Accept = accept(encaps...) }
}

func also(encaps ...bpf.Encap) func(*setup) {
	return func(s *setup) { s.config.Accept |= accept(encaps...) }
}

// rspan accepts RSPAN on VLAN 300.
func rspan(s *setup) {
	s.config.Accept |= accept(bpf.EncapRSPAN)
	s.config.RspanVlan = 300
}

func exporters(drop bool, list ...string) func(*setup) {
	return func(s *setup) {
		s.policy.DropStrangers, s.policy.Exporters = drop, []netip.Prefix{}
		for _, p := range list {
			s.policy.Exporters = append(s.policy.Exporters, netip.MustParsePrefix(p))
		}
	}
}

// of is the record of a whole inner frame: what every one has, then what change says.
func of(encap bpf.Encap, frame []byte, change ...func(*bpf.Record)) *bpf.Record {
	r := &bpf.Record{
		Time:       now,
		Feed:       1,
		FlowHash:   insideHash,
		Length:     uint32(len(frame)),
		WireLength: uint32(len(frame)),
		Weight:     1,
		Rule:       bpf.NoRule,
		Encap:      uint8(encap),
		Platform:   bpf.NoPlatform,
		Version:    bpf.RecordVersion,
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func flags(f uint32) func(*bpf.Record) { return func(r *bpf.Record) { r.Flags |= f } }
func hash(h uint32) func(*bpf.Record)  { return func(r *bpf.Record) { r.FlowHash = h } }

// raw is what a record says of an IP packet without Ethernet.
func raw(h uint32) func(*bpf.Record) {
	return func(r *bpf.Record) { r.Flags |= bpf.RecordRawIP; r.FlowHash = h }
}

func sequence(n uint32) func(*bpf.Record) {
	return func(r *bpf.Record) { r.Flags |= bpf.RecordSequence; r.Sequence = n }
}

// tag is VLAN 100, COS 5, as the ERSPAN headers here have it.
func tag(r *bpf.Record) { r.Tci = 5<<13 | 100; r.Flags |= bpf.RecordVLAN }

// clock is the timestamp of the ERSPAN III headers here.
func clock(r *bpf.Record) {
	r.SourceTime = 0xfeedbeef
	r.Flags |= bpf.RecordSourceTime | bpf.RecordDirection
}

// fragmentOf is the record of an outer fragment.
func fragmentOf(frame []byte, h uint32, change ...func(*bpf.Record)) *bpf.Record {
	return of(bpf.EncapNone, frame, append([]func(*bpf.Record){
		flags(bpf.RecordFragment), hash(h), func(r *bpf.Record) { r.Feed = 0 },
	}, change...)...)
}

var (
	type1    = eth(0x0800, ip4(47, gre(0, 0x88be), inside))
	type2    = eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0), inside))
	type3    = eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 0), inside))
	type3sub = eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 1), platform(3, 0x12345678), inside))
	bridged  = eth(0x0800, ip4(47, gre(0, 0x6558), inside))
	routed   = eth(0x0800, ip4(47, gre(0, 0x0800), insideIP))
	overlay  = eth(0x0800, ip4(17, udp(4789, vxlan(8, 5001), inside)))
	generic  = eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001), inside)))
)

// Where the headers of these packets begin.
const (
	l3 = 14
	l4 = 34
	l5 = 42 // behind UDP, or behind GRE with a sequence number
)

type row struct {
	name   string
	frame  []byte
	setup  func(*setup)
	want   bpf.Verdict
	record *bpf.Record // nil: not delivered
	inner  []byte
}

var rows = []row{
	// Ethernet and its tags.
	{name: "empty", frame: nil, want: bpf.PassNotIP},
	{name: "13 bytes", frame: type2[:13], want: bpf.PassNotIP},
	{name: "arp", frame: eth(0x0806, make([]byte, 46)), want: bpf.PassNotIP},
	{name: "one tag", frame: eth(0x8100, vlan(5, 0x0800), type1[l3:]), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "two tags", frame: eth(0x88a8, vlan(5, 0x8100), vlan(6, 0x0800), type1[l3:]), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "old QinQ tag", frame: eth(0x9100, vlan(5, 0x0800), type1[l3:]), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "three tags", frame: eth(0x8100, vlan(5, 0x8100), vlan(6, 0x8100), vlan(7, 0x0800), type1[l3:]), want: bpf.PassNotIP},
	{name: "ends in the tag", frame: eth(0x8100, u16(5)), want: bpf.PassNotIP},

	// IPv4.
	{name: "ip4 short", frame: type1[:l3+19], want: bpf.PassBadIP},
	{name: "ip4 version 5", frame: with(type1, l3, 0x55), want: bpf.PassBadIP},
	{name: "ip4 header length 16", frame: with(type1, l3, 0x44), want: bpf.PassBadIP},
	{name: "ip4 options", frame: eth(0x0800, with(ip4(47, []byte{1, 1, 1, 0}, gre(0, 0x88be), inside), 0, 0x46)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip4 options cut off", frame: with(type1[:l3+24], l3, 0x4f), want: bpf.PassBadIP},
	{name: "ip4 total length inside the header", frame: with(type1, l3+2, 0, 19), want: bpf.PassBadIP},
	{name: "ip4 total length inside the options", frame: with(type1, l3, 0x46, 0, 0, 23), want: bpf.PassBadIP},
	{name: "ip4 total length 0", frame: with(type1, l3+2, 0, 0), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip4 padding behind", frame: join(type1, make([]byte, 9)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip4 clipped", frame: cut(type1, 6), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, cut(inside, 6), flags(bpf.RecordClipped)), inner: cut(inside, 6)},
	{name: "tcp", frame: with(type1, l3+9, 6), want: bpf.PassNotTunnel},
	{name: "udp not accepted", frame: overlay, setup: only(bpf.EncapERSPAN1), want: bpf.PassNotTunnel},
	{name: "to somebody else", frame: with(type1, l3+19, 10), want: bpf.PassNotCollector},
	{name: "to somebody else, tap", frame: with(type1, l3+19, 10), setup: func(s *setup) { s.config.AnyDestination = 1 }, want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},

	// IPv6.
	{name: "ip6", frame: eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip6 short", frame: eth(0x86dd, ip6(47))[:53], want: bpf.PassBadIP},
	{name: "ip6 version 4", frame: with(eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), l3, 0x40), want: bpf.PassBadIP},
	{name: "ip6 payload length 0", frame: with(eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), l3+4, 0, 0), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip6 padding behind", frame: eth(0x86dd, ip6(47, gre(0, 0x88be), inside), make([]byte, 4)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip6 clipped", frame: cut(eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), 1), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, cut(inside, 1), flags(bpf.RecordClipped)), inner: cut(inside, 1)},
	{name: "ip6 to somebody else", frame: with(eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), l3+39, 10), want: bpf.PassNotCollector},
	{name: "ip6 six extensions", frame: eth(0x86dd, ip6(0, extension(43), extension(60), extension(60), extension(60), extension(60), wideExtension(47), gre(0, 0x88be), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip6 seven extensions", frame: eth(0x86dd, ip6(0, extension(43), extension(60), extension(60), extension(60), extension(60), extension(60), extension(47), gre(0, 0x88be), inside)), want: bpf.PassNotTunnel},
	{name: "ip6 extension short", frame: eth(0x86dd, ip6(60, extension(47)[:7])), want: bpf.PassBadIP},
	{name: "ip6 extension longer than the packet", frame: eth(0x86dd, ip6(60, wideExtension(47)[:15])), want: bpf.PassBadIP},
	{name: "ip6 atomic fragment", frame: eth(0x86dd, ip6(44, fragment6(47, 0, false), gre(0, 0x88be), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "ip6 fragment header short", frame: eth(0x86dd, ip6(44, fragment6(47, 0, false)[:7])), want: bpf.PassBadIP},
	{name: "ip6 fragment of ICMP", frame: eth(0x86dd, ip6(44, fragment6(58, 0, true), make([]byte, 8))), want: bpf.PassFragment},
	{name: "ip6 fragment of an extension header", frame: eth(0x86dd, ip6(44, fragment6(60, 0, true), extension(47), gre(0, 0x88be), inside)), want: bpf.PassFragment},
	{name: "ip6 no next header", frame: eth(0x86dd, ip6(59)), want: bpf.PassNotTunnel},

	// GRE.
	{name: "gre short", frame: eth(0x0800, ip4(47, gre(0, 0x88be)[:3])), want: bpf.DropGREShort},
	{name: "gre nothing", frame: eth(0x0800, ip4(47)), want: bpf.DropGREShort},
	{name: "gre ends with the IP packet", frame: eth(0x0800, ip4(47, gre(0, 0x88be)[:3]), inside), want: bpf.DropGREShort},
	{name: "pptp", frame: with(type1, l4+1, 1), want: bpf.PassGREVersion},
	{name: "gre version 7", frame: with(type1, l4+1, 7), want: bpf.PassGREVersion},
	{name: "gre mpls", frame: with(type1, l4+2, 0x88, 0x47), want: bpf.PassGREProtocol},
	{name: "gre protocol 0", frame: with(type1, l4+2, 0, 0), want: bpf.PassGREProtocol},
	{name: "gre not accepted", frame: bridged, setup: only(bpf.EncapERSPAN1), want: bpf.PassNotAccepted},
	{name: "type I not accepted", frame: type1, setup: only(bpf.EncapERSPAN2), want: bpf.PassNotAccepted},
	{name: "type II not accepted", frame: type2, setup: only(bpf.EncapERSPAN1), want: bpf.PassNotAccepted},
	{name: "gre routing", frame: with(type1, l4, 0x40), want: bpf.DropGRERouting},
	{name: "gre routing, not accepted", frame: with(type1, l4, 0x40), setup: only(bpf.EncapGRE), want: bpf.PassNotAccepted},
	{name: "gre reserved bits", frame: with(type1, l4, 0x0f, 0xf8), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "gre checksum cut off", frame: eth(0x0800, ip4(47, gre(0x8000, 0x6558), []byte{0, 0, 0})), want: bpf.DropGREShort},
	{name: "gre key cut off", frame: eth(0x0800, ip4(47, gre(0xa000, 0x6558, 0), []byte{0, 0, 0})), want: bpf.DropGREShort},
	{name: "gre sequence cut off", frame: eth(0x0800, ip4(47, gre(0xb000, 0x6558, 0, 0), []byte{0, 0, 0})), want: bpf.DropGREShort},
	{name: "gre checksum, key, sequence", frame: eth(0x0800, ip4(47, gre(0xb000, 0x6558, 0xdead0000, 42, 77), inside)), want: bpf.RedirectInner, record: of(bpf.EncapGRE, inside, sequence(77)), inner: inside},
	{name: "bridging", frame: bridged, want: bpf.RedirectInner, record: of(bpf.EncapGRE, inside), inner: inside},
	{name: "ip", frame: routed, want: bpf.RedirectInner, record: of(bpf.EncapGREIP, insideIP, raw(insideHash)), inner: insideIP},
	{name: "ip6 in gre", frame: eth(0x0800, ip4(47, gre(0, 0x86dd), insideIP6)), want: bpf.RedirectInner, record: of(bpf.EncapGREIP, insideIP6, raw(insideIP6Hash)), inner: insideIP6},
	{name: "ip not accepted", frame: routed, setup: only(bpf.EncapGRE), want: bpf.PassNotAccepted},
	{name: "extra protocol, bridging", frame: with(bridged, l4+2, 0x89, 0x49), setup: extra(0x8949, bpf.EncapGRE), want: bpf.RedirectInner, record: of(bpf.EncapGRE, inside), inner: inside},
	{name: "extra protocol, type I", frame: with(type1, l4+2, 0x89, 0x49), setup: extra(0x8949, bpf.EncapERSPAN2), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "extra protocol, type II", frame: with(type2, l4+2, 0x89, 0x49), setup: extra(0x8949, bpf.EncapERSPAN2), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, tag, sequence(77)), inner: inside},
	{name: "extra protocol, type III", frame: with(type3, l4+2, 0x89, 0x49), setup: extra(0x8949, bpf.EncapERSPAN3), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77)), inner: inside},
	{name: "inner frame of 13 bytes", frame: eth(0x0800, ip4(47, gre(0, 0x6558), inside[:13])), want: bpf.DropInnerShort},
	{name: "inner frame of 14 bytes", frame: eth(0x0800, ip4(47, gre(0, 0x6558), inside[:12], u16(0x88cc))), want: bpf.RedirectInner, record: of(bpf.EncapGRE, inside[:14], hash(insideMACHash)), inner: join(inside[:12], u16(0x88cc))},
	{name: "inner ip nothing", frame: eth(0x0800, ip4(47, gre(0, 0x0800))), want: bpf.DropInnerShort},
	{name: "inner ip of 19 bytes", frame: eth(0x0800, ip4(47, gre(0, 0x0800), insideIP[:19])), want: bpf.DropInnerShort},
	{name: "inner ip6 of 39 bytes", frame: eth(0x0800, ip4(47, gre(0, 0x86dd), insideIP6[:39])), want: bpf.DropInnerShort},
	{name: "inner ip version 5", frame: eth(0x0800, ip4(47, gre(0, 0x0800), with(insideIP, 0, 0x55))), want: bpf.DropInnerShort},

	// ERSPAN.
	{name: "type I", frame: type1, want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "type I with a key", frame: eth(0x0800, ip4(47, gre(0x2000, 0x88be, 42), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "type II", frame: type2, want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, tag, sequence(77)), inner: inside},
	{name: "type II short", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0)[:7])), want: bpf.DropERSPANShort},
	{name: "type II version 2", frame: with(type2, l5, 0x20), want: bpf.DropERSPANVersion},
	{name: "type II ISL", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(1, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, tag, sequence(77)), inner: inside},
	{name: "type II tag removed", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(2, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, tag, sequence(77), flags(bpf.RecordTagRemoved)), inner: inside},
	{name: "type II tag kept", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(3, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, sequence(77), func(r *bpf.Record) { r.Tci = 5<<13 | 100 }), inner: inside},
	{name: "type II truncated", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 1), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN2, inside, tag, sequence(77), flags(bpf.RecordTruncated)), inner: inside},
	{name: "type II inner short", frame: eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0), inside[:13])), want: bpf.DropInnerShort},
	{name: "type III", frame: type3, want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77)), inner: inside},
	{name: "type III without sequence", frame: eth(0x0800, ip4(47, gre(0, 0x22eb), erspan3(0, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock), inner: inside},
	{name: "type III short", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 0)[:11])), want: bpf.DropERSPANShort},
	{name: "type III version 1", frame: with(type3, l5, 0x10), want: bpf.DropERSPANVersion},
	{name: "type III egress, IEEE 1588", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 0x8|2<<1), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), flags(bpf.RecordEgress), func(r *bpf.Record) { r.Granularity = 2 }), inner: inside},
	{name: "type III short frame", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(1, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), flags(bpf.RecordShort)), inner: inside},
	{name: "type III oversized frame", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(2, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), flags(bpf.RecordOversized)), inner: inside},
	{name: "type III bad frame", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(3, 0), inside)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), flags(bpf.RecordBad)), inner: inside},
	{name: "type III truncated", frame: with(type3, l5+2, type3[l5+2]|4), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), flags(bpf.RecordTruncated)), inner: inside},
	{name: "type III subheader", frame: type3sub, want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, inside, tag, clock, sequence(77), func(r *bpf.Record) { r.Platform = 3; r.SourceTime |= 0x12345678 << 32 }), inner: inside},
	{name: "type III subheader short", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 1), platform(3, 0)[:7])), want: bpf.DropERSPANShort},
	{name: "type III of IP", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 2<<10), insideIP)), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN3, insideIP, tag, clock, sequence(77), raw(insideHash)), inner: insideIP},
	{name: "type III of IP, not accepted", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 2<<10), insideIP)), setup: only(bpf.EncapERSPAN3), want: bpf.DropFrameType},
	{name: "type III frame type 7", frame: eth(0x0800, ip4(47, gre(0x1000, 0x22eb, 77), erspan3(0, 7<<10), inside)), want: bpf.DropFrameType},

	// UDP, VXLAN, Geneve.
	{name: "udp short", frame: eth(0x0800, ip4(17, udp(4789)[:7])), want: bpf.PassNotTunnel},
	{name: "dns", frame: with(overlay, l4+2, 0, 53), want: bpf.PassNotTunnel},
	{name: "port 0", frame: with(overlay, l4+2, 0, 0), want: bpf.PassNotTunnel},
	{name: "vxlan source port only", frame: with(overlay, l4, 0x12, 0xb5, 0, 53), want: bpf.PassNotTunnel},
	{name: "udp length 7", frame: with(overlay, l4+4, 0, 7), want: bpf.DropUDPShort},
	{name: "udp length 0", frame: with(overlay, l4+4, 0, 0), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "udp shorter than the IP packet", frame: eth(0x0800, ip4(17, udp(4789, vxlan(8, 5001), inside), make([]byte, 5))), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "udp longer than the IP packet", frame: with(overlay, l4+4, 0xff, 0xff), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "vxlan", frame: overlay, want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "vxlan on 8472", frame: with(overlay, l4+2, 0x21, 0x18), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "vxlan over ip6", frame: eth(0x86dd, ip6(17, udp(4789, vxlan(8, 5001), inside))), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "vxlan not accepted", frame: overlay, setup: only(bpf.EncapGeneve), want: bpf.PassNotTunnel},
	{name: "vxlan short", frame: eth(0x0800, ip4(17, udp(4789, vxlan(8, 5001)[:7]))), want: bpf.DropUDPShort},
	{name: "vxlan without I", frame: with(overlay, l5, 0xf7), want: bpf.DropVXLANFlags},
	{name: "vxlan reserved bits", frame: with(overlay, l5, 0xff, 0xff, 0xff, 0xff), want: bpf.RedirectInner, record: of(bpf.EncapVXLAN, inside), inner: inside},
	{name: "vxlan inner short", frame: eth(0x0800, ip4(17, udp(4789, vxlan(8, 5001), inside[:13]))), want: bpf.DropInnerShort},
	{name: "geneve", frame: generic, want: bpf.RedirectInner, record: of(bpf.EncapGeneve, inside), inner: inside},
	{name: "geneve not accepted", frame: generic, setup: only(bpf.EncapVXLAN), want: bpf.PassNotTunnel},
	{name: "geneve short", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001)[:7]))), want: bpf.DropUDPShort},
	{name: "geneve version 1", frame: with(generic, l5, 0x40), want: bpf.DropGeneveVersion},
	{name: "geneve options", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001, make([]byte, 252)...), inside))), want: bpf.RedirectInner, record: of(bpf.EncapGeneve, inside), inner: inside},
	{name: "geneve options cut off", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001, make([]byte, 8)...)[:15]))), want: bpf.DropUDPShort},
	{name: "geneve critical option", frame: with(eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001, 0, 0, 0x80, 0), inside))), l5+1, 0x40), want: bpf.RedirectInner, record: of(bpf.EncapGeneve, inside, flags(bpf.RecordCritical)), inner: inside},
	{name: "geneve control packet", frame: with(generic, l5+1, 0x80), want: bpf.RedirectInner, record: of(bpf.EncapGeneve, inside), inner: inside},
	{name: "geneve of IP", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x0800, 5001), insideIP))), want: bpf.RedirectInner, record: of(bpf.EncapGeneve, insideIP, raw(insideHash)), inner: insideIP},
	{name: "geneve of IPv6", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x86dd, 5001), insideIP6))), want: bpf.RedirectInner, record: of(bpf.EncapGeneve, insideIP6, raw(insideIP6Hash)), inner: insideIP6},
	{name: "geneve of IP, not accepted", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x0800, 5001), insideIP))), setup: only(bpf.EncapGeneve), want: bpf.DropGeneveProtocol},
	{name: "geneve of NSH", frame: with(generic, l5+2, 0x89, 0x4f), want: bpf.DropGeneveProtocol},
	{name: "geneve inner short", frame: eth(0x0800, ip4(17, udp(6081, geneve(0x6558, 5001), inside[:13]))), want: bpf.DropInnerShort},

	// RSPAN and native.
	{name: "rspan", frame: tagged(inside, 300), setup: rspan, want: bpf.RedirectInner, record: of(bpf.EncapRSPAN, inside), inner: inside},
	{name: "rspan, frame tagged itself", frame: tagged(tagged(inside, 20), 300), setup: rspan, want: bpf.RedirectInner, record: of(bpf.EncapRSPAN, tagged(inside, 20)), inner: tagged(inside, 20)},
	{name: "rspan, second tag", frame: tagged(tagged(inside, 300), 20), setup: rspan, want: bpf.PassNotCollector},
	{name: "rspan, other VLAN", frame: tagged(inside, 301), setup: rspan, want: bpf.PassNotCollector},
	{name: "rspan, not accepted", frame: tagged(inside, 300), setup: func(s *setup) { s.config.RspanVlan = 300 }, want: bpf.PassNotCollector},
	{name: "rspan, nothing behind the tag", frame: tagged(inside[:14], 300), setup: rspan, want: bpf.RedirectInner, record: of(bpf.EncapRSPAN, inside[:14], hash(0)), inner: inside[:14]},
	{name: "rspan, stranger", frame: tagged(inside, 300), setup: func(s *setup) { rspan(s); exporters(true, "203.0.113.0/24")(s) }, want: bpf.RedirectInner, record: of(bpf.EncapRSPAN, inside), inner: inside},
	{name: "native", frame: inside, setup: also(bpf.EncapNative), want: bpf.RedirectInner, record: of(bpf.EncapNative, inside), inner: inside},
	{name: "native of 13 bytes", frame: inside[:13], setup: also(bpf.EncapNative), want: bpf.PassNotIP},
	{name: "native of 14 bytes", frame: with(inside[:14], 12, 0x88, 0xcc), setup: also(bpf.EncapNative), want: bpf.RedirectInner, record: of(bpf.EncapNative, inside[:14], hash(insideMACHash)), inner: with(inside[:14], 12, 0x88, 0xcc)},
	{name: "native, clipped packet", frame: cut(inside, 4), setup: also(bpf.EncapNative), want: bpf.RedirectInner, record: of(bpf.EncapNative, cut(inside, 4)), inner: cut(inside, 4)},
	{name: "native, stranger", frame: inside, setup: func(s *setup) { also(bpf.EncapNative)(s); exporters(true, "203.0.113.0/24")(s) }, want: bpf.RedirectInner, record: of(bpf.EncapNative, inside), inner: inside},
	{name: "native, tunnel", frame: type1, setup: also(bpf.EncapNative), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "native, broken tunnel", frame: with(type2, l5, 0x20), setup: also(bpf.EncapNative), want: bpf.DropERSPANVersion},

	// Exporters.
	{name: "on the list", frame: type1, setup: exporters(true, "192.0.2.0/24"), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "on the list, ip6", frame: eth(0x86dd, ip6(47, gre(0, 0x88be), inside)), setup: exporters(true, "2001:db8::7/128"), want: bpf.RedirectInner, record: of(bpf.EncapERSPAN1, inside), inner: inside},
	{name: "stranger passed", frame: type1, setup: exporters(false, "203.0.113.0/24", "2001:db8::/32"), want: bpf.PassStranger},
	{name: "stranger dropped", frame: type1, setup: exporters(true, "192.0.2.0/30"), want: bpf.DropStranger},
	{name: "stranger, empty list", frame: type1, setup: exporters(true), want: bpf.DropStranger},
}

func extra(protocol uint16, encap bpf.Encap) func(*setup) {
	return func(s *setup) {
		s.config.GreProtocols[7].Protocol = protocol
		s.config.GreProtocols[7].Encap = uint8(encap)
	}
}

// extension is an IPv6 extension header of 8 bytes, wideExtension one of 16.
func extension(next byte) []byte     { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
func wideExtension(next byte) []byte { return join([]byte{next, 1}, make([]byte, 14)) }

// fragment6 is an IPv6 fragment header; offset in bytes.
func fragment6(next byte, offset uint16, more bool) []byte {
	if more {
		offset |= 1
	}
	return join([]byte{next, 0}, u16(offset), u32(0xcafe))
}

// tagged is frame with an 802.1Q tag in it.
func tagged(frame []byte, id uint16) []byte {
	return join(frame[:12], u16(0x8100), u16(id), frame[12:])
}

func TestDecap(t *testing.T) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			if row.setup != nil {
				row.setup(&s)
			}
			e := s.engine()
			frame := slices.Clone(row.frame)
			rec, inner, v := e.Decap(frame, now)
			if v != row.want {
				t.Fatalf("verdict %s, want %s", bpf.VerdictName(v), bpf.VerdictName(row.want))
			}
			if row.record != nil && rec != *row.record {
				t.Errorf("record %+v\nwant   %+v", rec, *row.record)
			}
			if (row.inner == nil) != (inner == nil) || !bytes.Equal(inner, row.inner) {
				t.Errorf("inner % x\nwant  % x", inner, row.inner)
			}
			var want decap.Tallies
			want[row.want] = bpf.Tally{Packets: 1, Bytes: uint64(len(row.frame))}
			if got := e.Frames(); got != want {
				t.Errorf("tallies %v, want %v", got, want)
			}
		})
	}
}

// TestVerdicts holds the table to every verdict there is, but for those that
// only the kernel or a policy can give.
func TestVerdicts(t *testing.T) {
	elsewhere := []bpf.Verdict{
		bpf.VerdictNone, bpf.PassNoSocket, bpf.DropTooBig, bpf.DropStrip,
		bpf.DropPolicy, bpf.DropSampled, bpf.DropLoop, bpf.DropDuplicate,
	}
	rowsOf := map[bpf.Verdict]int{bpf.RedirectFragment: 1} // fragment_test.go
	for _, row := range rows {
		rowsOf[row.want]++
	}
	for v := range bpf.VerdictCount {
		if got, want := rowsOf[v] > 0, !slices.Contains(elsewhere, v); got != want {
			t.Errorf("%s has rows: %v, want %v", bpf.VerdictName(v), got, want)
		}
	}
}
