package ipfix_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// TestNfcapd sends flows to nfdump's collector and reads its totals.
func TestNfcapd(t *testing.T) {
	dir := t.TempDir()
	port, stop := nfcapd(t, dir)
	s := newSink(t, "udp", fmt.Sprintf("127.0.0.1:%d", port), nil)
	records := []flow.Flow{tcp4(), mutate(ipv6), mutate(arp), mutate(sampled(10)), mutate(func(f *flow.Flow) {
		f.Protocol, f.TCPFlags, f.Port = 17, [2]uint8{}, [2]uint16{50000, 53}
	})}
	for range 40 {
		records = append(records, tcp4())
	}
	var packets, bytes uint64
	for _, f := range records {
		packets += f.Packets[0] + f.Packets[1]
		bytes += f.Bytes[0] + f.Bytes[1]
	}
	write(t, s, records[:20])
	write(t, s, records[20:])
	stop()

	files, err := filepath.Glob(filepath.Join(dir, "nfcapd.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v: %v", files, err)
	}
	summary := nfdump(t, "-r", files[0], "-I")
	for _, want := range []string{
		fmt.Sprintf("Flows: %d\n", len(records)),
		fmt.Sprintf("Packets: %d\n", packets),
		fmt.Sprintf("Bytes: %d\n", bytes),
		"Sequence failures: 0\n",
	} {
		if !strings.Contains(summary, want) {
			t.Errorf("nfdump does not say %q:\n%s", want, summary)
		}
	}
	lines := nfdump(t, "-r", files[0], "-q", "-N", "-o", "fmt:%pr %sa %sp %da %dp %flg %ipkt %ibyt %opkt %obyt %ts %te", "proto tcp and inet")
	want := "6 198.51.100.7 40000 192.0.2.1 443 ...A..S. 10 1000 5 5000 2025-11-24 16:00:00.123 2025-11-24 16:00:01.123"
	if got := strings.Join(strings.Fields(strings.SplitN(lines, "\n", 2)[0]), " "); got != want {
		t.Errorf("flow\n got %s\nwant %s", got, want)
	}
}

// TestCaptureToNfcapd takes a capture through the flow table and the sink to
// nfcapd: every packet and byte that the table tracked is in nfdump's totals.
func TestCaptureToNfcapd(t *testing.T) {
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "captures")
	}
	file, err := os.Open(filepath.Join(dir, "mercury_emix.pcap"))
	if err != nil {
		t.Skipf("no captures in %s: set UNSPAN_CAPTURES to their directory", dir)
	}
	defer file.Close()
	capture, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	c := flow.Default()
	c.Flows = 1 << 13
	table, err := flow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	var records []flow.Flow
	batch := make([]flow.Flow, 256)
	bytes := uint64(0)
	for {
		data, info, err := capture.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		table.Observe(&bpf.Record{Feed: 1, Weight: 1}, data, info.Length, uint64(info.Timestamp.UnixNano()))
		bytes += uint64(info.Length)
		records = append(records, batch[:table.Ring().Read(batch)]...)
	}
	table.Drain(func(f *flow.Flow) { records = append(records, *f) })
	for n := 1; n > 0; {
		n = table.Ring().Read(batch)
		records = append(records, batch[:n]...)
	}
	counters := table.Counters()
	if counters[flow.Tracked] != counters.Frames() || counters[flow.RecordsLost] != 0 {
		t.Fatalf("not all frames are in flows: %v", counters)
	}

	out := t.TempDir()
	port, stop := nfcapd(t, out)
	s := newSink(t, "udp", fmt.Sprintf("127.0.0.1:%d", port), nil)
	for part := range slices.Chunk(records, 200) {
		write(t, s, part)
		settle(t, port)
	}
	stop()
	files, err := filepath.Glob(filepath.Join(out, "nfcapd.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v: %v", files, err)
	}
	summary := nfdump(t, "-r", files[0], "-I")
	for _, want := range []string{
		fmt.Sprintf("Flows: %d\n", len(records)),
		fmt.Sprintf("Packets: %d\n", counters[flow.Tracked]),
		fmt.Sprintf("Bytes: %d\n", bytes),
		"Sequence failures: 0\n",
	} {
		if !strings.Contains(summary, want) {
			t.Errorf("nfdump does not say %q:\n%s", want, summary)
		}
	}
}

// need skips a test for want of something; in CI that is a failure.
func need(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func nfdump(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("nfdump", args...)
	c.Env = append(os.Environ(), "TZ=UTC")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("nfdump %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// nfcapd starts the collector on a free port of the loopback; stop lets it read
// what has arrived, then ends it.
func nfcapd(t *testing.T, dir string) (port int, stop func()) {
	t.Helper()
	for _, tool := range []string{"nfcapd", "nfdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, "%s is not installed: apt-get install nfdump", tool)
		}
	}
	free := listenUDP(t)
	port = free.LocalAddr().(*net.UDPAddr).Port
	free.Close()
	c := exec.Command("nfcapd", "-w", dir, "-b", "127.0.0.1", "-p", fmt.Sprint(port))
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = c.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Startup") {
	}
	return port, func() {
		settle(t, port)
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var said []string
		for lines.Scan() {
			said = append(said, lines.Text())
		}
		if err := c.Wait(); err != nil {
			t.Fatalf("nfcapd: %v:\n%s", err, strings.Join(said, "\n"))
		}
	}
}

// settle waits until the collector has read what was sent.
func settle(t *testing.T, port int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); queued(t, port); {
		if time.Now().After(deadline) {
			t.Fatal("nfcapd does not read")
		}
		time.Sleep(time.Millisecond)
	}
}

// queued reports whether datagrams wait in the port's socket.
func queued(t *testing.T, port int) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return !strings.HasSuffix(f[4], ":00000000")
		}
	}
	t.Fatal("nfcapd is not listening")
	return false
}
