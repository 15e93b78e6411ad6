package mirror_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/mirror"
)

// tsharkFields reads one field after the other from each packet; several
// occurrences are joined by commas.
func tsharkFields(t *testing.T, packets [][]byte, fields []string) [][]string {
	t.Helper()
	program, err := exec.LookPath("tshark")
	if err != nil {
		const reason = "no tshark: apt install tshark"
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	path := filepath.Join(t.TempDir(), "feed.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(1700000000+i), 0), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-n", "-r", path, "-T", "fields", "-o", "ip.check_checksum:TRUE", "-o", "ip.defragment:TRUE"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var stderr strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=") // nobody's preferences
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	if len(rows) != len(packets) {
		t.Fatalf("tshark shows %d packets of %d", len(rows), len(packets))
	}
	return rows
}

// tshark reads from every encapsulation what was put in, and the frame inside.
func TestTsharkReadsWhatWasMeant(t *testing.T) {
	const protocols = "frame.protocols"
	rows := []struct {
		name string
		s    mirror.Session
		want map[string]string
	}{
		{"erspan1", session(bpf.EncapERSPAN1, nil), map[string]string{protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data", "gre.flags.sequence_number": "0"}},
		{"erspan2", session(bpf.EncapERSPAN2, func(s *mirror.Session) {
			s.ID, s.VLAN, s.COS, s.En, s.Index = 777, 1234, 5, 1, 0xabcde
		}), map[string]string{
			protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data", "gre.sequence_number": "41", "erspan.version": "1",
			"erspan.spanid": "777", "erspan.vlan": "1234", "erspan.cos": "5", "erspan.encap": "1", "erspan.index": "703710", "erspan.truncated": "0",
		}},
		{"erspan2 with everything in GRE", session(bpf.EncapERSPAN2, func(s *mirror.Session) {
			s.Checksum, s.Keyed, s.Key, s.DSCP, s.DontFragment = true, true, 99, 46, true
		}), map[string]string{
			protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data", "gre.checksum.status": "1", "gre.key": "0x00000063",
			"gre.sequence_number": "41", "ip.dsfield.dscp": "46", "ip.flags.df": "1", "ip.ttl": "64", "ip.checksum.status": "1",
		}},
		{"erspan2 truncated", session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.SnapLength = 40 }), map[string]string{"erspan.truncated": "1"}},
		{"erspan2 behind two tags", session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.OuterVLANs = []uint16{100, 200} }), map[string]string{
			protocols: "eth:ethertype:ieee8021ad:ethertype:vlan:ethertype:ip:gre:erspan:eth:ethertype:data", "ieee8021ad.id": "100", "vlan.id": "200",
		}},
		{"erspan3", session(bpf.EncapERSPAN3, func(s *mirror.Session) {
			s.ID, s.VLAN, s.COS, s.BSO, s.SGT, s.HardwareID, s.Egress, s.Granularity = 1023, 4094, 7, 2, 4711, 42, true, mirror.GranularityNS
		}), map[string]string{
			"erspan.version": "2", "erspan.spanid": "1023", "erspan.vlan": "4094", "erspan.cos": "7", "erspan.bso": "2",
			"erspan.timestamp": "1032178965", "erspan.sgt": "4711", "erspan.hw": "42", "erspan.direction": "1", "erspan.gra": "3", "erspan.o": "0", "erspan.ft": "0",
			protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data",
		}},
		{"erspan3 platform 1", session(bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform, s.SwitchID, s.Port = 1, 4000, 1<<31 }), map[string]string{
			"erspan.platid": "1", "erspan.pid1.vsmid": "4000", "erspan.pid1.port_index": "2147483648", protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data",
		}},
		{"erspan3 platform 3", session(bpf.EncapERSPAN3, func(s *mirror.Session) {
			s.Platform, s.Port, s.Granularity = 3, 16383, mirror.GranularityNS
		}), map[string]string{"erspan.platid": "3", "erspan.pid3.port_index": "16383", "erspan.pid3.timestamp": "395812094"}},
		{"erspan3 platform 4", session(bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform = 4 }), map[string]string{
			"erspan.platid": "4", protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data",
		}},
		{"erspan3 platform 5", session(bpf.EncapERSPAN3, func(s *mirror.Session) {
			s.Platform, s.SwitchID, s.Port, s.Granularity = 5, 1023, 65535, mirror.Granularity1588
		}), map[string]string{
			"erspan.platid": "5", "erspan.pid5.switchid": "1023", "erspan.pid5.port_index": "65535", "erspan.pid5.timestamp": "1700000000",
			"erspan.timestamp": "123456789", "erspan.gra": "2",
		}},
		{"erspan3 platform 6", session(bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform, s.Granularity = 6, mirror.Granularity1588 }), map[string]string{
			"erspan.platid": "6", protocols: "eth:ethertype:ip:gre:erspan:eth:ethertype:data",
		}},
		{"erspan3 platform 7", session(bpf.EncapERSPAN3, func(s *mirror.Session) { s.Platform, s.Port = 7, 1<<20-1 }), map[string]string{
			"erspan.platid": "7", "erspan.pid7.source_index": "1048575", "erspan.pid7.timestamp": "3958120",
		}},
		{"gre with a key", session(bpf.EncapGRE, func(s *mirror.Session) { s.Keyed, s.Key = true, 0x2000000 }), map[string]string{
			protocols: "eth:ethertype:ip:gre:eth:ethertype:data", "gre.key": "0x02000000",
		}},
		{"gre over ipv6 with a limit", session(bpf.EncapGRE, func(s *mirror.Session) {
			outerIPv6(s)
			s.EncapsulationLimit, s.DSCP = 4, 10
		}), map[string]string{
			protocols: "eth:ethertype:ipv6:ipv6.dstopts:gre:eth:ethertype:data", "ipv6.opt.tel": "4", "ipv6.tclass.dscp": "10",
		}},
		{"vxlan", session(bpf.EncapVXLAN, func(s *mirror.Session) { s.Key = 0xabcdef }), map[string]string{
			protocols: "eth:ethertype:ip:udp:vxlan:eth:ethertype:data", "vxlan.vni": "11259375",
		}},
		{"geneve", session(bpf.EncapGeneve, func(s *mirror.Session) { outerIPv6(s); s.Key, s.GeneveOptions = 4096, []byte{1, 2, 0x80, 0} }), map[string]string{
			protocols: "eth:ethertype:ipv6:udp:geneve:eth:ethertype:data", "geneve.vni": "0x001000", "geneve.flags.critical": "1", "geneve.option.length": "4,4",
		}},
		{"rspan", session(bpf.EncapRSPAN, func(s *mirror.Session) { s.ID, s.COS = 901, 3 }), map[string]string{
			protocols: "eth:ethertype:vlan:ethertype:data", "vlan.id": "901", "vlan.priority": "3",
		}},
	}
	fields := []string{}
	column := map[string]int{}
	packets := make([][]byte, len(rows))
	for i, row := range rows {
		packets[i] = mustWrap(t, row.s, innerFrame(t, 80), mirror.Stamp{Number: 41, Time: 1700000000123456789})
		for f := range row.want {
			if _, ok := column[f]; !ok {
				column[f] = len(fields)
				fields = append(fields, f)
			}
		}
	}
	got := tsharkFields(t, packets, append(fields, "_ws.malformed"))
	for i, row := range rows {
		for f, want := range row.want {
			if value := got[i][column[f]]; value != want {
				t.Errorf("%s: %s is %q, want %q", row.name, f, value, want)
			}
		}
		if complaint := got[i][len(fields)]; complaint != "" {
			t.Errorf("%s: malformed: %s", row.name, complaint)
		}
	}
}

