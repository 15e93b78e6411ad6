package privilege_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/filter"
	"github.com/unspan/unspan/userspace/privilege"
)

// Dropping cannot be taken back: each case runs in a child of its own, the test
// binary itself, which prints what it found.
const caseVariable = "UNSPAN_PRIVILEGE_CASE"

func TestMain(m *testing.M) {
	if name := os.Getenv(caseVariable); name != "" {
		child(name)
		return
	}
	os.Exit(m.Run())
}

// answers are what a child found, by question; "" is success, else the error.
type answers map[string]string

func child(name string) {
	found := answers{}
	ask := func(question string, err error) {
		found[question] = ""
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			found[question] = errno.Error()
		case err != nil:
			found[question] = err.Error()
		}
	}
	dir := os.Getenv("UNSPAN_PRIVILEGE_DIR")
	cases[name](dir, ask)
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}

// ask runs a case as root in a child, and gives its answers.
func ask(t *testing.T, name string, prepare func(dir string)) answers {
	t.Helper()
	if os.Geteuid() != 0 {
		const reason = "dropping privileges needs some to drop: run with sudo"
		if os.Getenv("UNSPAN_CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	dir := t.TempDir()
	for _, d := range []string{"out", "control", "policy", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"out/old", "control/socket", "policy/p.yaml", "elsewhere/secret"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if prepare != nil {
		prepare(dir)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), caseVariable+"="+name, "UNSPAN_PRIVILEGE_DIR="+dir)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v: %s", err, &complaint)
	}
	var a answers
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("child said %q: %v", out, err)
	}
	return a
}

func compare(t *testing.T, got, want answers) {
	t.Helper()
	for question, answer := range want {
		if got[question] != answer {
			t.Errorf("%s: %q, want %q", question, got[question], answer)
		}
	}
	for question, answer := range got {
		if _, asked := want[question]; !asked {
			t.Errorf("%s: %q, and nothing was wanted", question, answer)
		}
	}
}

var cases = map[string]func(dir string, ask func(string, error)){
	"files":        files,
	"network":      network,
	"capabilities": capabilities,
	"foreign":      foreign,
	"loading":      loading,
	"threads":      threads,
	"nil":          nothing,
}

const (
	permission = "permission denied"       // EACCES: Landlock, or the mode of a file
	privileged = "operation not permitted" // EPERM: a capability is missing
)

func config(dir string) privilege.Config {
	return privilege.Config{
		Keep:   privilege.SetOf(unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON),
		Write:  []string{filepath.Join(dir, "out")},
		Remove: []string{filepath.Join(dir, "control")},
		Read:   []string{filepath.Join(dir, "policy")},
	}
}

func touch(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }

// network asks what an exporter of flows needs.
func network(dir string, ask func(string, error)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ask("listen before", err)
	c := config(dir)
	c.Connect, c.Resolve = true, true
	ask("drop", privilege.New(c).Drop())
	_, err = net.Dial("tcp", listener.Addr().String())
	ask("connect", err)
	_, err = net.Dial("udp", "127.0.0.1:4739")
	ask("UDP", err)
	_, err = os.ReadFile("/etc/hosts")
	ask("read hosts", err)
	plain := net.ListenConfig{}
	plain.SetMultipathTCP(false)
	_, err = plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	ask("listen after", err)
	_, err = os.ReadFile("/etc/passwd")
	ask("read passwd", err)
	ask("run a program", exec.Command("/bin/true").Run())
}

