package flow_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

var (
	clientMAC = []byte{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}
	serverMAC = []byte{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}
	client4   = netip.MustParseAddr("198.51.100.7")
	server4   = netip.MustParseAddr("192.0.2.1")
	client6   = netip.MustParseAddr("2001:db8::7")
	server6   = netip.MustParseAddr("2001:db8::1")
)

func serialize(stack ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...)
	if err != nil {
		panic(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

func ethernet(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: clientMAC, DstMAC: serverMAC, EthernetType: t}
}

func ip4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: client4.AsSlice(), DstIP: server4.AsSlice()}
}

func ip6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: client6.AsSlice(), DstIP: server6.AsSlice()}
}

func udp(source, destination layers.UDPPort, ip gopacket.NetworkLayer) *layers.UDP {
	u := &layers.UDP{SrcPort: source, DstPort: destination}
	if err := u.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	return u
}

// udp4 is the one valid frame of which the rows of the tables are mutations:
// Ethernet, IPv4, UDP from port 40000 to 53, four bytes.
func udp4() []byte {
	ip := ip4(layers.IPProtocolUDP)
	return serialize(ethernet(layers.EthernetTypeIPv4), ip, udp(40000, 53, ip), gopacket.Payload("ping"))
}

func udp6() []byte {
	ip := ip6(layers.IPProtocolUDP)
	return serialize(ethernet(layers.EthernetTypeIPv6), ip, udp(40000, 53, ip), gopacket.Payload("ping"))
}

// shim puts bytes and a new EtherType between the addresses and the old EtherType.
func shim(frame []byte, etherType uint16, between ...byte) []byte {
	out := append([]byte(nil), frame[:12]...)
	out = binary.BigEndian.AppendUint16(out, etherType)
	out = append(out, between...)
	return append(out, frame[12:]...)
}

// set returns the frame with bytes replaced from an offset on.
func set(frame []byte, at int, b ...byte) []byte {
	out := append([]byte(nil), frame...)
	copy(out[at:], b)
	return out
}

// insert6 puts an extension header between IPv6 and what follows.
func insert6(frame []byte, header uint8, extension ...byte) []byte {
	out := append([]byte(nil), frame[:54]...)
	extension[0] = out[20]
	out[20] = header
	out = append(out, extension...)
	out = append(out, frame[54:]...)
	binary.BigEndian.PutUint16(out[18:], binary.BigEndian.Uint16(out[18:])+uint16(len(extension)))
	return out
}

// identity is what makes a flow this one.
type identity struct {
	client, server         string
	clientPort, serverPort uint16
	protocol               uint8
	etherType              uint16
	outer, inner           uint16
	icmpType, icmpCode     uint8
	icmpID                 uint16
}

func identify(f *flow.Flow) identity {
	id := identity{
		clientPort: f.Port[0], serverPort: f.Port[1], protocol: f.Protocol, etherType: f.EtherType,
		outer: f.VLAN[0], inner: f.VLAN[1], icmpType: f.ICMPType, icmpCode: f.ICMPCode, icmpID: f.ICMPID,
	}
	if f.IsIP() {
		id.client, id.server = f.Addr(0).String(), f.Addr(1).String()
	}
	return id
}

