package traffic_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/userspace/traffic"
)

func config() traffic.Config {
	cfg := traffic.Default()
	cfg.Conversations, cfg.Jumbo = 200, true
	return cfg
}

func TestSameSeedSameTraffic(t *testing.T) {
	equal := func(a, b traffic.Packet) bool { return a.Time == b.Time && bytes.Equal(a.Data, b.Data) }
	first, second := traffic.Mix(config()), traffic.Mix(config())
	if !slices.EqualFunc(first, second, equal) {
		t.Error("the same seed gives other packets")
	}
	cfg := config()
	cfg.Seed++
	if slices.EqualFunc(first, traffic.Mix(cfg), equal) {
		t.Error("another seed gives the same packets")
	}
	if !slices.IsSortedFunc(first, func(a, b traffic.Packet) int { return int(a.Time - b.Time) }) {
		t.Error("packets are not in the order of time")
	}
}

// Every layer of every packet decodes, says what it contains and has the right
// lengths and checksums: written again from the decoded fields it is the same.
func TestPacketsDecodeAndAreExact(t *testing.T) {
	all := slices.Concat(
		traffic.Frames(traffic.Mix(config())),
		traffic.Load{Seed: 3, Sizes: traffic.IMIX(), Flows: 100, Frames: 1000}.Make(),
	)
	kinds := map[gopacket.LayerType]int{}
	for i, frame := range all {
		packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		if e := packet.ErrorLayer(); e != nil && packet.Layer(layers.LayerTypeDot1Q) == nil {
			t.Fatalf("packet %d: %v: %x", i, e.Error(), frame)
		}
		for _, layer := range packet.Layers() {
			kinds[layer.LayerType()]++
			check(t, i, packet, layer)
		}
	}
	for _, want := range []gopacket.LayerType{
		layers.LayerTypeARP, layers.LayerTypeDNS, layers.LayerTypeDot1Q, layers.LayerTypeICMPv4,
		layers.LayerTypeICMPv6Echo, layers.LayerTypeICMPv6NeighborAdvertisement, layers.LayerTypeICMPv6NeighborSolicitation,
		layers.LayerTypeIGMP, layers.LayerTypeIPv4, layers.LayerTypeIPv6, layers.LayerTypeLinkLayerDiscovery,
		layers.LayerTypeSTP, layers.LayerTypeTCP, layers.LayerTypeUDP, gopacket.LayerTypeFragment,
	} {
		if kinds[want] == 0 {
			t.Errorf("no %v; there are %v", want, slices.Collect(maps.Keys(kinds)))
		}
	}
}

// check writes a layer again and compares.
func check(t *testing.T, i int, packet gopacket.Packet, layer gopacket.Layer) {
	t.Helper()
	again, ok := layer.(gopacket.SerializableLayer)
	if !ok {
		return
	}
	payload := layer.LayerPayload()
	switch l := layer.(type) {
	case *layers.TCP:
		l.SetNetworkLayerForChecksum(packet.NetworkLayer())
	case *layers.UDP:
		if l.Length < 8 || int(l.Length) > len(l.Contents)+len(payload) {
			return // the first fragment of a datagram
		}
		l.SetNetworkLayerForChecksum(packet.NetworkLayer())
	case *layers.ICMPv6:
		l.SetNetworkLayerForChecksum(packet.NetworkLayer())
	case *layers.IPv4, *layers.IPv6, *layers.ICMPv4, *layers.ARP, *layers.Dot1Q:
	default:
		return
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, again, gopacket.Payload(payload)); err != nil {
		t.Fatalf("packet %d: %v: %v", i, layer.LayerType(), err)
	}
	if want := slices.Concat(layer.LayerContents(), payload); !bytes.Equal(buf.Bytes(), want) {
		t.Errorf("packet %d: %v is\n%x, want\n%x", i, layer.LayerType(), want, buf.Bytes())
	}
}

func TestAddressesAreForDocumentation(t *testing.T) {
	allowed := []netip.Prefix{
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("233.252.0.0/24"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("ff02::/16"),
	}
	for i, frame := range traffic.Frames(traffic.Mix(config())) {
		if source := frame[6:12]; !bytes.Equal(source[:5], []byte{0, 0, 0x5e, 0, 0x53}) {
			t.Fatalf("packet %d comes from %x", i, source)
		}
		network := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer()
		if network == nil {
			continue
		}
		source, destination := network.NetworkFlow().Endpoints()
		for _, end := range []gopacket.Endpoint{source, destination} {
			address, _ := netip.AddrFromSlice(end.Raw())
			if !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(address) }) {
				t.Fatalf("packet %d has address %v", i, address)
			}
		}
	}
}