func files(dir string, ask func(string, error)) {
	in := func(name string) string { return filepath.Join(dir, name) }
	open, err := os.Create(in("elsewhere/open"))
	ask("open before", err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ask("listen before", err)
	guard := privilege.New(config(dir))
	ask("drop", guard.Drop())
	if guard.State().Landlock == 0 {
		panic("this kernel has no Landlock: the test needs one")
	}

	_, err = open.WriteString("still mine")
	ask("write what is open", err)
	ask("write in out", touch(in("out/new")))
	_, err = os.ReadDir(in("out"))
	ask("list out", err)
	ask("remove in out", os.Remove(in("out/old")))
	ask("rename in out", os.Rename(in("out/new"), in("out/newer")))
	ask("overwrite in out", touch(in("out/newer")))
	tmp, err := os.OpenFile(in("out"), unix.O_TMPFILE|os.O_RDWR, 0o600)
	ask("nameless file in out", err)
	ask("name it", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", tmp.Fd()), unix.AT_FDCWD, in("out/named"), unix.AT_SYMLINK_FOLLOW))
	ask("directory in out", os.Mkdir(in("out/dir"), 0o700))
	ask("link from out", os.Symlink("/etc/shadow", in("out/link")))
	ask("run out of out", exec.Command(in("out/newer")).Run())

	ask("remove in control", os.Remove(in("control/socket")))
	ask("write in control", touch(in("control/file")))
	_, err = os.ReadFile(in("policy/p.yaml"))
	ask("read policy", err)
	ask("write policy", touch(in("policy/p.yaml")))

	ask("write elsewhere", touch(in("elsewhere/new")))
	_, err = os.ReadFile(in("elsewhere/secret"))
	ask("read elsewhere", err)
	ask("remove elsewhere", os.Remove(in("elsewhere/secret")))
	ask("move out of out", os.Rename(in("out/newer"), in("elsewhere/newer")))
	_, err = os.ReadFile("/etc/passwd")
	ask("read passwd", err)
	ask("run a program", exec.Command("/bin/true").Run())
	ask("signal the parent", unix.Kill(os.Getppid(), 0))

	_, err = net.Dial("tcp", listener.Addr().String())
	ask("connect", err)
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // go-landlock: Landlock knows plain TCP only
	_, err = config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	ask("listen after", err)
	_, err = os.ReadFile("/proc/self/stat")
	ask("own metrics", err)
}

func TestFiles(t *testing.T) {
	compare(t, ask(t, "files", nil), answers{
		"open before": "", "listen before": "", "drop": "", "write what is open": "",
		"write in out": "", "list out": "", "remove in out": "", "rename in out": "", "overwrite in out": "",
		"nameless file in out": "", "name it": "",
		"directory in out": permission, "link from out": permission, "run out of out": permission,
		"remove in control": "", "write in control": permission,
		"read policy": "", "write policy": permission,
		"write elsewhere": permission, "read elsewhere": permission, "remove elsewhere": permission,
		"move out of out": permission, "read passwd": permission, "run a program": permission, "signal the parent": privileged,
		"connect": permission, "listen after": permission, "own metrics": "",
	})
}

func capabilities(dir string, ask func(string, error)) {
	c := config(dir)
	c.Programs = true
	c.Read = append(c.Read, "/proc") // of the program below, which is not /proc/self
	guard := privilege.New(c)
	ask("drop", guard.Drop())
	loopback := func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1) // CAP_NET_ADMIN
	}
	ask("without", loopback())
	ask("raised", guard.Raise(loopback))
	ask("afterwards", loopback())
	ask("an error passes", guard.Raise(func() error { return errors.New("mine") }))
	ask("others cannot be raised", guard.Raise(func() error { return unix.Sethostname([]byte("x")) }))
	raw := func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	ask("raw socket", guard.Raise(raw))
	// A program gets nothing, not even from a thread that has.
	ask("program", guard.Raise(func() error {
		out, err := exec.Command("/bin/cat", "/proc/self/status").Output()
		if err != nil {
			return err
		}
		return errors.New(lines(string(out), "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"))
	}))
	_, err := filter.Compile(context.Background(), "tcp port 443 and host 192.0.2.1")
	ask("tcpdump", err)
	s := guard.State()
	ask("state", fmt.Errorf("%v", s.LogValue()))
}

// lines picks the values of /proc/PID/status.
func lines(status string, names ...string) string {
	var list []string
	for line := range strings.Lines(status) {
		for _, name := range names {
			if value, is := strings.CutPrefix(line, name+":"); is {
				list = append(list, name+" "+strings.TrimSpace(value))
			}
		}
	}
	return strings.Join(list, " ")
}

// TestNetwork: exports connect and look up names, and gain nothing else.
func TestNetwork(t *testing.T) {
	compare(t, ask(t, "network", nil), answers{
		"listen before": "", "drop": "", "connect": "", "UDP": "", "read hosts": "",
		"listen after": permission, "read passwd": permission, "run a program": permission,
	})
}

func TestCapabilities(t *testing.T) {
	compare(t, ask(t, "capabilities", nil), answers{
		"drop": "", "without": privileged, "raised": "", "afterwards": privileged, "an error passes": "mine",
		"others cannot be raised": privileged, "raw socket": privileged,
		"program": "CapPrm 0000000000000000 CapEff 0000000000000000 CapBnd 0000000000000000 CapAmb 0000000000000000 NoNewPrivs 1",
		"tcpdump": "",
		"state":   fmt.Sprintf("[capabilities=none put_aside=CAP_NET_ADMIN,CAP_PERFMON,CAP_BPF no_new_privs=true bounded=true landlock=%d]", landlockVersion()),
	})
}