// Fragments come together to what was whole, in tshark's hands as in ours.
func TestTsharkReassembles(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*mirror.Session)
	}{
		{"IPv4", func(s *mirror.Session) { s.MTU = 576 }},
		{"IPv4 with options", func(s *mirror.Session) { s.MTU, s.IPOptions = 576, []byte{7, 7, 4, 0, 0, 0, 0, 0, 0x94, 4, 0, 0} }},
		{"IPv6", func(s *mirror.Session) { outerIPv6(s); s.MTU = 1280 }},
		{"IPv6 with a limit", func(s *mirror.Session) { outerIPv6(s); s.MTU, s.EncapsulationLimit = 1280, 4 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := mustWrapper(t, session(bpf.EncapERSPAN2, func(s *mirror.Session) {
				s.ID, s.Checksum = 55, true
				row.change(s)
			}))
			stamp := mirror.Stamp{Number: 0x12345678}
			whole, err := w.Wrap(nil, innerFrame(t, 5000), stamp)
			if err != nil {
				t.Fatal(err)
			}
			var packets [][]byte
			for i, more := 0, true; more; i++ {
				var fragment []byte
				fragment, more = w.AppendFragment(nil, whole, stamp, i)
				packets = append(packets, fragment)
			}
			got := tsharkFields(t, packets, []string{"erspan.spanid", "gre.checksum.status", "data.len", "_ws.malformed", "ip.checksum.status"})
			last := got[len(got)-1]
			if last[0] != "55" || last[1] != "1" || last[2] != "5000" || last[3] != "" {
				t.Errorf("the last fragment gives session %s, GRE checksum %s, %s bytes, malformed %q; want 55, 1, 5000 and none", last[0], last[1], last[2], last[3])
			}
			for i, fields := range got {
				if fields[4] == "0" {
					t.Errorf("fragment %d: IP checksum is wrong", i)
				}
				if i < len(got)-1 && fields[0] != "" {
					t.Errorf("fragment %d is taken for a whole packet", i)
				}
			}
		})
	}
}

