package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/ledger"
)

// The test binary is also a client of another user, and a collector that is killed.
const roleVariable, pathVariable = "UNSPAN_CONTROL_ROLE", "UNSPAN_CONTROL_PATH"

func TestMain(m *testing.M) {
	path := os.Getenv(pathVariable)
	switch os.Getenv(roleVariable) {
	case "client":
		if err := control.NewClient(path).Stats(context.Background(), os.Stdout, false); err != nil {
			fmt.Println(err)
		}
	case "killed":
		if _, err := control.Open(config(path)); err != nil {
			fmt.Println(err)
			return
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL) // nothing of it returns
	default:
		os.Exit(m.Run())
	}
}

func as(t *testing.T, role, path string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

func config(path string) control.Config {
	return control.Config{
		Path:   path,
		Ledger: func() (ledger.Snapshot, error) { return ledger.Snapshot{Subject: "eth1, native", Final: true}, nil },
		Log:    slog.New(slog.DiscardHandler),
	}
}

// serve answers on a socket of the test until its end.
func serve(t *testing.T, c control.Config) {
	t.Helper()
	s, err := control.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
		if _, err := os.Lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "eth1.sock")
	serve(t, config(path))
	for name, want := range map[string]fs.FileMode{
		path:               fs.ModeSocket | 0o600,
		filepath.Dir(path): fs.ModeDir | 0o700,
	} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live.sock")
	serve(t, config(live))
	file := filepath.Join(dir, "file.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"another collector's", live, fmt.Sprintf("another collector, process %d, answers there: stop it", os.Getpid())},
		{"a file", file, "something is there that is no socket"},
		{"no such directory", filepath.Join(dir, "a/b/c.sock"), "making its directory: no such file or directory"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 120)), "at most 107 fit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := control.Open(config(c.path))
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--control") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q and the cure", err, c.want)
			}
		})
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file that was no socket: %v", err)
	}
	if err := control.NewClient(live).Stats(t.Context(), io.Discard, false); err != nil {
		t.Errorf("the other collector: %v", err)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	if out := as(t, "killed", path); out != "" {
		t.Fatal(out)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the killed collector left no socket: %v", err)
	}
	err := control.NewClient(path).Stats(t.Context(), io.Discard, false)
	if err == nil || !strings.Contains(err.Error(), "start one: unspan run -i eth1") {
		t.Errorf("asking the dead one: %v", err)
	}
	serve(t, config(path))
	if err := control.NewClient(path).Stats(t.Context(), io.Discard, false); err != nil {
		t.Error(err)
	}
}

