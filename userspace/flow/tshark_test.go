package flow_test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unspan/unspan/userspace/flow"
)

// tshark runs it and returns what it prints.
func tshark(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("tshark")
	if err != nil {
		skip(t, "tshark is not installed: apt-get install tshark")
	}
	out, err := exec.Command(path, append([]string{"-n"}, args...)...).Output()
	if err != nil {
		t.Fatalf("tshark %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// conversation counts packets and bytes by direction; ends are in order.
type conversation struct {
	kind    string
	ends    [2]string
	packets [2]uint64
	bytes   [2]uint64
}

func (c *conversation) order() {
	if c.ends[0] == c.ends[1] { // of one host with itself tshark sees one direction
		c.packets = [2]uint64{c.packets[0] + c.packets[1], 0}
		c.bytes = [2]uint64{c.bytes[0] + c.bytes[1], 0}
	}
	if c.ends[0] > c.ends[1] {
		c.ends[0], c.ends[1] = c.ends[1], c.ends[0]
		c.packets[0], c.packets[1] = c.packets[1], c.packets[0]
		c.bytes[0], c.bytes[1] = c.bytes[1], c.bytes[0]
	}
}

func (c conversation) String() string {
	return fmt.Sprintf("%s -> %s %d/%d, <- %d/%d", c.ends[0], c.ends[1], c.packets[0], c.bytes[0], c.packets[1], c.bytes[1])
}

// dissection is what tshark says of a capture.
type dissection struct {
	streams map[string][]conversation // by kind: tcp, udp, ip, ipv6
	printed map[string][]string       // what "-z conv" prints; it rounds bytes from ten thousand on
	frames  map[int]bool              // numbers of the frames that passed the filter
}

// dissect runs tshark over a capture: once for the fields of each frame, which
// are exact, once for its own conversation tables.
func dissect(t testing.TB, path, filter string, options ...string) dissection {
	t.Helper()
	d := dissection{streams: map[string][]conversation{}, frames: map[int]bool{}}
	found := map[string]*conversation{}
	count := func(kind, from, to, stream string, length uint64) {
		one := conversation{ends: [2]string{from, to}, packets: [2]uint64{1, 0}, bytes: [2]uint64{length, 0}}
		one.order()
		id := kind + " " + one.ends[0] + " " + one.ends[1] + " " + stream
		c := found[id]
		if c == nil {
			c = &conversation{ends: one.ends, kind: kind}
			found[id] = c
		}
		for d := range 2 {
			c.packets[d] += one.packets[d]
			c.bytes[d] += one.bytes[d]
		}
	}
	fields := []string{"frame.number", "frame.len", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
		"tcp.srcport", "tcp.dstport", "tcp.stream", "udp.srcport", "udp.dstport", "udp.stream", "eth.src", "eth.dst"}
	args := append([]string{"-r", path, "-Y", filter, "-T", "fields", "-E", "occurrence=f"}, options...)
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	for line := range strings.Lines(tshark(t, args...)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		number, err := strconv.Atoi(f[0])
		if err != nil {
			t.Fatalf("frame.number %q: %v", f[0], err)
		}
		d.frames[number] = true
		f = f[1:]
		length, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			t.Fatalf("frame.len %q: %v", f[0], err)
		}
		if f[12] != "" {
			count("eth", f[12], f[13], "", length)
		}
		// Only the outermost IP header and what follows it at once: not what
		// an ICMP error quotes or a tunnel carries.
		var kind, transport string
		for layer := range strings.SplitSeq(f[1], ":") {
			if kind == "" && (layer == "ip" || layer == "ipv6") {
				kind = layer
			} else if kind != "" && !strings.HasPrefix(layer, "ipv6.") {
				transport = layer
				break
			}
		}
		from, to := f[2], f[3]
		switch kind {
		case "":
			continue
		case "ipv6":
			from, to = f[4], f[5]
		}
		count(kind, from, to, "", length)
		switch transport {
		case "tcp":
			count("tcp", from+":"+f[6], to+":"+f[7], f[8], length)
		case "udp":
			count("udp", from+":"+f[9], to+":"+f[10], f[11], length)
		}
	}
	for _, c := range found {
		d.streams[c.kind] = append(d.streams[c.kind], *c)
	}
	args = append([]string{"-r", path, "-q"}, options...)
	for _, kind := range []string{"tcp", "udp", "ip", "ipv6", "eth"} {
		args = append(args, "-z", "conv,"+kind+","+filter)
	}
	d.printed = printed(tshark(t, args...))
	return d
}

var convLine = regexp.MustCompile(`(?m)^(\S+)\s+<-> (\S+)\s+(\d+) (\d+) (bytes|kB|MB)\s+(\d+) (\d+) (bytes|kB|MB) `)

// printed are the lines of tshark's conversation tables, by kind.
func printed(output string) map[string][]string {
	kinds := map[string]string{"TCP Conversations": "tcp", "UDP Conversations": "udp", "IPv4 Conversations": "ip", "IPv6 Conversations": "ipv6", "Ethernet Conversations": "eth"}
	all := map[string][]string{}
	kind := ""
	for line := range strings.Lines(output) {
		if k, ok := kinds[strings.TrimSpace(line)]; ok {
			kind = k
			all[kind] = nil
		}
		m := convLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		a, b, back, backBytes, there, thereBytes := m[1], m[2], m[3], m[4]+" "+m[5], m[6], m[7]+" "+m[8]
		if a > b {
			a, b, there, back, thereBytes, backBytes = b, a, back, there, backBytes, thereBytes
		}
		all[kind] = append(all[kind], fmt.Sprintf("%s -> %s %s/%s, <- %s/%s", a, b, there, thereBytes, back, backBytes))
	}
	return all
}

// rounded writes bytes as tshark does.
func rounded(n uint64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 10_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d bytes", n)
}

func (c conversation) rounded() string {
	return fmt.Sprintf("%s -> %s %d/%s, <- %d/%s", c.ends[0], c.ends[1], c.packets[0], rounded(c.bytes[0]), c.packets[1], rounded(c.bytes[1]))
}

// conversations turns flows into conversations of one kind; those without ports
// are summed over everything two hosts said.
func conversations(flows []flow.Flow, kind string) []conversation {
	protocol := map[string]uint8{"tcp": 6, "udp": 17}[kind]
	var all []conversation
	sums := map[[2]string]int{}
	for i := range flows {
		f := &flows[i]
		if kind == "eth" {
			c := conversation{packets: f.Packets, bytes: f.Bytes}
			for side := range 2 {
				c.ends[side] = net.HardwareAddr(f.MAC[side][:]).String()
			}
			all = sum(all, sums, c)
			continue
		}
		if cut := f.Port == [2]uint16{}; protocol != 0 && cut {
			continue // so is tshark's
		}
		if !f.IsIP() || protocol != 0 && f.Protocol != protocol || protocol == 0 && f.IsIPv4() != (kind == "ip") {
			continue
		}
		c := conversation{packets: f.Packets, bytes: f.Bytes}
		for side := range 2 {
			c.ends[side] = f.Addr(side).String()
			if protocol != 0 {
				c.ends[side] += ":" + strconv.Itoa(int(f.Port[side]))
			}
		}
		if protocol == 0 {
			all = sum(all, sums, c)
			continue
		}
		c.order()
		all = append(all, c)
	}
	return all
}

// sum adds a conversation to that of the same ends.
func sum(all []conversation, index map[[2]string]int, c conversation) []conversation {
	c.order()
	n, ok := index[c.ends]
	if !ok {
		index[c.ends] = len(all)
		return append(all, c)
	}
	for d := range 2 {
		all[n].packets[d] += c.packets[d]
		all[n].bytes[d] += c.bytes[d]
	}
	return all
}

func sorted[T fmt.Stringer](list []T) []string {
	var lines []string
	for _, v := range list {
		lines = append(lines, v.String())
	}
	slices.Sort(lines)
	return lines
}

// difference lists the lines of each that the other has not.
func difference(got, want []string) string {
	count := map[string]int{}
	for _, l := range want {
		count[l]++
	}
	var b strings.Builder
	for _, l := range got {
		if count[l]--; count[l] < 0 {
			fmt.Fprintf(&b, "\n  got  %s", l)
		}
	}
	for _, l := range want {
		if count[l] > 0 {
			count[l]--
			fmt.Fprintf(&b, "\n  want %s", l)
		}
	}
	return b.String()
}

// plain are captures in which tshark counts what is counted here: whole frames,
// once each. The filter leaves out frames that it counts twice or not at all.
var plain = []struct{ name, filter, why string }{
	{"mercury_emix.pcap", "not teredo", "tshark counts the inner packet of a tunnel as another conversation"},
	{"suricata_smb2-ntlmssp-negotiateflags.pcap", "frame", ""},
	{"ipfixprobe_mixed.pcap", "frame", ""},
	{"zeek_cisco-fabric-path.pcap", "not cfp", "tshark takes the last four bytes of a FabricPath frame for an FCS, these have none"},
	{"zeek_pppoe-over-qinq.pcap", "frame", ""},
	{"zeek_mixed-vlan-mpls.pcap", "frame", ""},
	{"pcapplusplus_QinQ_802.1_AD.pcapng", "frame", ""},
	{"tcpdump_babel_update_oobr.pcap", "frame", ""},
}

func TestConversationsAreTsharks(t *testing.T) {
	dir := captures(t)
	for _, capture := range plain {
		t.Run(capture.name, func(t *testing.T) {
			path := filepath.Join(dir, capture.name)
			want := dissect(t, path, capture.filter)
			compare(t, path, want, "tcp", "udp", "ip", "ipv6")
		})
	}
}

// TestNotIPAreTsharks compares frames that are not IP by their MAC addresses. An
// IP flow may change its MAC addresses on the way and is not asked for them.
func TestNotIPAreTsharks(t *testing.T) {
	dir := captures(t)
	for _, name := range []string{"mercury_emix.pcap", "suricata_smb2-ntlmssp-negotiateflags.pcap", "ipfixprobe_mixed.pcap"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			compare(t, path, dissect(t, path, "eth and not ip and not ipv6"), "eth")
		})
	}
}