func TestFrameLengths(t *testing.T) {
	lengths := map[int]int{}
	for _, frame := range traffic.Frames(traffic.Mix(config())) {
		lengths[len(frame)]++
	}
	for _, want := range []int{54, 60, 1514, 1518, 1522, 9014} {
		if lengths[want] == 0 {
			t.Errorf("no frame of %d bytes", want)
		}
	}
	for length, n := range lengths {
		if length < 42 || length > 9014 {
			t.Errorf("%d frames of %d bytes", n, length)
		}
	}
}

func TestLoad(t *testing.T) {
	frames := traffic.Load{Seed: 1, Sizes: []int{64, 1400, 10}, Flows: 7, Frames: 70}.Make()
	pairs := map[string]int{}
	for i, frame := range frames {
		if want := []int{64, 1400, traffic.MinSize}[i%3]; len(frame) != want {
			t.Errorf("frame %d has %d bytes, want %d", i, len(frame), want)
		}
		packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		pairs[fmt.Sprint(packet.NetworkLayer().NetworkFlow(), packet.TransportLayer().TransportFlow())]++
	}
	if len(pairs) != 14 {
		t.Errorf("%d one-way flows, want both ways of 7", len(pairs))
	}
	for pair, n := range pairs {
		if n != 5 {
			t.Errorf("%s has %d frames, want 5", pair, n)
		}
	}
	sum := 0
	for _, size := range traffic.IMIX() {
		sum += size
	}
	if average := sum / len(traffic.IMIX()); average != 360 {
		t.Errorf("IMIX is %d bytes on average, want 360", average)
	}
}

// tshark finds the applications and nothing to complain about.
func TestTsharkIsContent(t *testing.T) {
	packets := traffic.Mix(config())
	path := filepath.Join(t.TempDir(), "mix.pcap")
	if err := os.WriteFile(path, pcap(t, time.Unix(1735689600, 0), packets), 0o600); err != nil {
		t.Fatal(err)
	}
	complaints := tshark(t, path, "-Y", "_ws.malformed || _ws.expert.severity >= error || ip.checksum.status == 0 || "+
		"tcp.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || "+
		"tcp.analysis.lost_segment || tcp.analysis.retransmission || tcp.analysis.out_of_order || tcp.analysis.ack_lost_segment")
	if complaints != "" {
		t.Errorf("tshark complains:\n%s", complaints)
	}
	fields := []string{
		"tls.handshake.extensions_server_name", "tls.handshake.type", "tls.app_data", "http.request.method", "http.response.code",
		"dns.a", "dns.aaaa", "icmp.type", "icmpv6.nd.na.target_address", "arp.opcode", "lldp.tlv.system.name", "stp.root.hw", "igmp.maddr",
		"ieee8021ad.id", "vlan.id", "ip.reassembled.length", "tcp.segment.count", "tcp.connection.rst",
	}
	args := []string{"-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	seen := make([]map[string]bool, len(fields))
	for line := range strings.Lines(tshark(t, path, args...)) {
		for i, value := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			if seen[i] == nil {
				seen[i] = map[string]bool{}
			}
			seen[i][value] = true
		}
	}
	want := map[string]string{
		"tls.handshake.extensions_server_name": "www.example.com", "tls.handshake.type": "2", "http.request.method": "GET",
		"http.response.code": "200", "dns.aaaa": "2001:db8:2::80", "icmp.type": "0", "arp.opcode": "2",
		"lldp.tlv.system.name": "switch.example", "stp.root.hw": "00:00:5e:00:53:fd", "ieee8021ad.id": "1001", "vlan.id": "100",
		"ip.reassembled.length": "4008",
	}
	for i, f := range fields {
		value, named := want[f]
		if named && !seen[i][value] || len(seen[i]) < 2 { // what is not empty, and the rest
			t.Errorf("tshark sees no %s %s, only %v", f, value, slices.Sorted(maps.Keys(seen[i])))
		}
	}
}

func tshark(t *testing.T, path string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("tshark")
	if err != nil {
		const reason = "no tshark: apt install tshark"
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	var stderr strings.Builder
	cmd := exec.Command(program, append([]string{"-n", "-r", path, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}, args...)...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=") // nobody's preferences
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return string(out)
}

// pcap is a capture file with nanoseconds.
func pcap(t *testing.T, start time.Time, packets []traffic.Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: start.Add(p.Time), CaptureLength: len(p.Data), Length: len(p.Data)}, p.Data); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