// Who is neither root nor the collector's user gets no answer, even when the
// modes let him in.
func TestPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		const reason = "becoming another user needs root: run with sudo"
		if os.Getenv("UNSPAN_CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	dir, err := os.MkdirTemp("", "control") // t.TempDir lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "eth1.sock")
	var asked atomic.Int32
	c := config(path)
	answer := c.Ledger
	c.Ledger = func() (ledger.Snapshot, error) { asked.Add(1); return answer() }
	serve(t, c)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The test binary's own directory is closed to others: a copy.
	client := filepath.Join(dir, "client")
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(client, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := func(uid uint32) string {
		cmd := exec.Command(client)
		cmd.Env = []string{roleVariable + "=client", pathVariable + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := ask(65534); !strings.Contains(out, "permission denied: run as root") {
		t.Errorf("another user, mode 0600: %s", out)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if out := ask(65534); !strings.Contains(out, "this collector answers root and user 0: ask as one of them") {
		t.Errorf("another user, mode 0666: %s", out)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the collector was asked %d times", n)
	}
	if out := ask(0); !strings.Contains(out, "Ledger of eth1, native") {
		t.Errorf("root: %s", out)
	}
}

func TestStats(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	serve(t, config(path))
	want := ledger.Snapshot{Subject: "eth1, native", Final: true}
	var text bytes.Buffer
	if err := want.WriteText(&text, ledger.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := control.NewClient(path).Stats(t.Context(), &got, false); err != nil {
		t.Fatal(err)
	}
	if got.String() != text.String() {
		t.Errorf("stats: %s, want %s", &got, &text)
	}
	got.Reset()
	if err := control.NewClient(path).Stats(t.Context(), &got, true); err != nil {
		t.Fatal(err)
	}
	var fields struct {
		Subject string `json:"subject"`
		Adds    bool   `json:"adds_up"`
	}
	if err := json.Unmarshal(got.Bytes(), &fields); err != nil || fields.Subject != want.Subject || !fields.Adds {
		t.Errorf("stats as JSON: %s, %v", &got, err)
	}
}

func TestSessions(t *testing.T) {
	now := func() uint64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return uint64(ts.Nano())
	}
	slow := bpf.FeedKey{Encap: uint8(bpf.EncapRSPAN), Session: 300}
	fast := bpf.FeedKey{Encap: uint8(bpf.EncapERSPAN2), Session: 7, Key: 42, Keyed: 1,
		Exporter: [16]byte{10: 255, 11: 255, 12: 192, 13: 0, 14: 2, 15: 7}, Collector: [16]byte{10: 255, 11: 255, 12: 192, 13: 0, 14: 2, 15: 2}}
	begin := now()
	state := func(packets, bytes, lost uint64, flags uint32) bpf.FeedState {
		return bpf.FeedState{First: begin - 2e9, Last: begin - 1e9, Packets: packets, Bytes: bytes, Kept: packets - 1,
			Sequence: bpf.Sequence{Lost: lost, Flags: flags}}
	}
	var snapshot ledger.Snapshot
	path := filepath.Join(t.TempDir(), "eth1.sock")
	c := config(path)
	c.Ledger = func() (ledger.Snapshot, error) { return snapshot, nil }
	serve(t, c)
	look := func(at time.Duration, feeds ...ledger.Feed) (list control.Sessions, text string) {
		t.Helper()
		snapshot = ledger.Snapshot{Subject: "eth1, native", Elapsed: at, Feeds: feeds}
		var b bytes.Buffer
		if err := control.NewClient(path).Sessions(t.Context(), &b, true); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := control.NewClient(path).Sessions(t.Context(), &b, false); err != nil {
			t.Fatal(err)
		}
		return list, b.String()
	}

	list, text := look(time.Second / 2)
	if len(list.Sessions) != 0 || text != "eth1, native: no mirror feed has come yet.\n" {
		t.Errorf("no feeds: %v %q", list, text)
	}
	type rate struct{ seconds, packets, bytes float64 }
	for _, step := range []struct {
		name       string
		at         time.Duration
		slow, fast bpf.FeedState
		want       rate // of the fast one
	}{
		{"since the start", 2 * time.Second, state(10, 1000, 0, 0), state(200, 20000, 3, bpf.SequenceSeen), rate{2, 100, 10000}},
		{"again at once: over the same time", 2500 * time.Millisecond, state(10, 1000, 0, 0), state(250, 25000, 3, bpf.SequenceSeen), rate{2.5, 100, 10000}},
		{"since the last look", 4 * time.Second, state(10, 1000, 0, 0), state(1200, 120000, 3, bpf.SequenceSeen), rate{2, 500, 50000}},
		{"since a look long ago", 104 * time.Second, state(10, 1000, 0, 0), state(2200, 220000, 3, bpf.SequenceSeen), rate{100, 10, 1000}},
		{"evicted and back", 114 * time.Second, state(10, 1000, 0, 0), state(30, 3000, 3, bpf.SequenceSeen), rate{10, 3, 300}},
	} {
		list, text := look(step.at, ledger.Feed{Key: slow, State: step.slow}, ledger.Feed{Key: fast, State: step.fast})
		if len(list.Sessions) != 2 {
			t.Fatalf("%s: %d sessions", step.name, len(list.Sessions))
		}
		f, s := list.Sessions[0], list.Sessions[1]
		if f.Name != "192.0.2.7/erspan2/7/0x2a" || s.Name != "rspan/300" {
			t.Errorf("%s: order %s, %s", step.name, f.Name, s.Name)
		}
		if got := (rate{list.Seconds, f.PacketRate, f.ByteRate}); got != step.want {
			t.Errorf("%s: rates %v, want %v", step.name, got, step.want)
		}
		if f.Lost == nil || *f.Lost != 3 || s.Lost != nil || f.Key == nil || *f.Key != 42 || s.Key != nil ||
			f.Exporter != "192.0.2.7" || f.Collector != "192.0.2.2" || s.Exporter != "" || f.Kept != f.Packets-1 || f.Session != 7 {
			t.Errorf("%s: %+v, %+v", step.name, f, s)
		}
		if f.Idle < 1 || math.Abs(f.Age-f.Idle-1) > 1e-6 {
			t.Errorf("%s: idle %v, age %v", step.name, f.Idle, f.Age)
		}
		lines := strings.Split(text, "\n")
		if !strings.HasSuffix(lines[1], "  192.0.2.7/erspan2/7/0x2a  192.0.2.2") || !strings.Contains(lines[2], "unknown") ||
			!strings.HasPrefix(lines[4], "2 feeds on eth1, native; rates over ") {
			t.Errorf("%s: %s", step.name, text)
		}
	}
}

func TestPolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	force := "none"
	c := config(path)
	c.ShowPolicy = func(w io.Writer, asJSON bool) error {
		_, err := fmt.Fprintf(w, "%s %v", force, asJSON)
		return err
	}
	c.ApplyPolicy = func(_ context.Context, name string, file []byte) error {
		if bytes.HasPrefix(file, []byte("bad")) {
			return fmt.Errorf("%s:1: bad\n%s:2: worse", name, name)
		}
		force = string(file)
		return nil
	}
	serve(t, c)
	client := control.NewClient(path)
	show := func(asJSON bool) string {
		var b bytes.Buffer
		if err := client.Policy(t.Context(), &b, asJSON); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, c := range []struct {
		name, file string
		err, after string
	}{
		{"applied", "rules: []", "", "rules: []"},
		{"refused: the old one stays", "bad", "a b&c.yaml:1: bad\na b&c.yaml:2: worse", "rules: []"},
		{"too big", strings.Repeat("#", 1<<20+1), "the policy has more than 1048576 bytes", "rules: []"},
		{"just not too big", strings.Repeat("#", 1<<20), "", strings.Repeat("#", 1<<20)},
	} {
		got := ""
		if err := client.ApplyPolicy(t.Context(), "a b&c.yaml", []byte(c.file)); err != nil {
			got = err.Error()
		}
		if got != c.err {
			t.Errorf("%s: %q, want %q", c.name, got, c.err)
		}
		if got := show(false); got != c.after+" false" {
			t.Errorf("%s: then %.60q, want %.60q", c.name, got, c.after)
		}
	}
	if got := show(true); !strings.HasSuffix(got, "# true") {
		t.Errorf("as JSON: %.60q", got)
	}
}

// A collector that cannot answer says why, and does not stop answering.
func TestUnanswerable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	c := config(path)
	c.Ledger = func() (ledger.Snapshot, error) { return ledger.Snapshot{}, errors.New("nothing is collected yet") }
	serve(t, c)
	client := control.NewClient(path)
	for _, question := range []struct {
		name string
		ask  func() error
		want string
	}{
		{"stats", func() error { return client.Stats(t.Context(), io.Discard, false) }, "nothing is collected yet"},
		{"sessions", func() error { return client.Sessions(t.Context(), io.Discard, true) }, "nothing is collected yet"},
		{"policy show", func() error { return client.Policy(t.Context(), io.Discard, false) }, "this collector runs without a policy: every frame is kept"},
		{"policy apply", func() error { return client.ApplyPolicy(t.Context(), "p.yaml", nil) }, "this collector cannot change its policy while it runs"},
	} {
		if err := question.ask(); err == nil || err.Error() != question.want {
			t.Errorf("%s: %v, want %q", question.name, err, question.want)
		}
	}
}

// What is no HTTP, or no question that there is, does no harm.
func TestNonsense(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth1.sock")
	serve(t, config(path))
	for _, c := range []struct{ name, send, want string }{
		{"no HTTP", "hello\r\n\r\n", "400 Bad Request"},
		{"no such resource", "GET /secrets HTTP/1.0\r\n\r\n", "404 Not Found"},
		{"no such method", "DELETE /policy HTTP/1.0\r\n\r\n", "405 Method Not Allowed"},
		{"endless header", "GET /stats HTTP/1.0\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "431 Request Header Fields Too Large"},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, c.send) // the server may not take it all
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer) // nothing read is not what is wanted
		if !strings.Contains(string(answer[:n]), c.want) {
			t.Errorf("%s: %q, want %q", c.name, answer[:n], c.want)
		}
		conn.Close()
	}
	if err := control.NewClient(path).Stats(t.Context(), io.Discard, false); err != nil {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	find := func() string {
		path, err := control.Find(dir)
		if err != nil {
			return err.Error()
		}
		return path
	}
	none := "no collector is running here (nothing answers in " + dir + "): start one: unspan run -i IF"
	if got := find(); got != none {
		t.Errorf("empty: %s", got)
	}
	as(t, "killed", filepath.Join(dir, "dead.sock"))
	if err := os.WriteFile(filepath.Join(dir, "file.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := find(); got != none {
		t.Errorf("a dead one: %s", got)
	}
	serve(t, config(filepath.Join(dir, "eth1.sock")))
	if got, want := find(), filepath.Join(dir, "eth1.sock"); got != want {
		t.Errorf("one: %s, want %s", got, want)
	}
	serve(t, config(filepath.Join(dir, "eth2.sock")))
	if got, want := find(), "collectors are running on eth1, eth2: name one with -i"; got != want {
		t.Errorf("two: %s, want %s", got, want)
	}
	dir = filepath.Join(dir, "missing")
	if got := find(); !strings.HasPrefix(got, "no collector is running here") {
		t.Errorf("no directory: %s", got)
	}
}
