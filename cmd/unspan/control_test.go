package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/lab"
)

// service is unspan run at the collector's end of a cable.
type service struct {
	t    *testing.T
	lab  *lab.Lab
	cmd  *exec.Cmd
	out  bytes.Buffer // standard output
	said bytes.Buffer // standard error, to be read when it has ended

	socket string // to ask it
}

// serve starts it and returns when it collects.
func serve(t *testing.T, l *lab.Lab, args ...string) *service {
	t.Helper()
	s := newService(t, l, args...)
	s.begin()
	return s
}

// newService is one that has not been started.
func newService(t *testing.T, l *lab.Lab, args ...string) *service {
	t.Helper()
	s := &service{t: t, lab: l}
	s.socket = filepath.Join(t.TempDir(), "control", l.Collector.Link+".sock")
	s.cmd = exec.Command(program(t), append([]string{"run", "-i", l.Collector.Link, "--listen", "", "--control", s.socket}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.said
	return s
}

func (s *service) begin() {
	s.t.Helper()
	start(s.t, s.lab, s.cmd)
	client := control.NewClient(s.socket)
	await(s.t, "answers", func() bool { return client.Stats(s.t.Context(), io.Discard, false) == nil })
}

// status is a thread's or the process's /proc/.../status, those lines asked for.
func (s *service) status(path string, names ...string) string {
	s.t.Helper()
	text, err := os.ReadFile(path + "/status")
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		for _, name := range names {
			if value, is := strings.CutPrefix(line, name+":"); is {
				list = append(list, name+"="+strings.TrimSpace(value))
			}
		}
	}
	return strings.Join(list, " ")
}

// stop ends it as Ctrl-C does, and it must say that all is accounted for.
func (s *service) stop() string {
	s.t.Helper()
	if err := s.cmd.Process.Signal(unix.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatalf("unspan run: %v: %s", err, &s.said)
	}
	if !strings.Contains(s.out.String(), "Every line adds up.") {
		s.t.Errorf("the ledger: %s%s", &s.out, &s.said)
	}
	if attached(s.t, s.lab) {
		s.t.Error("the program is still attached")
	}
	if _, err := os.Lstat(s.socket); err == nil {
		s.t.Error("the control socket is still there")
	}
	return s.out.String()
}

// offload sets or reads whether the collector's interface takes VLAN tags off.
func offload(t *testing.T, l *lab.Lab, set bool) (on bool) {
	t.Helper()
	const name = "rx-vlan-hw-parse"
	if err := l.Collector.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		if set {
			if err := e.Change(l.Collector.Link, map[string]bool{name: true}); err != nil {
				return err
			}
		}
		features, err := e.Features(l.Collector.Link)
		on = features[name]
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return on
}

// With its privileges dropped the collector does all that it has to do: it
// begins files, removes old ones, and puts the interface back as it was.
func TestRunDropsPrivileges(t *testing.T) {
	l := openLab(t)
	if !offload(t, l, true) {
		t.Fatal("the cable does not take VLAN tags off: nothing to put back")
	}
	out := t.TempDir()
	s := serve(t, l, "-w", out, "--rotate-size", "16K", "--keep", "3")
	sendFeed(t, l, 500)
	process := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	const dropped = "CapInh=0000000000000000 CapPrm=000000c000001000 CapEff=0000000000000000 CapBnd=0000000000000000 CapAmb=0000000000000000 NoNewPrivs=1"
	threads, err := filepath.Glob(process + "/task/*")
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		if got := s.status(thread, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"); got != dropped {
			t.Errorf("%s: %s", thread, got)
		}
	}
	if offload(t, l, false) {
		t.Error("tags are taken off while packets are received")
	}
	sendFeed(t, l, 500)
	if ledger := s.stop(); !strings.Contains(ledger, "= written") || strings.Contains(ledger, "refuse") {
		t.Error(ledger)
	}
	files, err := filepath.Glob(out + "/*.pcapng")
	if err != nil || len(files) != 3 {
		t.Errorf("files %v, %v, want 3", files, err)
	}
	for _, f := range files {
		if len(readAll(t, f)) == 0 {
			t.Errorf("%s: no packets", f)
		}
	}
	if !offload(t, l, false) {
		t.Error("the offload was not put back")
	}
}

