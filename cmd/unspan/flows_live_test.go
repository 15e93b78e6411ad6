package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// lack skips for want of something; under UNSPAN_CI a skip is a failure.
func lack(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("UNSPAN_CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// output runs a tool and returns what it prints.
func output(t *testing.T, tool string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		lack(t, "%s is not installed: apt-get install tshark nfdump", tool)
	}
	c := exec.Command(tool, args...)
	c.Env = append(os.Environ(), "TZ=UTC")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", tool, strings.Join(args, " "), err)
	}
	return string(out)
}

// dissected is what tshark says of a capture: the numbers of the frames that
// pass a filter, and the packets and bytes of each direction of what it calls
// conversations, exactly, by "tcp 192.0.2.1:443 198.51.100.7:40000".
type dissected struct {
	frames map[int]bool
	sums   map[string][2]uint64
}

func dissect(t *testing.T, path, filter string) dissected {
	t.Helper()
	d := dissected{frames: map[int]bool{}, sums: map[string][2]uint64{}}
	args := []string{"-n", "-r", path, "-Y", filter, "-T", "fields", "-E", "occurrence=f"}
	for _, f := range []string{"frame.number", "frame.len", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"} {
		args = append(args, "-e", f)
	}
	for line := range strings.Lines(output(t, "tshark", args...)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		number, err := strconv.Atoi(f[0])
		if err != nil {
			t.Fatal(err)
		}
		length, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		d.frames[number] = true
		// The outermost IP header and what follows it, not what an ICMP error quotes.
		var kind, transport string
		for layer := range strings.SplitSeq(f[2], ":") {
			if kind == "" && (layer == "ip" || layer == "ipv6") {
				kind = layer
			} else if kind != "" && !strings.HasPrefix(layer, "ipv6.") {
				transport = layer
				break
			}
		}
		from, to := f[3], f[4]
		if kind == "ipv6" {
			from, to = f[5], f[6]
		}
		switch transport {
		case "tcp":
			from, to = from+":"+f[7], to+":"+f[8]
		case "udp":
			from, to = from+":"+f[9], to+":"+f[10]
		default:
			continue
		}
		key := transport + " " + from + " " + to
		d.sums[key] = [2]uint64{d.sums[key][0] + 1, d.sums[key][1] + length}
	}
	return d
}

// sums is the same of flow records.
func sums(rows []export.Row) map[string][2]uint64 {
	all := map[string][2]uint64{}
	add := func(key string, packets, bytes uint64) {
		if packets > 0 {
			all[key] = [2]uint64{all[key][0] + packets, all[key][1] + bytes}
		}
	}
	for _, r := range rows {
		transport, known := map[uint32]string{6: "tcp", 17: "udp"}[r.Protocol]
		if !known || r.ClientPort == 0 && r.ServerPort == 0 {
			continue
		}
		client := fmt.Sprintf("%s:%d", r.ClientIP, r.ClientPort)
		server := fmt.Sprintf("%s:%d", r.ServerIP, r.ServerPort)
		add(transport+" "+client+" "+server, r.ClientPackets, r.ClientBytes)
		add(transport+" "+server+" "+client, r.ServerPackets, r.ServerBytes)
	}
	return all
}

// conversations are the lines of tshark's own tables, "tcp A B packets packets":
// what A had from B and what it sent there.
func conversations(t *testing.T, path, filter string) (lines []string) {
	t.Helper()
	for _, transport := range []string{"tcp", "udp"} {
		for line := range strings.Lines(output(t, "tshark", "-n", "-r", path, "-q", "-z", "conv,"+transport+","+filter)) {
			if f := strings.Fields(line); len(f) > 7 && f[1] == "<->" {
				lines = append(lines, fmt.Sprintln(transport, f[0], f[2], f[3], f[6]))
			}
		}
	}
	return lines
}

// whole leaves fragments out: tshark shows their ports on the last one only.
const whole = "not ip.flags.mf == 1 and not ip.frag_offset > 0 and not ipv6.fraghdr"

// plain are captures in which tshark counts every frame once.
var plain = []struct{ name, filter string }{
	{"mercury_emix.pcap", "not teredo"}, // else it counts the inner packet of a tunnel once more
	{"suricata_smb2-ntlmssp-negotiateflags.pcap", "frame"},
	{"ipfixprobe_mixed.pcap", "frame"},
}