func TestFrames(t *testing.T) {
	dns := identity{client: "198.51.100.7", server: "192.0.2.1", clientPort: 40000, serverPort: 53, protocol: 17, etherType: 0x0800}
	dns6 := identity{client: "2001:db8::7", server: "2001:db8::1", clientPort: 40000, serverPort: 53, protocol: 17, etherType: 0x86dd}
	with := func(id identity, change func(*identity)) identity {
		change(&id)
		return id
	}
	vlan := func(outer, inner uint16) func(*identity) {
		return func(id *identity) { id.outer, id.inner = outer, inner }
	}
	portless := func(id *identity) { id.clientPort, id.serverPort = 0, 0 }
	macs := func(etherType uint16) identity { return identity{protocol: 255, etherType: etherType} }

	arp := serialize(ethernet(layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: clientMAC, SourceProtAddress: client4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: server4.AsSlice(),
	})
	tcp := serialize(ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), gopacket.Payload(append(
		[]byte{0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 4, 0, 0, 0, 0, 0}, "data"...)))
	icmp := func(b ...byte) []byte {
		return serialize(ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), gopacket.Payload(append(b, make([]byte, 8-len(b))...)))
	}
	icmp6 := func(b ...byte) []byte {
		return serialize(ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), gopacket.Payload(append(b, make([]byte, 8-len(b))...)))
	}
	protocol := func(p uint8) identity {
		return identity{client: "198.51.100.7", server: "192.0.2.1", protocol: p, etherType: 0x0800}
	}

	for _, test := range []struct {
		name    string
		frame   []byte
		record  bpf.Record
		counter flow.Counter
		want    identity // of a tracked one
	}{
		{"IPv4 UDP", udp4(), bpf.Record{}, flow.Tracked, dns},
		{"IPv6 UDP", udp6(), bpf.Record{}, flow.Tracked, dns6},
		{"IPv4 TCP", tcp, bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol, id.serverPort = 6, 443 })},
		{"answer from a well-known port", set(set(udp4(), 34, 0, 53), 36, 0x9c, 0x40), bpf.Record{}, flow.Tracked,
			with(dns, func(id *identity) { id.client, id.server = id.server, id.client })},
		{"neither port well-known", set(udp4(), 36, 0x20, 0), bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.serverPort = 0x2000 })},
		{"bare IPv4", udp4()[14:], bpf.Record{Flags: bpf.RecordRawIP}, flow.Tracked, dns},
		{"bare IPv6", udp6()[14:], bpf.Record{Flags: bpf.RecordRawIP}, flow.Tracked, dns6},
		{"IPv4 options", func() []byte {
			f := append(append(append([]byte(nil), udp4()[:34]...), 1, 1, 1, 0), udp4()[34:]...)
			return set(set(f, 14, 0x46), 17, 36)
		}(), bpf.Record{}, flow.Tracked, dns},
		{"total length 0", set(udp4(), 16, 0, 0), bpf.Record{}, flow.Tracked, dns},
		{"SCTP", set(udp4(), 23, 132), bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol = 132 })},
		{"DCCP", set(udp4(), 23, 33), bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol = 33 })},
		{"UDP-Lite", set(udp4(), 23, 136), bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol = 136 })},
		{"ESP has no ports", set(udp4(), 23, 50), bpf.Record{}, flow.Tracked, protocol(50)},

		{"echo request", icmp(8, 0, 0, 0, 0x12, 0x34), bpf.Record{}, flow.Tracked, with(protocol(1), func(id *identity) { id.icmpType, id.icmpID = 8, 0x1234 })},
		{"echo reply alone", icmp(0, 0, 0, 0, 0x12, 0x34), bpf.Record{}, flow.Tracked, with(protocol(1), func(id *identity) {
			id.icmpType, id.icmpID = 8, 0x1234
			id.client, id.server = id.server, id.client
		})},
		{"timestamp reply", icmp(14, 0, 0, 0, 0, 9), bpf.Record{}, flow.Tracked, with(protocol(1), func(id *identity) {
			id.icmpType, id.icmpID = 13, 9
			id.client, id.server = id.server, id.client
		})},
		{"address mask request", icmp(17, 0, 0, 0, 0, 9), bpf.Record{}, flow.Tracked, with(protocol(1), func(id *identity) { id.icmpType, id.icmpID = 17, 9 })},
		{"port unreachable", icmp(3, 3), bpf.Record{}, flow.Tracked, with(protocol(1), func(id *identity) { id.icmpType, id.icmpCode = 3, 3 })},
		{"ICMPv6 echo reply", icmp6(129, 0, 0, 0, 0x12, 0x34), bpf.Record{}, flow.Tracked,
			identity{client: "2001:db8::1", server: "2001:db8::7", protocol: 58, etherType: 0x86dd, icmpType: 128, icmpID: 0x1234}},
		{"neighbour solicitation", icmp6(135, 0), bpf.Record{}, flow.Tracked,
			identity{client: "2001:db8::7", server: "2001:db8::1", protocol: 58, etherType: 0x86dd, icmpType: 135}},

		{"802.1Q", shim(udp4(), 0x8100, 0xa0, 100), bpf.Record{}, flow.Tracked, with(dns, vlan(100, 0))},
		{"802.1ad and 802.1Q", shim(shim(udp4(), 0x8100, 0, 7), 0x88a8, 0x1, 0x2c), bpf.Record{}, flow.Tracked, with(dns, vlan(300, 7))},
		{"three tags", shim(shim(shim(udp4(), 0x8100, 0, 3), 0x9100, 0, 2), 0x88a8, 0, 1), bpf.Record{}, flow.Tracked, with(dns, vlan(1, 2))},
		{"priority tag", shim(udp4(), 0x8100, 0xe0, 0), bpf.Record{}, flow.Tracked, dns},
		{"tag removed by the sender", udp4(), bpf.Record{Flags: bpf.RecordVLAN | bpf.RecordTagRemoved, Tci: 0xa000 | 30}, flow.Tracked, with(dns, vlan(30, 0))},
		{"tag removed in front of another", shim(udp4(), 0x8100, 0, 7), bpf.Record{Flags: bpf.RecordVLAN | bpf.RecordTagRemoved, Tci: 30}, flow.Tracked, with(dns, vlan(30, 7))},
		{"VLAN of the header, nothing removed", udp4(), bpf.Record{Flags: bpf.RecordVLAN, Tci: 30}, flow.Tracked, dns},
		{"MPLS", append(append(append([]byte(nil), udp4()[:12]...), 0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64), udp4()[14:]...), bpf.Record{}, flow.Tracked, dns},
		{"MPLS IPv6", append(append(append([]byte(nil), udp6()[:12]...), 0x88, 0x47, 0, 2, 1, 64), udp6()[14:]...), bpf.Record{}, flow.Tracked, dns6},
		{"MPLS pseudowire", append(append(append([]byte(nil), udp4()[:12]...), 0x88, 0x47, 0, 2, 1, 64, 0), udp4()...), bpf.Record{}, flow.Tracked, macs(0x8847)},
		{"PPPoE IPv4", append(append(append([]byte(nil), udp4()[:12]...), 0x88, 0x64, 0x11, 0, 0, 1, 0, 34, 0, 0x21), udp4()[14:]...), bpf.Record{}, flow.Tracked, dns},
		{"PPPoE IPv6", append(append(append([]byte(nil), udp6()[:12]...), 0x88, 0x64, 0x11, 0, 0, 1, 0, 54, 0, 0x57), udp6()[14:]...), bpf.Record{}, flow.Tracked, dns6},
		{"PPPoE LCP", append(append(append([]byte(nil), udp4()[:12]...), 0x88, 0x64, 0x11, 0, 0, 1, 0, 34, 0xc0, 0x21), udp4()[14:]...), bpf.Record{}, flow.Tracked, macs(0x8864)},
		{"VN-Tag", shim(udp4(), 0x8926, 0x80, 0, 0, 0), bpf.Record{}, flow.Tracked, dns},
		{"Cisco MetaData", shim(udp4(), 0x8909, 1, 1, 0, 1, 0, 4), bpf.Record{}, flow.Tracked, dns},
		{"FabricPath", append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x89, 0x03, 0, 0x20}, udp4()...), bpf.Record{}, flow.Tracked, dns},
		{"SNAP", shim(set(udp4(), 12, 8, 0), 46, 0xaa, 0xaa, 3, 0, 0, 0), bpf.Record{}, flow.Tracked, dns},

		{"hop-by-hop", insert6(udp6(), 0, 0, 0, 1, 4, 0, 0, 0, 0), bpf.Record{}, flow.Tracked, dns6},
		{"routing and destination options", insert6(insert6(udp6(), 60, 0, 0, 1, 4, 0, 0, 0, 0), 43, 0, 0, 0, 0, 0, 0, 0, 0), bpf.Record{}, flow.Tracked, dns6},
		{"authentication header", insert6(udp6(), 51, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), bpf.Record{}, flow.Tracked, dns6},
		{"atomic fragment", insert6(udp6(), 44, 0, 0, 0, 0, 0, 0, 0, 1), bpf.Record{}, flow.Tracked, dns6},

		{"ARP", arp, bpf.Record{}, flow.Tracked, macs(0x0806)},
		{"spanning tree", append(append([]byte(nil), udp4()[:12]...), 0, 38, 0x42, 0x42, 3, 0, 0, 0, 0, 0), bpf.Record{}, flow.Tracked, macs(0x42)},

		{"UDP ports cut off", udp4()[:37], bpf.Record{}, flow.Portless, with(dns, portless)},
		{"TCP ports cut off", tcp[:37], bpf.Record{}, flow.Portless, with(protocol(6), portless)},
		{"TCP cut behind the ports", tcp[:38], bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol, id.serverPort = 6, 443 })},
		{"TCP header length 4", set(tcp, 46, 0x10), bpf.Record{}, flow.Tracked, with(dns, func(id *identity) { id.protocol, id.serverPort = 6, 443 })},
		{"ICMP cut off", icmp(8)[:35], bpf.Record{}, flow.Portless, protocol(1)},
		{"echo cut off", icmp(8)[:38], bpf.Record{}, flow.Portless, protocol(1)},
		{"extension cut off", insert6(udp6(), 0, 0, 0, 1, 4, 0, 0, 0, 0)[:60], bpf.Record{}, flow.Portless, with(dns6, portless)},
		{"fragment header cut off", insert6(udp6(), 44, 0, 0, 0, 1, 0, 0, 0, 1)[:60], bpf.Record{}, flow.Portless, with(dns6, func(id *identity) { portless(id); id.protocol = 44 })},
		{"nine extensions", func() []byte {
			f := udp6()
			for range 9 {
				f = insert6(f, 60, 0, 0, 1, 4, 0, 0, 0, 0)
			}
			return f
		}(), bpf.Record{}, flow.Portless, with(dns6, func(id *identity) { portless(id); id.protocol = 60 })},

		{"empty", nil, bpf.Record{}, flow.ShortEthernet, identity{}},
		{"13 bytes", udp4()[:13], bpf.Record{}, flow.ShortEthernet, identity{}},
		{"tag cut off", shim(udp4(), 0x8100, 0, 1)[:17], bpf.Record{}, flow.ShortShim, identity{}},
		{"label cut off", append(append([]byte(nil), udp4()[:12]...), 0x88, 0x47, 0, 1, 1), bpf.Record{}, flow.ShortShim, identity{}},
		{"nothing behind the label", append(append([]byte(nil), udp4()[:12]...), 0x88, 0x47, 0, 1, 1, 64), bpf.Record{}, flow.ShortShim, identity{}},
		{"PPPoE cut off", append(append([]byte(nil), udp4()[:12]...), 0x88, 0x64, 0x11, 0, 0, 1, 0), bpf.Record{}, flow.ShortShim, identity{}},
		{"FabricPath cut off", append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x89, 0x03, 0, 0x20}, udp4()[:13]...), bpf.Record{}, flow.ShortShim, identity{}},
		{"LLC cut off", append(append([]byte(nil), udp4()[:12]...), 0, 38), bpf.Record{}, flow.ShortShim, identity{}},
		{"tags without end", func() []byte {
			f := udp4()
			for range 9 {
				f = shim(f, 0x8100, 0, 1)
			}
			return f
		}(), bpf.Record{}, flow.DeepShims, identity{}},
		{"labels without end", append(append([]byte(nil), udp4()[:12]...), append([]byte{0x88, 0x47}, make([]byte, 80)...)...), bpf.Record{}, flow.DeepShims, identity{}},
		{"IPv4 header cut off", udp4()[:33], bpf.Record{}, flow.ShortIP, identity{}},
		{"IPv4 options cut off", set(udp4(), 14, 0x4f), bpf.Record{}, flow.ShortIP, identity{}},
		{"IPv6 header cut off", udp6()[:53], bpf.Record{}, flow.ShortIP, identity{}},
		{"bare nothing", nil, bpf.Record{Flags: bpf.RecordRawIP}, flow.ShortIP, identity{}},
		{"IPv4 that says 5", set(udp4(), 14, 0x55), bpf.Record{}, flow.BadIP, identity{}},
		{"IPv4 header of 16 bytes", set(udp4(), 14, 0x44), bpf.Record{}, flow.BadIP, identity{}},
		{"IPv6 that says 4", set(udp6(), 14, 0x40), bpf.Record{}, flow.BadIP, identity{}},
		{"outer fragment", udp4(), bpf.Record{Flags: bpf.RecordFragment}, flow.OuterFragment, identity{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := newTable(t, patient())
			test.record.Feed = 1
			table.Observe(&test.record, test.frame, len(test.frame), 1e18)
			flows, got := drain(table)

			tracked := test.counter == flow.Tracked || test.counter == flow.Portless
			want := flow.Counters{}
			want[test.counter] = 1
			if tracked {
				want[flow.Tracked], want[flow.Created], want[flow.EndedForced], want[flow.Emitted] = 1, 1, 1, 1
			}
			if got != want {
				t.Errorf("counters %v, want %v", got, want)
			}
			if !tracked {
				return
			}
			if len(flows) != 1 {
				t.Fatalf("%d flows", len(flows))
			}
			f := &flows[0]
			if id := identify(f); id != test.want {
				t.Errorf("flow\n got %+v\nwant %+v", id, test.want)
			}
			if f.Packets[0]+f.Packets[1] != 1 || f.Bytes[0]+f.Bytes[1] != uint64(len(test.frame)) || f.First != 1e18 || f.Last != 1e18 || f.Feed != [2]uint32{1, 1} {
				t.Errorf("packets %d, bytes %d, first %d, last %d, feed %d", f.Packets, f.Bytes, f.First, f.Last, f.Feed)
			}
		})
	}
}