// landlockVersion is what the state must say on this kernel.
func landlockVersion() int {
	version, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return min(int(version), 8)
}

// A directory of another user's needs root's power over files: it stays in force,
// and Landlock keeps it to that directory.
func foreign(dir string, ask func(string, error)) {
	guard := privilege.New(config(dir))
	ask("drop", guard.Drop())
	ask("in force", errors.New(guard.State().InForce.String()))
	var done sync.WaitGroup
	done.Go(func() { ask("write in out", touch(filepath.Join(dir, "out/new"))) })
	done.Wait()
	ask("write elsewhere", touch(filepath.Join(dir, "elsewhere/new")))
}

func TestForeignDirectory(t *testing.T) {
	got := ask(t, "foreign", func(dir string) {
		if err := os.Chown(filepath.Join(dir, "out"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	})
	compare(t, got, answers{
		"drop": "", "in force": "CAP_DAC_OVERRIDE", "write in out": "", "write elsewhere": permission,
	})
}

// What a change of policy needs: to load a program. What the running collector
// needs: to look into its maps.
func loading(dir string, ask func(string, error)) {
	c := loader.Default()
	c.Settings.AnyDestination = 1
	c.MaxFeeds = 16
	first, err := loader.Load(c)
	ask("load before", err)
	guard := privilege.New(config(dir))
	ask("drop", guard.Drop())
	_, err = first.Verdicts()
	ask("read verdicts", err)
	_, err = first.Feeds()
	ask("read feeds", err)
	_, err = loader.Load(c)
	ask("load", err)
	ask("load raised", guard.Raise(func() error {
		second, err := loader.Load(c)
		if err != nil {
			return err
		}
		return second.Close()
	}))
	ask("close", first.Close())
}

func TestLoading(t *testing.T) {
	compare(t, ask(t, "loading", nil), answers{
		"load before": "", "drop": "", "read verdicts": "", "read feeds": "", "load": privileged, "load raised": "", "close": "",
	})
}

// Every thread is restricted, those that were there and those that come.
func threads(dir string, ask func(string, error)) {
	var begin, end sync.WaitGroup
	hold := make(chan struct{})
	hog := func() {
		defer end.Done()
		begin.Done()
		<-hold
	}
	lock := func() {
		for range 8 {
			begin.Add(1)
			end.Add(1)
			go func() {
				// A thread of its own each.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				hog()
			}()
		}
		begin.Wait()
	}
	lock()
	ask("drop", privilege.New(config(dir)).Drop())
	lock()
	statuses := map[string]int{}
	all, err := os.ReadDir("/proc/self/task")
	ask("list threads", err)
	for _, thread := range all {
		status, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if err == nil {
			statuses[lines(string(status), "CapInh", "CapEff", "CapBnd", "NoNewPrivs")]++
		}
	}
	close(hold)
	end.Wait()
	for status, count := range statuses {
		ask(status, nil)
		if count < 16 {
			ask("threads "+strconv.Itoa(count), nil)
		}
	}
}

func TestThreads(t *testing.T) {
	compare(t, ask(t, "threads", nil), answers{
		"drop": "", "list threads": "",
		"CapInh 0000000000000000 CapEff 0000000000000000 CapBnd 0000000000000000 NoNewPrivs 1": "",
	})
}

func nothing(_ string, ask func(string, error)) {
	var guard *privilege.Guard
	ask("drop", guard.Drop())
	ask("raise", guard.Raise(func() error { return errors.New("called") }))
	ask("state", fmt.Errorf("%v", guard.State() == privilege.State{}))
	_, err := os.ReadFile("/etc/shadow")
	ask("read", err)
}

func TestNilKeeps(t *testing.T) {
	compare(t, ask(t, "nil", nil), answers{"drop": "", "raise": "called", "state": "true", "read": ""})
}

func TestSetString(t *testing.T) {
	for _, c := range []struct {
		set  privilege.Set
		want string
	}{
		{0, "none"},
		{privilege.SetOf(unix.CAP_NET_ADMIN), "CAP_NET_ADMIN"},
		{privilege.SetOf(unix.CAP_BPF, unix.CAP_CHOWN), "CAP_0,CAP_BPF"},
	} {
		if got := c.set.String(); got != c.want {
			t.Errorf("%#x is %q, want %q", uint64(c.set), got, c.want)
		}
	}
}