// A service has a user of its own and the capabilities of scripts/unspan.service,
// and works and ends as root's does.
func TestRunAsService(t *testing.T) {
	l := openLab(t)
	offload(t, l, true)
	const nobody = 65534
	dir, err := os.MkdirTemp("", "unspan") // t.TempDir lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := newService(t, l, "-w", dir, "--rotate-size", "16K", "--keep", "2")
	s.socket = filepath.Join(dir, "control.sock")
	s.cmd.Args = append(s.cmd.Args, "--control", s.socket)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_PERFMON, unix.CAP_IPC_LOCK},
	}
	for _, path := range []string{dir, filepath.Dir(s.cmd.Path)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s.begin()
	sendFeed(t, l, 500)
	process := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	const dropped = "CapInh=0000000000000000 CapPrm=000000c000001000 CapEff=0000000000000000 CapAmb=0000000000000000 NoNewPrivs=1"
	if got := s.status(process, "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"); got != dropped {
		t.Error(got)
	}
	s.stop()
	if files, err := filepath.Glob(dir + "/*.pcapng"); err != nil || len(files) != 2 {
		t.Errorf("files %v, %v, want 2", files, err)
	}
	if !offload(t, l, false) {
		t.Error("the offload was not put back")
	}
}

// Nothing is written outside the output directory, even when its name has come
// to mean another one.
func TestRunIsConfined(t *testing.T) {
	for _, c := range []struct {
		name    string
		flags   []string
		refused bool
	}{
		{"confined", nil, true},
		{"as told", []string{"--keep-privileges"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := openLab(t)
			dir := t.TempDir()
			out, elsewhere := filepath.Join(dir, "out"), filepath.Join(dir, "elsewhere")
			for _, d := range []string{out, elsewhere} {
				if err := os.Mkdir(d, 0o750); err != nil {
					t.Fatal(err)
				}
			}
			s := serve(t, l, append([]string{"-w", out, "--rotate-size", "16K"}, c.flags...)...)
			sendFeed(t, l, 300)
			await(t, "files", func() bool {
				files, err := filepath.Glob(out + "/*.pcapng")
				return err == nil && len(files) > 1
			})
			if err := os.Rename(out, out+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, out); err != nil {
				t.Fatal(err)
			}
			sendFeed(t, l, 300)
			ledger := s.stop()
			if got := strings.Contains(ledger, "disk full or failing"); got != c.refused {
				t.Errorf("refused: %v, want %v: %s", got, c.refused, ledger)
			}
			files, err := os.ReadDir(elsewhere)
			if err != nil || (len(files) == 0) != c.refused {
				t.Errorf("elsewhere are %d files, %v", len(files), err)
			}
		})
	}
}

// The running collector says what it has, to who asks.
func TestAsk(t *testing.T) {
	l := openLab(t)
	s := serve(t, l)
	code, stdout, stderr := unspan(t, "", "sessions", "--control", s.socket)
	if code != 0 || stdout != "collector0, native: no mirror feed has come yet.\n" {
		t.Errorf("sessions: exit code %d: %s%s", code, stdout, stderr)
	}
	sendFeed(t, l, 300)
	name := l.Mirror.IPv4.String() + "/erspan2/1"
	type reply struct {
		Feeds []struct {
			Name    string
			Packets uint64
		}
		Sessions []struct {
			Name    string
			Packets uint64
			Rate    float64 `json:"packets_per_second"`
		}
		Adds bool `json:"adds_up"`
	}
	ask := func(args ...string) (r reply) {
		t.Helper()
		code, stdout, stderr := unspan(t, "", append(args, "--json", "--control", s.socket)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%v: %v: %s", args, err, stdout)
		}
		return r
	}
	if r := ask("sessions"); len(r.Sessions) != 1 || r.Sessions[0].Name != name || r.Sessions[0].Packets != 300 || r.Sessions[0].Rate <= 0 {
		t.Errorf("sessions: %+v", r)
	}
	if r := ask("stats"); len(r.Feeds) != 1 || r.Feeds[0].Name != name || r.Feeds[0].Packets != 300 || !r.Adds {
		t.Errorf("stats: %+v", r)
	}
	code, stdout, stderr = unspan(t, "", "stats", "--control", s.socket)
	if code != 0 || !strings.Contains(stdout, name) || !strings.Contains(stdout, "still running") {
		t.Errorf("stats: exit code %d: %s%s", code, stdout, stderr)
	}
	// A second one on the same socket is refused, and harms nothing.
	code, _, stderr = unspan(t, "", "run", "-i", "lo", "--listen", "", "--control", s.socket)
	if want := fmt.Sprintf("another collector, process %d, answers there", s.cmd.Process.Pid); code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("a second one: exit code %d: %s", code, stderr)
	}
	ask("stats")
	s.stop()
	code, _, stderr = unspan(t, "", "stats", "--control", s.socket)
	if code != 1 || !strings.Contains(stderr, "no collector answers on "+s.socket+": start one: unspan run") {
		t.Errorf("afterwards: exit code %d: %s", code, stderr)
	}
}

