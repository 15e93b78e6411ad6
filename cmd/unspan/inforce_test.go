package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A running collector with its privileges dropped carries out a policy, shows it,
// takes another from the control socket and from its file, and keeps the one in
// force when the new one is bad.
func TestPolicyInForce(t *testing.T) {
	file := write(t, "p.yaml", "rules: [{name: first, filter: greater 1, action: keep, snap: 50}]\n")
	other := write(t, "q.yaml", "rules: [{name: second, encapsulation: erspan2, action: drop}]\n")
	bad := write(t, "bad.yaml", "rules: [{name: third, encapsulation: erspan9, action: drop}]\n")
	l := openLab(t)
	s := serve(t, l, "--policy", file)
	type rule struct {
		Name          string
		Packets, Kept uint64
	}
	show := func() (rules []rule) {
		t.Helper()
		code, stdout, stderr := unspan(t, "", "policy", "show", "--json", "--control", s.socket)
		if code != 0 {
			t.Fatalf("show: exit code %d: %s", code, stderr)
		}
		var said struct {
			Policy struct{ Rules []struct{ Name string } }
			Met    []rule
		}
		if err := json.Unmarshal([]byte(stdout), &said); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		if len(said.Policy.Rules) != 1 || len(said.Met) != 2 || said.Policy.Rules[0].Name != said.Met[0].Name {
			t.Fatalf("show: %s", stdout)
		}
		return said.Met
	}
	want := func(what string, first rule) {
		t.Helper()
		if got := show()[0]; got != first {
			t.Errorf("%s: %+v, want %+v", what, got, first)
		}
	}
	sendFeed(t, l, 100)
	want("the file of the command line", rule{"first", 100, 100})

	if code, _, stderr := unspan(t, "", "policy", "apply", "--control", s.socket, bad); code != 1 || !strings.Contains(stderr, "bad.yaml:1: ") {
		t.Errorf("a bad one: exit code %d: %s", code, stderr)
	}
	sendFeed(t, l, 100)
	want("after a bad one", rule{"first", 200, 200})

	if code, _, stderr := unspan(t, "", "policy", "apply", "--control", s.socket, other); code != 0 {
		t.Fatalf("apply: exit code %d: %s", code, stderr)
	}
	sendFeed(t, l, 100)
	want("applied", rule{"second", 100, 0})
	if code, stdout, stderr := unspan(t, "", "policy", "show", "--control", s.socket); code != 0 || !strings.Contains(stdout, "second: drop") {
		t.Errorf("show: exit code %d: %s%s", code, stdout, stderr)
	}

	if err := os.WriteFile(file, []byte("rules: [{name: fourth, filter: udp or tcp or arp or icmp, action: keep}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, "the file to be read again", func() bool { return show()[0].Name == "fourth" })
	ledger := s.stop()
	for _, line := range []string{"dropped: policy", "fourth: keep", "= inner frames"} {
		if !strings.Contains(ledger, line) {
			t.Errorf("the ledger lacks %q:\n%s", line, ledger)
		}
	}
	if !strings.Contains(s.said.String(), "q.yaml") {
		t.Errorf("the log does not name what was applied: %s", &s.said)
	}
}

// What the command line says of exporters holds beside a policy, and not against it.
func TestPolicyAndExporters(t *testing.T) {
	silent := write(t, "p.yaml", "rules: [{vlan: 7, action: drop}]\n")
	listing := write(t, "q.yaml", "exporters: {allow: [192.0.2.0/24]}\n")
	out := t.TempDir() + "/out.pcapng"
	for _, c := range []struct {
		name, file, exporter string
		code                 int
		want                 string // in the ledger or the error
	}{
		{"both agree", silent, "203.0.113.0/24", 0, "passed: exporter not listed"},
		{"both list", listing, "203.0.113.0/24", 1, "the policy lists exporters, and so do --exporter and --drop-strangers: keep one of the two"},
	} {
		code, stdout, stderr := unspan(t, "", "decap", feedCapture, "-w", out, "--policy", c.file, "--exporter", c.exporter)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%s: exit code %d: %s%s", c.name, code, stdout, stderr)
		}
	}
}
