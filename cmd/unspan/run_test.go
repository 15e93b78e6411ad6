package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// needRoot skips without root; under UNSPAN_CI a skip is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "AF_XDP and network namespaces need root: run with sudo"
	if os.Getenv("UNSPAN_CI") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// built is the program, built when the first test asks for it.
var built struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// program is the path of the binary, built as make build does.
func program(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "unspan"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-trimpath", "-o", built.dir, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("building: %v", built.err)
	}
	return filepath.Join(built.dir, "unspan")
}

func openLab(t *testing.T) *lab.Lab {
	t.Helper()
	needRoot(t)
	l, err := lab.Open(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// start runs a program at the collector's end.
func start(t *testing.T, l *lab.Lab, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := l.Collector.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // an error says that it has ended
	return cmd
}

// await polls until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: not within 20 s", what)
		}
	}
}

// attached reports whether an XDP program is on the collector's interface.
func attached(t *testing.T, l *lab.Lab) (on bool) {
	t.Helper()
	if err := l.Collector.Do(func() error {
		link, err := netlink.LinkByName(l.Collector.Link)
		on = err == nil && link.Attrs().Xdp != nil && link.Attrs().Xdp.Attached
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return on
}

// sendFeed mirrors count frames to the collector.
func sendFeed(t *testing.T, l *lab.Lab, count int) {
	t.Helper()
	s := mirror.DefaultSession(bpf.EncapERSPAN2)
	s.Source, s.Destination = l.Mirror.IPv4, l.Collector.IPv4
	s.SourceMAC, s.DestinationMAC = l.Mirror.MAC, l.Collector.MAC
	var frames [][]byte
	for _, p := range readAll(t, innerCapture) {
		frames = append(frames, p.Data)
	}
	c := mirror.Default()
	c.Interface, c.Method, c.Loop, c.Count = l.Mirror.Link, mirror.MethodSocket, true, uint64(count)
	c.Feeds = []mirror.Feed{{Session: s, Frames: frames}}
	c.Rate = mirror.Rate{Packets: 50_000}
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
}

// unspan run -w - | tshark -r -: packets flow as they come, and Ctrl-C ends it.
func TestRunIntoPipe(t *testing.T) {
	l := openLab(t)
	var said bytes.Buffer
	collector := exec.Command(program(t), "run", "-i", l.Collector.Link, "--control", "", "-w", "-", "--listen", "")
	collector.Stderr = &said
	pipe, err := collector.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var dissected, complaint bytes.Buffer
	tshark := exec.Command("tshark", "-n", "-r", "-", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len")
	tshark.Stdin, tshark.Stdout, tshark.Stderr = pipe, &dissected, &complaint
	start(t, l, collector)
	if err := tshark.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the program to be attached", func() bool { return attached(t, l) })
	sendFeed(t, l, 300)
	if err := collector.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := tshark.Wait(); err != nil {
		t.Errorf("tshark: %v: %s", err, &complaint)
	}
	if err := collector.Wait(); err != nil {
		t.Errorf("unspan run: %v: %s", err, &said)
	}
	if got := strings.Count(dissected.String(), l.Mirror.IPv4.String()+"/erspan2/1\t"); got != 300 {
		t.Errorf("tshark saw %d packets of the feed, want 300; it says %s", got, &complaint)
	}
	if !strings.Contains(said.String(), "Every line adds up.") {
		t.Errorf("the ledger on standard error: %s", &said)
	}
	if attached(t, l) {
		t.Error("the program is still attached")
	}
}

// A killed collector leaves nothing attached, and a file that is whole.
func TestKilled(t *testing.T) {
	l := openLab(t)
	out := filepath.Join(t.TempDir(), "out.pcapng")
	collector := start(t, l, exec.Command(program(t), "run", "-i", l.Collector.Link, "--control", "", "-w", out, "--listen", "", "--any-destination"))
	await(t, "the program to be attached", func() bool { return attached(t, l) })
	sendFeed(t, l, 5000)
	await(t, "packets on disk", func() bool {
		info, err := os.Stat(out)
		return err == nil && info.Size() > 100_000
	})
	if err := collector.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = collector.Wait() // it was killed, and says so
	await(t, "the program to be gone", func() bool { return !attached(t, l) })
	if got := readAll(t, out); len(got) == 0 || len(got) > 5000 {
		t.Errorf("%d packets in the file", len(got))
	}
	if err := l.Collector.Do(func() error {
		link, err := netlink.LinkByName(l.Collector.Link)
		if err == nil && link.Attrs().Promisc != 0 {
			t.Error("the interface is still promiscuous")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// The collector answers on its web listener while it runs.
func TestRunServes(t *testing.T) {
	l := openLab(t)
	var said bytes.Buffer
	collector := exec.Command(program(t), "run", "-i", l.Collector.Link, "--control", "", "-w", filepath.Join(t.TempDir(), "out.pcapng"), "--count", "200")
	collector.Stderr = &said
	start(t, l, collector)
	get := func(path string) (code int, body string) {
		if err := l.Collector.Do(func() error {
			// A client of net/http dials on another thread, in another namespace.
			conn, err := net.Dial("tcp4", "127.0.0.1:9477")
			if err != nil {
				return nil // not listening yet
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			code, body = response.StatusCode, string(text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return code, body
	}
	await(t, "readiness", func() bool { code, _ := get("/readyz"); return code == http.StatusOK })
	for path, want := range map[string]string{"/": "<title>Unspan</title>", "/api/ledger": `"adds_up":true`} {
		if code, body := get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %q in %s", path, code, want, body)
		}
	}
	sendFeed(t, l, 100)
	const series = "unspan_feed_packets_total{"
	await(t, "the feed's metrics", func() bool {
		_, body := get("/metrics")
		return strings.Contains(body, series) && strings.Contains(body, `unspan_output_packets_total{kind="onward",outcome="written"} 100`)
	})
	sendFeed(t, l, 100) // the count is reached
	if err := collector.Wait(); err != nil {
		t.Errorf("unspan run: %v: %s", err, &said)
	}
}

// The demo needs nothing but root, and leaves nothing but its capture.
func TestDemo(t *testing.T) {
	needRoot(t)
	out := filepath.Join(t.TempDir(), "demo.pcapng")
	code, stdout, stderr := unspan(t, "", "demo", "-w", out, "--duration", "1s")
	if code != 0 || !strings.Contains(stdout, "Every line adds up.") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	feeds := map[string]int{}
	for _, p := range readAll(t, out) {
		feeds[p.Interface.Name]++
	}
	if len(feeds) != 5 {
		t.Errorf("feeds %v, want 5", feeds)
	}
}