// exports are the far ends of all exports, at the collector's end of a cable.
type exports struct {
	flags []string
	nfcap *exec.Cmd
	dir   string // of nfcapd
	tcp   chan int
	kafka *kfake.Cluster
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

func openExports(t *testing.T, l *lab.Lab) *exports {
	t.Helper()
	x := &exports{dir: t.TempDir(), tcp: make(chan int, 1)}
	var stream net.Listener
	port := 0
	if err := l.Collector.Do(func() (err error) {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		if stream, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		free, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port = free.LocalAddr().(*net.UDPAddr).Port
		return free.Close()
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	go func() { x.tcp <- records(stream) }()

	if _, err := exec.LookPath("nfcapd"); err != nil {
		lack(t, "nfcapd is not installed: apt-get install nfdump")
	}
	x.nfcap = exec.Command("nfcapd", "-w", x.dir, "-b", "127.0.0.1", "-p", strconv.Itoa(port))
	said, err := x.nfcap.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, l, x.nfcap)
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Startup") {
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // it must not wait for a reader

	x.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "flows"),
		kfake.ListenFn(func(network, address string) (listener net.Listener, err error) {
			err = l.Collector.Do(func() (err error) {
				listener, err = net.Listen(network, address)
				return err
			})
			return listener, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.kafka.Close)
	x.dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = l.Collector.Do(func() (err error) {
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	x.flags = []string{
		"--ipfix", fmt.Sprintf("udp://127.0.0.1:%d", port),
		"--ipfix", "tcp://" + stream.Addr().String(),
		"--kafka", x.kafka.ListenAddrs()[0] + "/flows",
	}
	return x
}

// records counts the flow records of an IPFIX connection (RFC 7011): those in
// data sets, whose template says how long they are. Ours has no variable length.
func records(listener net.Listener) (n int) {
	conn, err := listener.Accept()
	if err != nil {
		return 0
	}
	defer conn.Close()
	lengths := map[uint16]int{} // of records, by template
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(conn, head); err != nil {
			return n
		}
		sets := make([]byte, int(binary.BigEndian.Uint16(head[2:]))-len(head))
		if _, err := io.ReadFull(conn, sets); err != nil || binary.BigEndian.Uint16(head) != 10 {
			return -1
		}
		for len(sets) >= 4 {
			id, size := binary.BigEndian.Uint16(sets), int(binary.BigEndian.Uint16(sets[2:]))
			body := sets[4:size]
			sets = sets[size:]
			switch {
			case id == 2:
				templates(body, lengths)
			case id >= 256 && lengths[id] > 0:
				n += len(body) / lengths[id]
			}
		}
	}
}

// templates notes the length of records of each template in a set.
func templates(set []byte, lengths map[uint16]int) {
	for len(set) >= 4 {
		id, fields := binary.BigEndian.Uint16(set), int(binary.BigEndian.Uint16(set[2:]))
		set = set[4:]
		total := 0
		for range fields {
			total += int(binary.BigEndian.Uint16(set[2:]))
			if set[0]&0x80 != 0 { // an enterprise's: its number follows
				set = set[4:]
			}
			set = set[4:]
		}
		lengths[id] = total
	}
}

// nfdump ends nfcapd when it has read everything, and gives its totals.
func (x *exports) nfdump(t *testing.T) string {
	t.Helper()
	await(t, "nfcapd to read", func() bool {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", x.nfcap.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		waiting := false
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			waiting = waiting || len(f) > 4 && f[0] != "sl" && !strings.HasSuffix(f[4], ":00000000")
		}
		return !waiting
	})
	if err := x.nfcap.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := x.nfcap.Wait(); err != nil {
		t.Fatalf("nfcapd: %v", err)
	}
	return output(t, "nfdump", "-R", x.dir, "-I")
}

// consume reads so many records of the topic.
func (x *exports) consume(t *testing.T, n int) (rows []export.Row) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(x.kafka.ListenAddrs()...), kgo.Dialer(x.dial),
		kgo.ConsumeTopics("flows"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(rows) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records of %d: %v", len(rows), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { rows = append(rows, jsonRows(t, string(r.Value))...) })
	}
	return rows
}

// TestExportsAreTsharks mirrors public captures over a cable to a collector with
// its privileges dropped. Its flows are those of tshark, packet by packet and
// byte by byte; every export has all of them; nfcapd's totals are the ledger's.
func TestExportsAreTsharks(t *testing.T) {
	needRoot(t)
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	t.Run("inner.pcap", func(t *testing.T) { exportCapture(t, innerCapture, whole) })
	for _, capture := range plain {
		t.Run(capture.name, func(t *testing.T) {
			path := filepath.Join(dir, capture.name)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("no captures in %s: put them there or set UNSPAN_CAPTURES", dir)
			}
			exportCapture(t, path, capture.filter)
		})
	}
}

