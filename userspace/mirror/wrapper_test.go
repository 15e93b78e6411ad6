package mirror_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/mirror"
)

// session is the default one of an encapsulation between the addresses that all
// tests use, with one change.
func session(encap bpf.Encap, change func(*mirror.Session)) mirror.Session {
	s := mirror.DefaultSession(encap)
	s.SourceMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}
	s.DestinationMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}
	s.Source = netip.MustParseAddr("192.0.2.1")
	s.Destination = netip.MustParseAddr("192.0.2.2")
	if change != nil {
		change(&s)
	}
	return s
}

func outerIPv6(s *mirror.Session) {
	s.Source = netip.MustParseAddr("2001:db8::1")
	s.Destination = netip.MustParseAddr("2001:db8::2")
}

func mustWrapper(tb testing.TB, s mirror.Session) *mirror.Wrapper {
	tb.Helper()
	w, err := mirror.NewWrapper(s)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func mustWrap(tb testing.TB, s mirror.Session, inner []byte, stamp mirror.Stamp) []byte {
	tb.Helper()
	packet, err := mustWrapper(tb, s).Wrap(nil, inner, stamp)
	if err != nil {
		tb.Fatal(err)
	}
	return packet
}

// unhex reads hex digits; blanks and line ends are for the eye.
func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The frames that tests mirror: the payload counts up, so that any byte out of
// place shows.
const (
	ethernetHeader = "00005e005311 00005e005312"
	ipv4Header     = "4500 0030 0001 0000 40 fd 0000 c6336401 c6336402"
)

// innerFrame is an Ethernet frame with so many bytes of EtherType 0x88b5 (for
// experiments, IEEE 802) payload.
func innerFrame(tb testing.TB, payload int) []byte {
	frame := unhex(tb, ethernetHeader+"88b5")
	for i := range payload {
		frame = append(frame, byte(i))
	}
	return frame
}

func taggedFrame(tb testing.TB, tci uint16, payload int) []byte {
	frame := innerFrame(tb, payload)
	return slices.Concat(frame[:12], []byte{0x81, 0x00, byte(tci >> 8), byte(tci)}, frame[12:])
}

func ipFrame(tb testing.TB) []byte {
	frame := unhex(tb, ethernetHeader+"0800"+ipv4Header)
	for i := range 28 {
		frame = append(frame, byte(i))
	}
	return frame
}

// The headers are spelled out here from the documents, so that the writer and
// the expectation have nothing in common.
func TestWrapWritesTheHeader(t *testing.T) {
	const outerEthernet = "00005e005302 00005e005301"
	for _, row := range []struct {
		name  string
		s     mirror.Session
		inner []byte
		want  string // up to the inner frame
		skip  int    // bytes of the inner frame that are not carried
	}{
		{
			name: "ERSPAN I", s: session(bpf.EncapERSPAN1, nil), inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 0058 0007 0000 40 2f f66c c0000201 c0000202  0000 88be",
		},
		{
			name: "ERSPAN II",
			s: session(bpf.EncapERSPAN2, func(s *mirror.Session) {
				s.ID, s.VLAN, s.COS, s.En, s.Index = 0x2a5, 0x123, 5, 1, 0xabcde
			}),
			inner: innerFrame(t, 50),
			want:  outerEthernet + "0800 4500 0064 0007 0000 40 2f f660 c0000201 c0000202  1000 88be 00000007  1123 aaa5 000abcde",
		},
		{
			name: "ERSPAN II, key, checksum, tags, DSCP, DF, TTL",
			s: session(bpf.EncapERSPAN2, func(s *mirror.Session) {
				s.Checksum, s.Keyed, s.Key = true, true, 0xdeadbeef
				s.OuterVLANs = []uint16{0x6064, 0x00c8}
				s.DSCP, s.DontFragment, s.TTL = 46, true, 255
			}),
			inner: innerFrame(t, 0),
			want: outerEthernet + "88a8 6064 8100 00c8 0800 45b8 003a 0007 4000 ff 2f f6d1 c0000201 c0000202" +
				"b000 88be 2ec1 0000 deadbeef 00000007  1000 0001 00000000",
		},
		{
			name: "ERSPAN III, 100 us",
			s: session(bpf.EncapERSPAN3, func(s *mirror.Session) {
				s.ID, s.VLAN, s.COS, s.BSO, s.SGT, s.HardwareID, s.Egress = 0x3ff, 0xffe, 7, 3, 0xcafe, 0x2a, true
				s.Granularity = mirror.Granularity100us
			}),
			inner: innerFrame(t, 50),
			// 1700000000.123456789 s are 17000000001234 ticks: 0xf761ef614d2.
			want: outerEthernet + "0800 4500 0068 0007 0000 40 2f f65c c0000201 c0000202  1000 22eb 00000007" +
				"2ffe fbff 1ef614d2 cafe 02a8",
		},
		{
			name: "ERSPAN III, platform 3, ns, no sequence",
			s: session(bpf.EncapERSPAN3, func(s *mirror.Session) {
				s.Granularity, s.Platform, s.Port, s.Sequenced = mirror.GranularityNS, 3, 0x3abc, false
			}),
			inner: innerFrame(t, 50),
			// 1700000000123456789 is 0x17979cfe 3d85cd15.
			want: outerEthernet + "0800 4500 006c 0007 0000 40 2f f658 c0000201 c0000202  0000 22eb" +
				"2000 0001 3d85cd15 0000 0007 0c003abc 17979cfe",
		},
		{
			name: "ERSPAN III, platform 5, IEEE 1588",
			s: session(bpf.EncapERSPAN3, func(s *mirror.Session) {
				s.Granularity, s.Platform, s.SwitchID, s.Port = mirror.Granularity1588, 5, 0x3ff, 0x1234
			}),
			inner: innerFrame(t, 50),
			// 123456789 ns and 1700000000 s.
			want: outerEthernet + "0800 4500 0070 0007 0000 40 2f f654 c0000201 c0000202  1000 22eb 00000007" +
				"2000 0001 075bcd15 0000 0005 17ff1234 6553f100",
		},
		{
			name: "ERSPAN III, platform 7, 100 ps",
			s: session(bpf.EncapERSPAN3, func(s *mirror.Session) {
				s.Granularity, s.Tick, s.Platform, s.Port = mirror.Granularity100us, 100, 7, 0xabcde
			}),
			inner: innerFrame(t, 50),
			// 17000000001234567890 ticks are 0xebec21ee673a02d2.
			want: outerEthernet + "0800 4500 0070 0007 0000 40 2f f654 c0000201 c0000202  1000 22eb 00000007" +
				"2000 0001 673a02d2 0000 0001 1c0abcde ebec21ee",
		},
		{
			name: "ERSPAN III, platform 1",
			s: session(bpf.EncapERSPAN3, func(s *mirror.Session) {
				s.Platform, s.SwitchID, s.Port = 1, 0xabc, 0x12345678
				s.Granularity = mirror.Granularity1588
			}),
			inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 0070 0007 0000 40 2f f654 c0000201 c0000202  1000 22eb 00000007" +
				"2000 0001 075bcd15 0000 0005 04000abc 12345678",
		},
		{
			name:  "ERSPAN III, an IP packet without Ethernet",
			s:     session(bpf.EncapERSPAN3, func(s *mirror.Session) { s.FrameType, s.Granularity = 2, mirror.Granularity1588 }),
			inner: ipFrame(t), skip: 14,
			want: outerEthernet + "0800 4500 0058 0007 0000 40 2f f66c c0000201 c0000202  1000 22eb 00000007" +
				"2000 0001 075bcd15 0000 0804",
		},
		{
			name: "GRE", s: session(bpf.EncapGRE, func(s *mirror.Session) { s.Keyed, s.Key = true, 0x02000000 }), inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 005c 0007 0000 40 2f f668 c0000201 c0000202  2000 6558 02000000",
		},
		{
			name: "GRE with another protocol", s: session(bpf.EncapGRE, func(s *mirror.Session) { s.Protocol, s.Sequenced = 0x8949, true }), inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 005c 0007 0000 40 2f f668 c0000201 c0000202  1000 8949 00000007",
		},
		{
			name: "GRE with an IP packet", s: session(bpf.EncapGREIP, nil), inner: ipFrame(t), skip: 14,
			want: outerEthernet + "0800 4500 0048 0007 0000 40 2f f67c c0000201 c0000202  0000 0800",
		},
		{
			name: "over IPv6 with an encapsulation limit",
			s: session(bpf.EncapERSPAN2, func(s *mirror.Session) {
				outerIPv6(s)
				s.EncapsulationLimit, s.DSCP = 4, 46
			}),
			inner: innerFrame(t, 50),
			want: outerEthernet + "86dd 6b800000 0058 3c 40 20010db8000000000000000000000001 20010db8000000000000000000000002" +
				"2f00 0401 0401 0100  1000 88be 00000007  1000 0001 00000000",
		},
		{
			name: "IPv4 options", s: session(bpf.EncapERSPAN1, func(s *mirror.Session) { s.IPOptions = []byte{0x94, 4, 0, 0} }), inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4600 005c 0007 0000 40 2f 6164 c0000201 c0000202 94040000  0000 88be",
		},
		{
			name: "VXLAN", s: session(bpf.EncapVXLAN, func(s *mirror.Session) { s.Key = 0xabcdef }), inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 0064 0007 0000 40 11 f67e c0000201 c0000202  PORT 12b5 0050 0000  08000000 abcdef00",
		},
		{
			name: "Geneve",
			s: session(bpf.EncapGeneve, func(s *mirror.Session) {
				s.Key, s.GeneveOptions, s.UDPPort = 0x123456, []byte{0x01, 0x02, 0x80, 1, 1, 2, 3, 4}, 9999
			}),
			inner: innerFrame(t, 50),
			want: outerEthernet + "0800 4500 006c 0007 0000 40 11 f676 c0000201 c0000202  PORT 270f 0058 0000" +
				"0240 6558 12345600 01028001 01020304",
		},
		{
			name: "RSPAN", s: session(bpf.EncapRSPAN, func(s *mirror.Session) { s.ID, s.COS = 901, 3 }), inner: innerFrame(t, 50), skip: 12,
			want: ethernetHeader + "8100 6385",
		},
		{name: "native", s: session(bpf.EncapNative, nil), inner: innerFrame(t, 50)},
	} {
		t.Run(row.name, func(t *testing.T) {
			packet := mustWrap(t, row.s, row.inner, mirror.Stamp{Number: 7, Time: 1700000000123456789})
			want := row.want
			if strings.Contains(want, "PORT") {
				port := packet[34:36]
				if port[0] < 0xc0 {
					t.Errorf("source port %d is not a dynamic one", binary.BigEndian.Uint16(port))
				}
				want = strings.Replace(want, "PORT", hex.EncodeToString(port), 1)
			}
			header := unhex(t, want)
			wantPacket := append(header, row.inner[row.skip:]...)
			if !slices.Equal(packet, wantPacket) {
				t.Errorf("packet\n%x, want\n%x", packet, wantPacket)
			}
		})
	}
}

func TestTags(t *testing.T) {
	const tci = 0xa064 // COS 5, VLAN 100
	tagged, untagged := taggedFrame(t, tci, 60), innerFrame(t, 60)
	for _, row := range []struct {
		name          string
		encap         bpf.Encap
		tags          mirror.Tags
		inner         []byte
		vlan, cos, en uint16
		carried       []byte
	}{
		{"literal, tagged", bpf.EncapERSPAN2, mirror.TagsLiteral, tagged, 7, 1, 1, tagged},
		{"kept, tagged", bpf.EncapERSPAN2, mirror.TagsKept, tagged, 100, 5, 3, tagged},
		{"kept, untagged", bpf.EncapERSPAN2, mirror.TagsKept, untagged, 7, 1, 1, untagged},
		{"stripped, tagged", bpf.EncapERSPAN2, mirror.TagsStripped, tagged, 100, 5, 2, untagged},
		{"stripped, untagged", bpf.EncapERSPAN2, mirror.TagsStripped, untagged, 7, 1, 1, untagged},
		{"III kept, tagged: no En, BSO stays", bpf.EncapERSPAN3, mirror.TagsKept, tagged, 100, 5, 2, tagged},
		{"III stripped, tagged", bpf.EncapERSPAN3, mirror.TagsStripped, tagged, 100, 5, 2, untagged},
	} {
		t.Run(row.name, func(t *testing.T) {
			packet := mustWrap(t, session(row.encap, func(s *mirror.Session) {
				s.Tags, s.VLAN, s.COS, s.En, s.BSO = row.tags, 7, 1, 1, 2
			}), row.inner, mirror.Stamp{})
			erspan := packet[42:]
			first, second := binary.BigEndian.Uint16(erspan), binary.BigEndian.Uint16(erspan[2:])
			if vlan, cos, en := first&0xfff, second>>13, second>>11&3; vlan != row.vlan || cos != row.cos || en != row.en {
				t.Errorf("VLAN %d, COS %d, En %d, want %d, %d, %d", vlan, cos, en, row.vlan, row.cos, row.en)
			}
			header := 8
			if row.encap == bpf.EncapERSPAN3 {
				header = 12
			}
			if carried := erspan[header:]; !slices.Equal(carried, row.carried) {
				t.Errorf("carried %x, want %x", carried, row.carried)
			}
		})
	}
}

func TestLength(t *testing.T) {
	inner := innerFrame(t, 1486)
	fcs := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(inner))
	const erspan2 = 50 // bytes in front of the frame
	for _, row := range []struct {
		name      string
		inner     []byte
		change    func(*mirror.Session)
		carried   int
		truncated bool
		tail      []byte
	}{
		{"whole", inner, nil, 1500, false, inner[1490:]},
		{"snap length", inner, func(s *mirror.Session) { s.SnapLength = 128 }, 128, true, inner[120:128]},
		{"snap length just right", inner, func(s *mirror.Session) { s.SnapLength = 1500 }, 1500, false, nil},
		{"FCS", inner, func(s *mirror.Session) { s.FCS = true }, 1504, false, fcs},
		{"FCS cut off", inner, func(s *mirror.Session) { s.FCS, s.SnapLength = true, 1502 }, 1502, true, fcs[:2]},
		{"truncated to the MTU", inner, func(s *mirror.Session) { s.MTU, s.Oversize = 1500, mirror.OversizeTruncate }, 1464, true, inner[1460:1464]},
		{"fits the MTU", inner[:1464], func(s *mirror.Session) { s.MTU, s.Oversize = 1500, mirror.OversizeDrop }, 1464, false, nil},
		{"shortest frame", inner[:14], nil, 14, false, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			packet := mustWrap(t, session(bpf.EncapERSPAN2, row.change), row.inner, mirror.Stamp{})
			if carried := len(packet) - erspan2; carried != row.carried {
				t.Errorf("%d bytes carried, want %d", carried, row.carried)
			}
			if total := int(binary.BigEndian.Uint16(packet[16:])); total != len(packet)-14 {
				t.Errorf("IP length %d in a packet of %d bytes", total, len(packet)-14)
			}
			if truncated := packet[44]&0x04 != 0; truncated != row.truncated {
				t.Errorf("T is %v, want %v", truncated, row.truncated)
			}
			if tail := packet[len(packet)-len(row.tail):]; !slices.Equal(tail, row.tail) {
				t.Errorf("ends in %x, want %x", tail, row.tail)
			}
		})
	}
}