// Fragments are as long as the MTU allows and say so: flags, offset, identity.
func TestFragments(t *testing.T) {
	for _, row := range []struct {
		payload int // of the inner frame; 50 bytes more outside, 36 of them in the IP packet
		change  func(*mirror.Session)
		want    string // length, offset and "more" of each
	}{
		{540 - 14, func(s *mirror.Session) { s.MTU = 576 }, "576 0 -"},
		{541 - 14, func(s *mirror.Session) { s.MTU = 576 }, "572 0 more, 25 552 -"},
		{3000, func(s *mirror.Session) { s.MTU = 1500 }, "1500 0 more, 1500 1480 more, 90 2960 -"},
		{3000, func(s *mirror.Session) { s.MTU = 9000 }, "3050 0 -"},
	} {
		s := session(bpf.EncapERSPAN2, row.change)
		w := mustWrapper(t, s)
		whole, err := w.Wrap(nil, innerFrame(t, row.payload), mirror.Stamp{Number: 0xabcd1234})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, more := 0, true; more; i++ {
			var f []byte
			f, more = w.AppendFragment(nil, whole, mirror.Stamp{Number: 0xabcd1234}, i)
			ip := f[14:]
			flags, word := "-", int(ip[6])<<8|int(ip[7])
			if word&0x2000 != 0 {
				flags = "more"
			}
			if id := int(ip[4])<<8 | int(ip[5]); id != 0x1234 {
				t.Errorf("fragment %d has identification %#x, want 0x1234", i, id)
			}
			got = append(got, fmt.Sprint(int(ip[2])<<8|int(ip[3]), " ", word&0x1fff*8, " ", flags))
		}
		if joined := strings.Join(got, ", "); joined != row.want {
			t.Errorf("%d bytes at MTU %d become %s, want %s", row.payload, s.MTU, joined, row.want)
		}
	}
}