// TestFragmentsAreTsharks compares by addresses: tshark shows a fragmented
// datagram's ports on its last fragment only.
func TestFragmentsAreTsharks(t *testing.T) {
	dir := captures(t)
	for _, name := range []string{
		"pcapplusplus_ip4_fragments.pcap",
		"pcapplusplus_ip6_fragments.pcap",
		"pcapplusplus_frag_with_padding.pcap",
		"suricata_ipv6-malformed-fragments-15.pcap",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			want := dissect(t, path, "frame", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE")
			delete(want.printed, "ipv6") // tshark 4.0 counts but the first fragments there
			compare(t, path, want, "ip", "ipv6")
		})
	}
}

// compare gives the frames that tshark looked at to a table and compares the kinds.
func compare(t *testing.T, path string, want dissection, kinds ...string) {
	t.Helper()
	var frames []captureFrame
	for i, f := range readCapture(t, path) {
		if want.frames[i+1] {
			frames = append(frames, f)
		}
	}
	if len(frames) == 0 || len(frames) != len(want.frames) {
		t.Fatalf("read %d frames, tshark %d", len(frames), len(want.frames))
	}
	flows, counters := observe(t, patient(), frames)
	if counters[flow.RecordsLost] != 0 || counters[flow.EndedEvicted] != 0 {
		t.Fatalf("the table was too small: %v", counters)
	}
	if counters.Frames() != uint64(len(frames)) || counters.Live() != 0 {
		t.Errorf("%d frames counted of %d, %d flows left: %v", counters.Frames(), len(frames), counters.Live(), counters)
	}
	for _, kind := range kinds {
		got := conversations(flows, kind)
		if d := difference(sorted(got), sorted(want.streams[kind])); d != "" {
			t.Errorf("%s against tshark -T fields:%s", kind, d)
		}
		if _, ok := want.printed[kind]; !ok {
			continue
		}
		var lines []string
		for _, c := range got {
			lines = append(lines, c.rounded())
		}
		if d := difference(lines, want.printed[kind]); d != "" {
			t.Errorf("%s against tshark -z conv:%s", kind, d)
		}
	}
}
