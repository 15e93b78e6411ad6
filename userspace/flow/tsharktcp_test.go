package flow_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unspan/unspan/userspace/flow"
)

// connection is what tshark says of one TCP stream.
type connection struct {
	ends            [2]string // as the first packet was sent
	first           uint64
	serverRTT       float64 // seconds, 0 when not seen
	clientRTT       float64
	syns            int
	initialRTT      float64
	retransmissions int
	outOfOrder      int
	gaps            int
	zeroWindows     int
	resets          int
	flags           [2]uint8
}

func analyse(t testing.TB, path string) []*connection {
	t.Helper()
	fields := []string{"tcp.stream", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "tcp.flags",
		"tcp.analysis.initial_rtt", "tcp.analysis.ack_rtt", "tcp.analysis.retransmission", "tcp.analysis.out_of_order",
		"tcp.analysis.lost_segment", "tcp.analysis.zero_window", "frame.time_epoch"}
	args := []string{"-r", path, "-Y", "tcp and !icmp", "-T", "fields", "-E", "occurrence=f"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	byStream := map[string]*connection{}
	var all []*connection
	for line := range strings.Lines(tshark(t, args...)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		from, to := f[1]+f[3]+":"+f[5], f[2]+f[4]+":"+f[6]
		c := byStream[f[0]]
		if c == nil {
			c = &connection{ends: [2]string{from, to}, first: nanoseconds(t, f[14])}
			byStream[f[0]] = c
			all = append(all, c)
		}
		flags, err := strconv.ParseUint(f[7], 0, 16)
		if err != nil {
			t.Fatalf("tcp.flags %q: %v", f[7], err)
		}
		direction := 0
		if from != c.ends[0] {
			direction = 1
		}
		c.flags[direction] |= uint8(flags)
		if f[8] != "" && c.initialRTT == 0 {
			c.initialRTT = seconds(t, f[8])
		}
		if flags&0x12 == 0x02 {
			c.syns++
		}
		if f[9] != "" && flags&0x12 == 0x12 {
			c.serverRTT = seconds(t, f[9])
		} else if f[9] != "" && c.serverRTT != 0 && c.clientRTT == 0 {
			c.clientRTT = seconds(t, f[9])
		}
		for _, count := range []struct {
			field string
			to    *int
		}{{f[10], &c.retransmissions}, {f[11], &c.outOfOrder}, {f[12], &c.gaps}, {f[13], &c.zeroWindows}} {
			if count.field != "" {
				*count.to++
			}
		}
		if flags&4 != 0 {
			c.resets++
		}
	}
	return all
}

func seconds(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func nanoseconds(t testing.TB, s string) uint64 {
	t.Helper()
	whole, fraction, _ := strings.Cut(s, ".")
	v, err := strconv.ParseUint(whole+(fraction + "000000000")[:9], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestConnectionsAreTsharks(t *testing.T) {
	dir := captures(t)
	for _, capture := range plain {
		if !strings.HasSuffix(capture.name, ".pcap") || capture.filter == "not cfp" {
			continue
		}
		t.Run(capture.name, func(t *testing.T) {
			path := filepath.Join(dir, capture.name)
			flows, _ := observe(t, patient(), readCapture(t, path))
			var got []*flow.Flow
			for i := range flows {
				if f := &flows[i]; f.Protocol == 6 && f.Port != [2]uint16{} {
					got = append(got, f)
				}
			}
			measured := 0
			for _, c := range analyse(t, path) {
				n := slices.IndexFunc(got, func(f *flow.Flow) bool {
					a, b := fmt.Sprintf("%v:%d", f.Addr(0), f.Port[0]), fmt.Sprintf("%v:%d", f.Addr(1), f.Port[1])
					return f.First == c.first && (c.ends == [2]string{a, b} || c.ends == [2]string{b, a})
				})
				if n < 0 {
					t.Errorf("%v at %d: no flow", c.ends, c.first)
					continue
				}
				f := got[n]
				if c.initialRTT != 0 {
					measured++
				}
				c.compare(t, f)
			}
			t.Logf("%d handshakes compared", measured)
		})
	}
}

func (c *connection) compare(t *testing.T, f *flow.Flow) {
	t.Helper()
	name := fmt.Sprintf("%v %v", c.ends, f.TCPState)
	near := func(what string, got uint64, want float64) {
		if math.Abs(float64(got)/1e9-want) > 1e-6 {
			t.Errorf("%s: %s %d ns, tshark %v s", name, what, got, want)
		}
	}
	if c.serverRTT != 0 && c.syns == 1 { // tshark takes the oldest SYN, here it is the newest
		near("server RTT", f.ServerRTT, c.serverRTT)
	}
	if c.clientRTT != 0 {
		near("client RTT", f.ClientRTT, c.clientRTT)
	}
	if c.initialRTT != 0 && f.TCPState != flow.StateReset { // tshark takes a refusal for a handshake
		near("handshake", f.Handshake, c.initialRTT)
		if f.ServerRTT != 0 && f.ServerRTT+f.ClientRTT != f.Handshake {
			t.Errorf("%s: handshake %d ns, sides %d and %d", name, f.Handshake, f.ServerRTT, f.ClientRTT)
		}
	}
	sum := func(pair [2]uint32) int { return int(pair[0] + pair[1]) }
	same := func(what string, got, want int) {
		if got != want {
			t.Errorf("%s: %d %s, tshark %d", name, got, what, want)
		}
	}
	same("retransmitted or reordered", sum(f.Retransmissions)+sum(f.OutOfOrder), c.retransmissions+c.outOfOrder)
	same("gaps", sum(f.Gaps), c.gaps)
	same("zero windows", sum(f.ZeroWindows), c.zeroWindows)
	same("resets", int(f.Resets[0])+int(f.Resets[1]), c.resets)
	same("flags", int(f.TCPFlags[0]|f.TCPFlags[1]), int(c.flags[0]|c.flags[1]))
}
