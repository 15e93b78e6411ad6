package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/lab"
)

// service is unspan run at the collector's end of a cable.
type service struct {
	t    *testing.T
	lab  *lab.Lab
	cmd  *exec.Cmd
	out  bytes.Buffer // standard output
	said bytes.Buffer // standard error, to be read when it has ended
}

// serve starts it and returns when it collects.
func serve(t *testing.T, l *lab.Lab, args ...string) *service {
	t.Helper()
	s := &service{t: t, lab: l}
	s.cmd = exec.Command(program(t), append([]string{"run", "-i", l.Collector.Link, "--listen", ""}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.said
	start(t, l, s.cmd)
	await(t, "the program to be attached", func() bool { return attached(t, l) })
	return s
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
	const (
		dropped = "CapInh=0000000000000000 CapPrm=0000000000001000 CapEff=0000000000000000 CapBnd=0000000000000000 CapAmb=0000000000000000 NoNewPrivs=1"
	)
	await(t, "privileges to be dropped", func() bool { return s.status(process, "CapEff") == "CapEff=0000000000000000" })
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