func TestShortPacketsArePadded(t *testing.T) {
	frame := ipFrame(t)[:14+20] // 14+20+4+20 bytes once wrapped
	packet := mustWrap(t, session(bpf.EncapGREIP, nil), frame, mirror.Stamp{})
	if len(packet) != 60 {
		t.Errorf("%d bytes, want 60", len(packet))
	}
	if total := binary.BigEndian.Uint16(packet[16:]); total != 44 {
		t.Errorf("IP length %d, want 44: padding is not part of it", total)
	}
}

func TestWrapRefuses(t *testing.T) {
	big := innerFrame(t, 65535)
	for _, row := range []struct {
		name  string
		s     mirror.Session
		inner []byte
		want  error
	}{
		{"a cut Ethernet header", session(bpf.EncapERSPAN2, nil), big[:13], mirror.ErrTooShort},
		{"nothing", session(bpf.EncapNative, nil), nil, mirror.ErrTooShort},
		{"no IP in bare IP", session(bpf.EncapGREIP, nil), big[:60], mirror.ErrNotIP},
		{"only a tag in bare IP", session(bpf.EncapGREIP, nil), taggedFrame(t, 1, 0)[:16], mirror.ErrNotIP},
		{"over 65535", session(bpf.EncapERSPAN2, nil), big, mirror.ErrTooLong},
		{"over 65535 on IPv6", session(bpf.EncapVXLAN, outerIPv6), big, mirror.ErrTooLong},
		{"over the MTU, dropped", session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU, s.Oversize = 1500, mirror.OversizeDrop }), big[:1465], mirror.ErrOversize},
		{"over the MTU, DF", session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU, s.DontFragment = 1500, true }), big[:1465], mirror.ErrOversize},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := []byte("before")
			got, err := mustWrapper(t, row.s).Wrap(before, row.inner, mirror.Stamp{})
			if !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
			if string(got) != "before" {
				t.Errorf("dst is now %q", got)
			}
		})
	}
}

