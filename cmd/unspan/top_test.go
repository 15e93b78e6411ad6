package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/view"
)

// The flows of a capture are tshark's conversations.
func TestFlowsAreTsharks(t *testing.T) {
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	for _, name := range []string{"suricata_smb2-ntlmssp-negotiateflags.pcap", "ipfixprobe_mixed.pcap"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			t.Skipf("no captures in %s: put them there or set UNSPAN_CAPTURES", dir)
		}
		code, stdout, stderr := unspan(t, "", "flows", path, "--json", "--limit", "0")
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		var a view.Answer
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Fatal(err)
		}
		var rows []export.Row
		for _, r := range a.Rows {
			rows = append(rows, r.Row)
		}
		compareFlows(t, path, "frame", rows, dissect(t, path, "frame"))
	}
}

// A capture of unspan's own has feeds, which can be looked for; a small table
// forgets no flow.
func TestFlowsOfFeeds(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcapng")
	if code, _, stderr := unspan(t, "", "decap", feedCapture, "-w", out); code != 0 {
		t.Fatal(stderr)
	}
	packets := func(args ...string) (n uint64) {
		code, stdout, stderr := unspan(t, "", append([]string{"flows", out, "--json", "--limit", "0"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		var a view.Answer
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Fatal(err)
		}
		for _, r := range a.Rows {
			n += r.ClientPackets + r.ServerPackets
		}
		return n
	}
	for _, c := range []struct {
		args []string
		want uint64
	}{
		{nil, 311},
		{[]string{"--max-flows", "3"}, 311},
		{[]string{"--one-domain"}, 311},
		{[]string{"--by", "service"}, 311},
		{[]string{"--by", "address"}, 622}, // at both ends
		{[]string{"--search", "feed 192.0.2.13/erspan2/10"}, 41},
	} {
		if got := packets(c.args...); got != c.want {
			t.Errorf("%v: %d packets, want %d", c.args, got, c.want)
		}
	}
	for want, args := range map[string][]string{
		"no flow has come by feed": {"--search", "feed nosuch"},
		"searching: ":              {"--search", "nonsense"},
		"opening capture":          {"/nonexistent/x.pcap"},
	} {
		if code, _, stderr := unspan(t, "", append([]string{"flows", out}, args...)...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
}

// terminalPair is a pseudo-terminal: what a person has, and what a program gets.
func terminalPair(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lack(t, "no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		lack(t, "no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	if err := unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 150}); err != nil {
		t.Fatal(err)
	}
	return person, program
}

// unspan top prints one table into a pipe; on a terminal it goes on, obeys keys
// and leaves the terminal as it was.
func TestTop(t *testing.T) {
	l := openLab(t)
	s := serve(t, l, "--flows")
	sendFeed(t, l, 300)
	const feed = "192.0.2.1/erspan2/1"
	var once string
	await(t, "flows", func() bool {
		_, once, _ = unspan(t, "", "top", "--control", s.socket)
		return strings.Contains(once, "  tcp ")
	})
	for _, want := range []string{feed, "upstream  none", "Mbit/s", "  flow\n"} {
		if !strings.Contains(once, want) {
			t.Errorf("no %q in\n%s", want, once)
		}
	}
	_, stdout, _ := unspan(t, "", "top", "--control", s.socket, "--json", "--by", "address")
	var a view.Answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || len(a.Rows) == 0 {
		t.Errorf("%v: %s", err, stdout)
	}

	person, program := terminalPair(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	top := exec.Command(s.cmd.Path, "top", "--control", s.socket, "--interval", "100ms")
	top.Stdin, top.Stdout, top.Stderr = program, program, program
	if err := top.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = top.Process.Kill() })
	var mu sync.Mutex
	var seen strings.Builder
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := person.Read(buf)
			mu.Lock()
			seen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	sees := func(what string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(seen.String(), what)
		}
	}
	hit := func(key string) {
		if _, err := person.WriteString(key); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the screen", sees("flow by rate"))
	hit("a")
	await(t, "another view", sees("address by rate"))
	hit("p")
	await(t, "another order", sees("address by packets"))
	hit("q")
	if err := top.Wait(); err != nil {
		t.Errorf("unspan top: %v", err)
	}
	await(t, "the terminal to be given back", sees(leaveScreen))
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal is %+v, was %+v", after, before)
	}
	s.stop()
	if code, _, stderr := unspan(t, "", "top", "--control", s.socket); code != 1 || !strings.Contains(stderr, "no collector answers") {
		t.Errorf("when it is over: exit code %d: %s", code, stderr)
	}
}