// When the terminal goes, the capture ends as with Ctrl-C.
func TestHangupEnds(t *testing.T) {
	if signal.Ignored(unix.SIGHUP) {
		t.Skip("SIGHUP is ignored here, and by what is started from here, as under nohup: run it without")
	}
	l := openLab(t)
	s := serve(t, l)
	sendFeed(t, l, 100)
	if err := s.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("unspan run: %v: %s", err, &s.said)
	}
	if !strings.Contains(s.out.String(), "Every line adds up.") {
		t.Errorf("the ledger: %s", &s.out)
	}
}

// lockedBuffer is written by a logger and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// SIGHUP reads the policy file again; a bad one changes nothing, and is told.
func TestHangupReloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	var mu sync.Mutex
	var force string
	inForce := func() string {
		mu.Lock()
		defer mu.Unlock()
		return force
	}
	source := policySource{file: file, apply: func(_ context.Context, name string, content []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if name != file {
			return fmt.Errorf("name %q", name)
		}
		if bytes.HasPrefix(content, []byte("bad")) {
			return errors.New(name + ":1: bad")
		}
		force = string(content)
		return nil
	}}
	var said lockedBuffer
	ctx, cancel := source.hangup(t.Context(), slog.New(slog.NewTextHandler(&said, nil)))
	defer cancel()
	hang := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hang("first")
	await(t, "the first policy", func() bool { return inForce() == "first" })
	hang("bad")
	await(t, "the complaint", func() bool { return strings.Contains(said.String(), "policy.yaml:1: bad") })
	if got := inForce(); got != "first" {
		t.Errorf("in force: %q", got)
	}
	hang("second")
	await(t, "the second policy", func() bool { return inForce() == "second" })
	if ctx.Err() != nil {
		t.Error("the capture ends")
	}
}

// policy test shows each frame to the rules, those too that came in fragments.
func TestPolicyTest(t *testing.T) {
	rules := write(t, "p.yaml", "rules:\n  - name: all-of-it\n    encapsulation: [erspan1, erspan2, erspan3, gre]\n    action: keep\n    snap: 64\n")
	code, check, stderr := unspan(t, "", "policy", "check", rules)
	if code != 0 || !strings.Contains(check, "all-of-it") {
		t.Fatalf("check: exit code %d: %s%s", code, check, stderr)
	}
	code, stdout, stderr := unspan(t, "", "policy", "test", "--json", rules, feedCapture)
	if code != 0 {
		t.Fatalf("test: exit code %d: %s", code, stderr)
	}
	frames, kept := 0, 0
	for line := range strings.Lines(stdout) {
		var said struct {
			Packet int
			Rule   string
			Length int
			Kept   int
			Rules  []struct{ Packets int }
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if said.Rules != nil {
			kept = said.Rules[0].Packets
			continue
		}
		frames++
		if said.Rule != "all-of-it" || said.Kept != min(said.Length, 64) || said.Packet < frames {
			t.Errorf("frame %d: %+v", frames, said)
		}
	}
	if want := len(readAll(t, innerCapture)); frames != want || kept != want {
		t.Errorf("%d frames met a rule, %d counted, want %d", frames, kept, want)
	}
	// The same from standard input.
	capture, err := os.ReadFile(feedCapture)
	if err != nil {
		t.Fatal(err)
	}
	code, again, stderr := unspan(t, string(capture), "policy", "test", "--json", rules, "-")
	if code != 0 || again != stdout {
		t.Errorf("from standard input: exit code %d: %s", code, stderr)
	}
}