func exportCapture(t *testing.T, path, filter string) {
	want := dissect(t, path, filter)
	var frames [][]byte
	for i, p := range readAll(t, path) {
		if want.frames[i+1] {
			if len(p.Data) != int(p.OrigLen) {
				t.Fatalf("frame %d was cut", i+1)
			}
			frames = append(frames, p.Data)
		}
	}
	l, err := lab.Open(lab.Config{MTU: 9100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	x := openExports(t, l)
	lines, parquets := filepath.Join(t.TempDir(), "flows.jsonl"), t.TempDir()
	written := filepath.Join(t.TempDir(), "out.pcapng")
	s := serve(t, l, append(x.flags, "--flows-json", lines, "--flows-parquet", parquets, "-w", written, "--flow-idle", "1h", "--flow-active", "1h", "--json")...)
	m := mirror.DefaultSession(bpf.EncapERSPAN2)
	m.Source, m.Destination = l.Mirror.IPv4, l.Collector.IPv4
	m.SourceMAC, m.DestinationMAC = l.Mirror.MAC, l.Collector.MAC
	c := mirror.Default()
	c.Interface, c.Method, c.Rate = l.Mirror.Link, mirror.MethodSocket, mirror.Rate{Packets: 20_000}
	c.Feeds = []mirror.Feed{{Session: m, Frames: frames}}
	if err := l.Mirror.Do(func() error {
		sender, err := mirror.New(c)
		if err != nil {
			return err
		}
		if err := sender.Run(t.Context()); err != nil {
			return err
		}
		return sender.Close()
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("unspan run: %v: %s", err, &s.said)
	}

	text, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	rows := jsonRows(t, string(text))
	compareFlows(t, path, filter, rows, want)
	compareHandshakes(t, written, rows)
	compareLedger(t, s.out.Bytes(), len(frames), len(rows), x.nfdump(t))
	if n := <-x.tcp; n != len(rows) {
		t.Errorf("%d records over IPFIX and TCP, want %d", n, len(rows))
	}
	byID := func(a, b export.Row) int { return int(int64(a.FlowID) - int64(b.FlowID)) }
	slices.SortFunc(rows, byID)
	for name, got := range map[string][]export.Row{"Parquet": parquetRows(t, parquets), "Kafka": x.consume(t, len(rows))} {
		slices.SortFunc(got, byID)
		if !slices.Equal(got, rows) {
			t.Errorf("%s has %d records, JSON lines %d, or not the same", name, len(got), len(rows))
		}
	}
}

func compareFlows(t *testing.T, path, filter string, rows []export.Row, want dissected) {
	t.Helper()
	got := sums(rows)
	if len(got) < 2 {
		t.Errorf("%d directions are no test", len(got))
	}
	for key, n := range want.sums {
		if got[key] != n {
			t.Errorf("%s: %d packets, %d bytes; tshark has %d, %d", key, got[key][0], got[key][1], n[0], n[1])
		}
	}
	for key := range got {
		if _, is := want.sums[key]; !is {
			t.Errorf("%s: tshark has no such conversation", key)
		}
	}
	// Its own tables list a conversation for each connection between the ends.
	table := map[string]uint64{}
	for _, line := range conversations(t, path, filter) {
		f := strings.Fields(line)
		for i, key := range []string{f[0] + " " + f[2] + " " + f[1], f[0] + " " + f[1] + " " + f[2]} {
			n, err := strconv.ParseUint(f[3+i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				table[key] += n
			}
		}
	}
	if len(table) != len(got) {
		t.Errorf("%d directions, tshark -z conv has %d", len(got), len(table))
	}
	for key, n := range table {
		if got[key][0] != n {
			t.Errorf("%s: %d packets, tshark -z conv has %d", key, got[key][0], n)
		}
	}
}

// compareHandshakes: the times are those of the capture that was written beside
// the flows, to the nanosecond.
func compareHandshakes(t *testing.T, path string, rows []export.Row) {
	t.Helper()
	var got, want []string
	for _, r := range rows {
		if r.Handshake > 0 {
			got = append(got, fmt.Sprintf("%s:%d %s:%d %d.%09d", r.ClientIP, r.ClientPort, r.ServerIP, r.ServerPort, r.Handshake/1e9, r.Handshake%1e9))
		}
	}
	// tshark tells the time with every segment of a connection from the end of
	// the handshake on, whoever sent it: the first is the client's ACK, or a
	// refusal, which it takes for the end of a handshake too.
	seen := map[string]bool{}
	for line := range strings.Lines(output(t, "tshark", "-n", "-r", path, "-Y", "tcp.analysis.initial_rtt and not icmp and not icmpv6", "-T", "fields", "-E", "occurrence=f", "-e", "tcp.stream",
		"-e", "ip.src", "-e", "ipv6.src", "-e", "tcp.srcport", "-e", "ip.dst", "-e", "ipv6.dst", "-e", "tcp.dstport", "-e", "tcp.analysis.initial_rtt", "-e", "tcp.flags.reset")) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		refused := f[8] == "1" || f[8] == "True"
		if !seen[f[0]] && !refused {
			want = append(want, fmt.Sprintf("%s:%s %s:%s %s", f[1]+f[2], f[3], f[4]+f[5], f[6], f[7]))
		}
		seen[f[0]] = true
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d handshakes\n%s\ntshark has %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}

// compareLedger holds the ledger against what was sent and what nfcapd has.
func compareLedger(t *testing.T, text []byte, frames, flows int, summary string) {
	t.Helper()
	var ledger struct {
		Adds  bool `json:"adds_up"`
		Lines map[string]struct {
			Boxes map[string]struct{ Packets int }
		}
		Feeds []struct{ Packets, Bytes int }
	}
	if err := json.Unmarshal(text, &ledger); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if tracked := ledger.Lines["flows"].Boxes["tracked"].Packets; !ledger.Adds || tracked != frames || len(ledger.Feeds) != 1 {
		t.Fatalf("%d of %d frames in flows: %s", tracked, frames, text)
	}
	for _, want := range []string{
		fmt.Sprintf("Flows: %d\n", flows),
		fmt.Sprintf("Packets: %d\n", ledger.Feeds[0].Packets),
		fmt.Sprintf("Bytes: %d\n", ledger.Feeds[0].Bytes),
		"Sequence failures: 0\n",
	} {
		if !strings.Contains(summary, want) {
			t.Errorf("nfdump does not say %q:\n%s", want, summary)
		}
	}
}

// Exports that nobody takes, from the first record to the last, cost the capture
// nothing: it ends in time, all packets written, the records counted as dropped.
func TestExportsAway(t *testing.T) {
	l := openLab(t)
	out := filepath.Join(t.TempDir(), "out.pcapng")
	s := serve(t, l, "-w", out, "--ipfix", "tcp://127.0.0.1", "--kafka", "127.0.0.1/flows", "--json") // the namespace's loopback is down
	sendFeed(t, l, 3000)
	if err := s.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("unspan run: %v: %s", err, &s.said)
	}
	type line struct {
		In    struct{ Packets int }
		Boxes map[string]struct{ Packets int }
	}
	var ledger struct {
		Adds  bool `json:"adds_up"`
		Lines map[string]line
	}
	if err := json.Unmarshal(s.out.Bytes(), &ledger); err != nil {
		t.Fatalf("%v: %s", err, &s.out)
	}
	if n := ledger.Lines["output"].Boxes["written"].Packets; !ledger.Adds || n != 3000 {
		t.Errorf("%d packets written: %s", n, &s.out)
	}
	for _, name := range []string{"export ipfix 127.0.0.1:4739", "export kafka"} {
		l := ledger.Lines[name]
		if l.In.Packets == 0 || l.Boxes["dropped"].Packets != l.In.Packets {
			t.Errorf("%s: %+v", name, l)
		}
	}
	for _, want := range []string{`msg="exporting flows" sink="ipfix 127.0.0.1:4739"`} {
		if !strings.Contains(s.said.String(), want) {
			t.Errorf("no %q in the log: %s", want, &s.said)
		}
	}
}

// Whoever reads the flows from standard output may go: the capture goes on.
func TestFlowsReaderGone(t *testing.T) {
	l := openLab(t)
	out := filepath.Join(t.TempDir(), "out.pcapng")
	s := newService(t, l, "-w", out, "--flows-json", "-", "--flow-idle", "100ms")
	s.cmd.Stdout = nil
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.begin()
	sendFeed(t, l, 300)
	if _, err := pipe.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	sendFeed(t, l, 3000)
	if err := s.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("unspan run: %v: %s", err, &s.said)
	}
	if got := len(readAll(t, out)); got != 3300 {
		t.Errorf("%d packets were written, 3300 were sent", got)
	}
	for _, want := range []string{"Every line adds up.", `msg="exporting flows" sink=json`, "broken pipe", "json away or too slow"} {
		if !strings.Contains(s.said.String(), want) {
			t.Errorf("no %q on standard error: %s", want, &s.said)
		}
	}
}
