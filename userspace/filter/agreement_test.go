package filter_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/userspace/filter"
)

// expressions are what operators write, and what exercises every kind of instruction.
var expressions = []string{
	"tcp port 443 and host 10.44.44.10",
	"ip", "ip6", "arp", "not arp", "tcp", "udp", "icmp", "icmp6", "sctp",
	"host 10.0.0.1 or host 10.0.0.2 or net 192.168.0.0/16",
	"src net 10.0.0.0/8 and dst net 172.16.0.0/12",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"tcp portrange 1-1023", "port 53", "udp port 4789 or port 6081",
	"vlan", "vlan 100", "vlan and vlan 20 and ip", "vlan and tcp port 80",
	"ether host 00:00:5e:00:53:01", "ether broadcast", "ether multicast", "ether proto 0x88cc",
	"ip6 host 2001:db8::1", "ip6 net 2001:db8::/32", "ip6 proto 6",
	"greater 200", "less 100", "len > 64 and len < 1500", "len = 60",
	"ip[0] & 0xf != 5", "ip[6:2] & 0x1fff = 0", "ip[8] < 64", "ip[2:2] - ip[0] > 1000",
	"tcp[12] >> 4 > 5", "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "udp[8:4] / 256 % 7 = 3",
	"ether[0] * ether[1] > 100", "ip[ip[0] & 15] > 3", "ether[len - 1] = 0", "ether[1400] = 7",
	"ether[3000:4] != 0", "ip proto 47", "proto gre", "mpls", "pppoes", "ip multicast", "ip broadcast or ip multicast",
	"tcp[13] << 3 = 16", "ip[1] << ip[9] > 5", "ip[1] >> ip[9] = 0", "ip[4:2] / ip[1] = 2", "ip[4:2] % ip[9] = 1",
	"icmp[icmptype] = icmp-echo", "net 0.0.0.0/0", "portrange 0-65535", "ether[0] ^ ether[1] | 4 = 5",
}

func compiled(t testing.TB) []*filter.Filter {
	t.Helper()
	needTcpdump(t)
	var all []*filter.Filter
	for _, e := range expressions {
		f, err := filter.Compile(t.Context(), e)
		if err != nil {
			if e == "ip broadcast or ip multicast" && strings.Contains(err.Error(), "netmask") {
				continue // a mirror has no netmask; libpcap says so
			}
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// captured are the frames of every capture file at hand, as they are: outer
// headers are frames too.
func captured(t testing.TB, most int) [][]byte {
	t.Helper()
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("no captures in " + dir + ": set UNSPAN_CAPTURES")
	}
	var frames [][]byte
	for _, file := range files {
		frames = append(frames, framesOf(t, file, most)...)
	}
	return frames
}

func framesOf(t testing.TB, file string, most int) (frames [][]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil || r.LinkType() != layers.LinkTypeEthernet {
		return nil // a malformed file, or no Ethernet: other tests are about those
	}
	for len(frames) < most {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || err != nil {
			break
		}
		frames = append(frames, data)
	}
	return frames
}

// Every filter in the kernel says of every frame what x/net/bpf says of it, whole
// and cut anywhere, behind an offset and not.
func TestKernelAgreesWithVM(t *testing.T) {
	needRoot(t)
	filters := compiled(t)
	frames := captured(t, 12)
	program := mustLoad(t, filters...)
	runs, found := 0, 0
	for i, frame := range frames {
		if len(frame) > 1800 {
			frame = frame[:1800]
		}
		for n, f := range filters {
			for _, cut := range []int{len(frame), (i*7 + n*13) % (len(frame) + 1)} {
				for _, rawIP := range []bool{false, true} {
					part := frame[:cut]
					want := f.Match(part, rawIP)
					got := matches(t, program, asked(n, questionSize+(i*n)%64, part, rawIP))
					if got != want {
						t.Errorf("%q, frame %d cut to %d, raw IP %v: the kernel says %v, x/net/bpf %v\n% x",
							f.Expression, i, cut, rawIP, got, want, part)
					}
					runs++
					if want {
						found++
					}
				}
			}
		}
	}
	if found < runs/50 {
		t.Errorf("%d of %d comparisons match: too few to show anything", found, runs)
	}
	t.Logf("%d filters, %d frames, %d comparisons, %d match", len(filters), len(frames), runs, found)
}

// A frame of several buffers is read where packet pointers do not reach.
func TestMultiBufferFrames(t *testing.T) {
	needRoot(t)
	needTcpdump(t)
	frame := make([]byte, 9000)
	for i := range frame {
		frame[i] = byte(i * 7)
	}
	copy(frame[12:], []byte{8, 0, 0x45})
	for _, at := range []int{0, 14, 2000, 3500, 4000, 4080, 4090, 4096, 5000, 8190, 8996, 8999, 9000, 20000} {
		f := mustCompile(t, fmt.Sprintf("ether[%d] = %d and ether[12:2] = 0x800", at, byte(at*7)))
		program := mustLoad(t, f)
		want := f.Match(frame, false)
		if got := matches(t, program, asked(0, questionSize, frame, false)); got != want {
			t.Errorf("byte %d of 9000: the kernel says %v, x/net/bpf %v", at, got, want)
		}
		if (at < 9000 && at != 14) != want {
			t.Errorf("byte %d: x/net/bpf says %v", at, want)
		}
	}
}
