package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unspan runs the program in this process, without a terminal.
func unspan(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), env{stdin: strings.NewReader(stdin), stdout: &out, stderr: &err}, args)
	return code, out.String(), err.String()
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "run", "decap", "send", "flows", "top", "sessions", "stats", "policy show", "policy apply", "policy check", "policy test", "check", "demo", "version"} {
		args := []string{"--help"}
		if command != "" {
			args = append(strings.Fields(command), "--help")
		}
		code, out, _ := unspan(t, "", args...)
		if code != 0 || !strings.Contains(out, "Usage: unspan "+command) {
			t.Errorf("unspan %s: exit code %d, %q", strings.Join(args, " "), code, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "${") {
				t.Errorf("unspan %s: a variable was left: %q", strings.Join(args, " "), line)
			}
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every error is one line that names the object and the cure; nothing is half made.
func TestErrors(t *testing.T) {
	whole, err := os.ReadFile(feedCapture)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no command", nil, 2, "expected one of"},
		{"no such command", []string{"sniff"}, 2, "unexpected argument sniff"},
		{"no such flag", []string{"decap", "--frob", "x"}, 2, "unknown flag --frob"},
		{"no interface given", []string{"run"}, 2, "missing flags: --interface"},
		{"no such interface", []string{"run", "-i", "nosuchif0", "--listen", "", "--control", ""}, 1, "there is none of that name: ip -br link lists them"},
		{"no such encapsulation", []string{"decap", "--accept", "erspan4", feedCapture}, 1, "no such encapsulation: there are erspan1"},
		{"no such file", []string{"decap", "/nonexistent/x.pcap"}, 1, "opening capture: stat /nonexistent/x.pcap: no such file"},
		{"not a capture", []string{"decap", write(t, "x.pcap", "#!/bin/sh\necho hello\n")}, 1, "x.pcap: reading capture"},
		{"an empty file", []string{"decap", write(t, "x.pcap", "")}, 1, "too few for a file header"},
		{"compressed", []string{"decap", write(t, "x.pcap.gz", "\x1f\x8b\x08\x00 and so on and on")}, 1, "give it through zcat"},
		{"cut", []string{"decap", write(t, "cut.pcap", string(whole[:len(whole)-3]))}, 1, "it was cut, or is still being written"},
		{"unwritable output", []string{"decap", "-w", "/nonexistent/out.pcapng", feedCapture}, 1, "make the directory first"},
		{"keep without rotation", []string{"decap", "-w", filepath.Join(t.TempDir(), "x"), "--keep", "3", feedCapture}, 1, "needs a rotate size or a rotate interval"},
		{"bad size", []string{"decap", "-w", "x", "--rotate-size", "3Q", feedCapture}, 2, "is not a size"},
		{"copy and zero-copy", []string{"run", "-i", "lo", "--copy", "--zero-copy", "always"}, 1, "exclude each other"},
		{"public listener", []string{"run", "-i", "lo", "--control", "", "--listen", "0.0.0.0:9477"}, 1, "listening on 0.0.0.0:9477"},
		{"configuration: unknown key", []string{"run", "-c", write(t, "c.yaml", "interface: lo\nworkerz: 3\n")}, 2, "c.yaml:2: \"workerz\" is no flag"},
		{"configuration: twice", []string{"run", "-c", write(t, "c.yaml", "interface: lo\ninterface: lo\n")}, 2, "c.yaml:2"},
		{"configuration: not flags", []string{"run", "-c", write(t, "c.yaml", "- lo\n")}, 2, "want flags as"},
		{"configuration is used", []string{"run", "-c", write(t, "c.yaml", "interface: nosuchif0\ncontrol: ''\nlisten: ''\nexporter: [192.0.2.0/24]\n")}, 1, "finding interface nosuchif0"},
		{"flags come first", []string{"run", "-c", write(t, "c.yaml", "interface: lo\ncontrol: ''\nlisten: ''\n"), "-i", "nosuchif1"}, 1, "finding interface nosuchif1"},
		{"no place for the control socket", []string{"run", "-i", "lo", "--listen", "", "--control", "/nonexistent/a/b.sock"}, 1, "name another socket with --control, or none with --control=''"},
		{"nobody to ask", []string{"stats", "--control", "/nonexistent/eth1.sock"}, 1, "no collector answers on /nonexistent/eth1.sock: start one: unspan run -i eth1"},
		{"nobody to ask for an interface", []string{"sessions", "-i", "nosuchif0"}, 1, "start one: unspan run -i nosuchif0"},
		{"policy: nobody to tell", []string{"policy", "apply", "--control", "/nonexistent/eth1.sock", write(t, "p.yaml", "rules: []\n")}, 1, "no collector answers"},
		{"policy: no such file", []string{"policy", "check", "/nonexistent/p.yaml"}, 1, "/nonexistent/p.yaml"},
		{"policy: nothing to send", []string{"policy", "apply", "--control", "/nonexistent/eth1.sock", "/nonexistent/p.yaml"}, 1, "reading policy: open /nonexistent/p.yaml"},
		{"policy: unknown key", []string{"policy", "check", write(t, "p.yaml", "rulez: []\n")}, 1, "p.yaml:1:"},
		{"policy: no such capture", []string{"policy", "test", write(t, "p.yaml", "rules: []\n"), "/nonexistent/x.pcap"}, 1, "opening capture: open /nonexistent/x.pcap"},
		{"flows: no IPFIX collector", []string{"run", "-i", "lo", "--ipfix", "192.0.2.9"}, 2, "write udp://192.0.2.9:4739 or tcp://192.0.2.9:4739"},
		{"flows: no Kafka topic", []string{"run", "-i", "lo", "--kafka", "192.0.2.9"}, 2, "write BROKER[:9092],BROKER.../TOPIC"},
		{"flows: no domain", []string{"run", "-i", "lo", "--flow-domain", "192.0.2.0/24"}, 2, "write all, or a number above 0 and an exporter"},
		{"flows: no directory", []string{"decap", "--flows-parquet", "/nonexistent/flows", feedCapture}, 1, "make it first: mkdir -p /nonexistent/flows"},
		{"flows: no directory of the file", []string{"decap", "--flows-json", "/nonexistent/x.jsonl", feedCapture}, 1, "opening flow file: open /nonexistent/x.jsonl: no such file or directory: give a file"},
		{"flows: two on standard output", []string{"decap", "-w", "-", "--flows-json", "-", feedCapture}, 1, "exclude each other"},
		{"flows: no timeout", []string{"decap", "--flows", "--flow-idle", "0s", feedCapture}, 1, "flow idle timeout: 0s is not above 0"},
		{"flows: names", []string{"decap", "--names", write(t, "names", "web 192.0.2.1\n"), feedCapture}, 1, "names:1: \"web\" is neither an IP address nor a MAC address"},
		{"flows: configuration", []string{"run", "-c", write(t, "c.yaml", "interface: nosuchif0\ncontrol: ''\nlisten: ''\nipfix: [udp://192.0.2.9, tcp://192.0.2.9]\nkafka: 192.0.2.7,192.0.2.8/flows\nflow-domain: [7=192.0.2.0/24, all]\n")}, 1, "finding interface nosuchif0"},
		{"top: nobody to ask", []string{"top", "--control", "/nonexistent/eth1.sock"}, 1, "no collector answers on /nonexistent/eth1.sock"},
		{"send: no destination", []string{"send", "-i", "lo", "--pcap", feedCapture}, 1, "name the collector's address"},
		{"send: bad rate", []string{"send", "-i", "lo", "--pcap", feedCapture, "--destination", "127.0.0.1", "--destination-mac", "00:00:5e:00:53:01", "--rate", "fast"}, 1, `rate "fast"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := unspan(t, "", c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "unspan: ") || !strings.Contains(last, c.want) {
				t.Errorf("says %q, want %q in its last line", stderr, c.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want size
		ok   bool
	}{
		{"0", 0, true}, {"1500", 1500, true}, {"64K", 64 << 10, true}, {"100M", 100 << 20, true}, {"2G", 2 << 30, true},
		{"", 0, false}, {"M", 0, false}, {"1.5G", 0, false}, {"-1K", 0, false}, {"3Q", 0, false}, {"10 M", 0, false}, {"99999999999T", 0, false},
	} {
		var got size
		err := got.UnmarshalText([]byte(c.text))
		if (err == nil) != c.ok || c.ok && got != c.want {
			t.Errorf("%q is %d, %v", c.text, got, err)
		}
	}
}