func TestSessionIsRefused(t *testing.T) {
	for _, row := range []struct {
		encap  bpf.Encap
		change func(*mirror.Session)
		want   string
	}{
		{bpf.EncapNone, nil, "encap"},
		{bpf.EncapCount, nil, "encap"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.ID = 1024 }, "session id 1024"},
		{bpf.EncapRSPAN, func(s *mirror.Session) { s.ID = 4095 }, "session id 4095"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.VLAN = 4096 }, "vlan 4096"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.COS = 8 }, "cos 8"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.En = 4 }, "en 4"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.Index = 1 << 20 }, "index"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.BSO = 4 }, "bso 4"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.FrameType = 32 }, "frame type 32"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.HardwareID = 64 }, "hardware id 64"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Granularity = 4 }, "granularity 4"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Granularity, s.Tick = mirror.Granularity1588, 1 }, "tick 1"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform = 2 }, "platform 2"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform = 5 }, "1588"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform, s.Port = 3, 1<<14 }, "port 16384"},
		{bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform, s.SwitchID = 1, 1<<12 }, "switch id 4096"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.DSCP = 64 }, "dscp 64"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.TTL = 0 }, "ttl 0"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.SequenceBits = 16 }, "sequence bits 16"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.OuterVLANs = []uint16{1, 2, 3} }, "outer VLANs"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.SnapLength = -1 }, "snap length -1"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU = 500 }, "mtu 500"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { outerIPv6(s); s.MTU = 1279 }, "mtu 1279"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU = 65536 }, "mtu 65536"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.IPOptions = []byte{1} }, "IP options"},
		{bpf.EncapGeneve, func(s *mirror.Session) { s.GeneveOptions = make([]byte, 256) }, "geneve options"},
		{bpf.EncapVXLAN, func(s *mirror.Session) { s.Key = 1 << 24 }, "VNI"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.LoseEvery = 1 }, "lose one in 1"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.DuplicateEvery = -1 }, "duplicate one in -1"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.SourceMAC = nil }, "source MAC"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.Source = netip.Addr{} }, "source and destination"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.Source = netip.MustParseAddr("2001:db8::1") }, "one family"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.Tags = 3 }, "tags 3"},
		{bpf.EncapERSPAN2, func(s *mirror.Session) { s.Oversize = 3 }, "oversize 3"},
	} {
		t.Run(row.want, func(t *testing.T) {
			_, err := mirror.NewWrapper(session(row.encap, row.change))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v does not name %q", err, row.want)
			}
		})
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, row := range []struct {
		bits   int
		number uint32
		want   uint32
	}{
		{32, 0xffffffff, 0xffffffff},
		{32, 0, 0},
		{30, 0x3fffffff, 0x3fffffff},
		{30, 0x40000000, 0},
		{30, 0x40000007, 7},
	} {
		packet := mustWrap(t, session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.SequenceBits = row.bits }), innerFrame(t, 50), mirror.Stamp{Number: row.number})
		if got := binary.BigEndian.Uint32(packet[38:]); got != row.want {
			t.Errorf("number %#x in %d bits is sent as %#x, want %#x", row.number, row.bits, got, row.want)
		}
	}
}