// TestNotIPOff counts what is not IP when such flows are not wanted.
func TestNotIPOff(t *testing.T) {
	c := patient()
	c.NonIP = false
	table := newTable(t, c)
	frame := set(udp4(), 12, 0x08, 0x06)
	table.Observe(&bpf.Record{Feed: 1}, frame, len(frame), 1)
	flows, got := drain(table)
	if want := (flow.Counters{flow.NotIP: 1}); got != want || len(flows) != 0 {
		t.Errorf("counters %v, want %v; %d flows", got, want, len(flows))
	}
}

// TestBothDirections: whatever the protocol, an answer joins the question's flow.
func TestBothDirections(t *testing.T) {
	icmp := func(ip gopacket.SerializableLayer, e layers.EthernetType, b byte) []byte {
		return serialize(ethernet(e), ip, gopacket.Payload([]byte{b, 0, 0, 0, 0, 7, 0, 1}))
	}
	for _, test := range []struct {
		name     string
		question []byte
		answer   func([]byte) []byte // applied to the mirrored question
	}{
		{"UDP", udp4(), nil},
		{"UDP over IPv6", udp6(), nil},
		{"SCTP", set(udp4(), 23, 132), nil},
		{"ESP", set(udp4(), 23, 50), nil},
		{"ARP", set(udp4(), 12, 0x08, 0x06), nil},
		{"echo", icmp(ip4(layers.IPProtocolICMPv4), layers.EthernetTypeIPv4, 8), func(f []byte) []byte { return set(f, 34, 0) }},
		{"ICMPv6 echo", icmp(ip6(layers.IPProtocolICMPv6), layers.EthernetTypeIPv6, 128), func(f []byte) []byte { return set(f, 54, 129) }},
		{"extended echo", icmp(ip4(layers.IPProtocolICMPv4), layers.EthernetTypeIPv4, 42), func(f []byte) []byte { return set(f, 34, 43) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := newTable(t, patient())
			answer := mirrored(test.question)
			if test.answer != nil {
				answer = test.answer(answer)
			}
			table.Observe(&bpf.Record{Feed: 1}, test.question, 100, 1e18)
			table.Observe(&bpf.Record{Feed: 1}, answer, 200, 1e18+5e6)
			flows, _ := drain(table)
			if len(flows) != 1 {
				t.Fatalf("%d flows", len(flows))
			}
			f := &flows[0]
			if f.Packets != [2]uint64{1, 1} || f.Bytes != [2]uint64{100, 200} {
				t.Errorf("packets %d, bytes %d", f.Packets, f.Bytes)
			}
			if f.MAC != [2][6]byte{[6]byte(clientMAC), [6]byte(serverMAC)} {
				t.Errorf("MAC addresses %x", f.MAC)
			}
			if f.FirstByte != 5e6 {
				t.Errorf("first answer after %d ns", f.FirstByte)
			}
		})
	}
}

// mirrored is the frame with all addresses and ports the other way round.
func mirrored(frame []byte) []byte {
	out := append([]byte(nil), frame...)
	copy(out, frame[6:12])
	copy(out[6:], frame[:6])
	protocol, ports := 23, 34
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		copy(out[26:], frame[30:34])
		copy(out[30:], frame[26:30])
	case 0x86dd:
		protocol, ports = 20, 54
		copy(out[22:], frame[38:54])
		copy(out[38:], frame[22:38])
	default:
		return out
	}
	switch frame[protocol] {
	case 1, 50, 58:
		return out
	}
	copy(out[ports:], frame[ports+2:ports+4])
	copy(out[ports+2:], frame[ports:ports+2])
	return out
}