func TestSourcePortFollowsTheFlow(t *testing.T) {
	w := mustWrapper(t, session(bpf.EncapVXLAN, nil))
	port := func(change func(ip []byte)) uint16 {
		frame := ipFrame(t)
		change(frame[14:])
		packet, err := w.Wrap(nil, frame, mirror.Stamp{})
		if err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.Uint16(packet[34:])
	}
	first := port(func([]byte) {})
	if again := port(func(ip []byte) { ip[4]++; ip[8]--; ip[40]++ }); again != first {
		t.Errorf("another packet of the flow has port %d, want %d", again, first)
	}
	if other := port(func(ip []byte) { ip[15]++ }); other == first {
		t.Errorf("another address has the same port %d", other)
	}
	if other := port(func(ip []byte) { ip[21]++ }); other == first {
		t.Errorf("another port has the same port %d", other)
	}
}

func TestWrapDoesNotAllocate(t *testing.T) {
	inner := innerFrame(t, 1486)
	dst := make([]byte, 0, 2048)
	for _, encap := range []bpf.Encap{bpf.EncapERSPAN1, bpf.EncapERSPAN2, bpf.EncapERSPAN3, bpf.EncapGRE, bpf.EncapVXLAN, bpf.EncapGeneve, bpf.EncapRSPAN, bpf.EncapNative} {
		w := mustWrapper(t, session(encap, func(s *mirror.Session) { s.Checksum, s.MTU = true, 600 }))
		fragment := make([]byte, 0, 2048)
		if n := testing.AllocsPerRun(100, func() {
			packet, err := w.Wrap(dst, inner, mirror.Stamp{})
			if err != nil {
				t.Fatal(err)
			}
			w.AppendFragment(fragment, packet, mirror.Stamp{}, 1)
		}); n != 0 {
			t.Errorf("%s: %v allocations", bpf.EncapName(encap), n)
		}
	}
}

func BenchmarkWrap(b *testing.B) {
	for _, size := range []int{64, 512, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := mustWrapper(b, session(bpf.EncapERSPAN2, nil))
			inner := innerFrame(b, size-14)
			dst := make([]byte, 0, 2048)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := w.Wrap(dst, inner, mirror.Stamp{Number: uint32(i)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
