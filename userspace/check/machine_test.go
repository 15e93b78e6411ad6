package check

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// good is the part of /proc and /sys that is read, of a machine that has all.
func good() fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"proc/sys/kernel/osrelease":        file("6.12.9-amd64\n"),
		"proc/sys/net/core/bpf_jit_enable": file("1\n"),
		"proc/meminfo":                     file("MemTotal:       24000000 kB\nHugePages_Total:      64\nHugePages_Free:       60\n"),
		"proc/self/status":                 file("Name:\tunspan\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n"),
		"proc/self/uid_map":                file("         0          0 4294967295\n"),
		"proc/self/limits":                 file("Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         8388608              8388608              bytes\n"),
		"sys/kernel/btf/vmlinux":           file("\x9f\xeb"),
		"sys/kernel/security/lockdown":     file("[none] integrity confidentiality\n"),
	}
}

func tried() attempts { return attempts{landlock: 7, tcpdump: "/usr/bin/tcpdump"} }

// write replaces the content of a file that is there.
func write(path, content string) func(fstest.MapFS, *attempts) {
	return func(root fstest.MapFS, _ *attempts) {
		if root[path] == nil {
			panic(path + " is not read")
		}
		root[path] = &fstest.MapFile{Data: []byte(content)}
	}
}

func remove(path string) func(fstest.MapFS, *attempts) {
	return func(root fstest.MapFS, _ *attempts) { delete(root, path) }
}

// Each row takes one thing from a machine that has all, and says which findings
// change and to what.
func TestMachine(t *testing.T) {
	const lessCaps = "Name:\tunspan\nCapEff:\t%016x\n"
	tests := []struct {
		name  string
		alter func(fstest.MapFS, *attempts)
		want  map[string]Status // by finding; all others are OK
	}{
		{"all there", func(fstest.MapFS, *attempts) {}, nil},
		{"the oldest kernel that will do", write("proc/sys/kernel/osrelease", "6.1.0-28-amd64"), map[string]Status{"multi-buffer": Warning}},
		{"the first kernel with multi-buffer", write("proc/sys/kernel/osrelease", "6.6.0"), nil},
		{"a kernel of two digits", write("proc/sys/kernel/osrelease", "10.0.1"), nil},
		{"an old kernel", write("proc/sys/kernel/osrelease", "5.10.0-33-amd64"), map[string]Status{"version": Missing, "multi-buffer": Warning}},
		{"a very old kernel", write("proc/sys/kernel/osrelease", "5.3.1"), map[string]Status{"version": Missing, "multi-buffer": Warning, "need-wakeup": Warning}},
		{"no release", remove("proc/sys/kernel/osrelease"), map[string]Status{"version": Missing, "multi-buffer": Warning, "need-wakeup": Warning}},
		{"JIT off", write("proc/sys/net/core/bpf_jit_enable", "0\n"), map[string]Status{"BPF JIT": Warning}},
		{"no JIT", remove("proc/sys/net/core/bpf_jit_enable"), map[string]Status{"BPF JIT": Warning}},
		{"no BTF", remove("sys/kernel/btf/vmlinux"), map[string]Status{"BTF": Warning}},
		{"lockdown for integrity", write("sys/kernel/security/lockdown", "none [integrity] confidentiality"), nil},
		{"lockdown for confidentiality", write("sys/kernel/security/lockdown", "none integrity [confidentiality]"), map[string]Status{"lockdown": Warning}},
		{"no lockdown in the kernel", remove("sys/kernel/security/lockdown"), nil},
		{"no hugepages", write("proc/meminfo", "HugePages_Free:        0\n"), nil},
		{"the verifier refuses", func(_ fstest.MapFS, a *attempts) {
			a.program = errors.New("program decap: load program: invalid argument")
		}, map[string]Status{"XDP program": Missing}},
		{"no AF_XDP in the kernel", func(_ fstest.MapFS, a *attempts) { a.socket = fmt.Errorf("opening: %w", unix.EAFNOSUPPORT) }, map[string]Status{"AF_XDP": Missing}},
		{"no busy polling in the kernel", func(_ fstest.MapFS, a *attempts) { a.busyPoll = unix.ENOPROTOOPT }, map[string]Status{"busy polling": Warning}},
		{"no privilege", func(root fstest.MapFS, a *attempts) {
			write("proc/self/status", "CapEff:\t0000000000000000\n")(root, a)
			a.program, a.socket = unix.EPERM, unix.EPERM
		}, map[string]Status{"XDP program": Missing, "AF_XDP": Missing, "capabilities": Missing, "locked memory": Missing}},
		{"the least privilege", func(root fstest.MapFS, a *attempts) {
			write("proc/self/status", fmt.Sprintf(lessCaps, 1<<unix.CAP_BPF|1<<unix.CAP_PERFMON|1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW|1<<unix.CAP_IPC_LOCK))(root, a)
		}, nil},
		{"CAP_SYS_ADMIN in place of two", write("proc/self/status", fmt.Sprintf(lessCaps, 1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW|1<<unix.CAP_IPC_LOCK)), nil},
		{"without CAP_NET_RAW", write("proc/self/status", fmt.Sprintf(lessCaps, uint64(1<<41-1)&^(1<<unix.CAP_NET_RAW))), map[string]Status{"capabilities": Missing}},
		{"root of a user namespace", write("proc/self/uid_map", "         0       1000          1\n"), map[string]Status{"capabilities": Missing}},
		{"little memory to lock", write("proc/self/status", fmt.Sprintf(lessCaps, uint64(1<<41-1)&^capIPCLock)), map[string]Status{"locked memory": Missing}},
		{"enough memory to lock", func(root fstest.MapFS, a *attempts) {
			write("proc/self/status", fmt.Sprintf(lessCaps, uint64(1<<41-1)&^capIPCLock))(root, a)
			write("proc/self/limits", "Max locked memory         67108864             67108864             bytes\n")(root, a)
		}, nil},
		{"any memory to lock", func(root fstest.MapFS, a *attempts) {
			write("proc/self/status", fmt.Sprintf(lessCaps, uint64(1<<41-1)&^capIPCLock))(root, a)
			write("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n")(root, a)
		}, nil},
		{"no Landlock", func(_ fstest.MapFS, a *attempts) { a.landlock = 0 }, map[string]Status{"Landlock": Warning}},
		{"no tcpdump", func(_ fstest.MapFS, a *attempts) { a.tcpdump = "" }, map[string]Status{"tcpdump": Warning}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, a := good(), tried()
			tt.alter(root, &a)
			m := readMachine(fs.FS(root), a)
			assert(t, append(m.kernel(), m.user()...), tt.want)
		})
	}
}

// assert compares what is not OK, both ways. What is not OK must have a cure,
// and Ready means that nothing is missing.
func assert(t *testing.T, findings []Finding, want map[string]Status) {
	t.Helper()
	ready := true
	seen := map[string]bool{}
	for _, f := range findings {
		status, is := want[f.Name]
		if !is {
			status = OK
		}
		if f.Status != status {
			t.Errorf("%s is %s (%s), want %s", f.Name, f.Status, f.Found, status)
		}
		if f.Found == "" || f.Status != OK && f.Cure == "" {
			t.Errorf("%s is %s: found %q, cure %q: say both", f.Name, f.Status, f.Found, f.Cure)
		}
		if seen[f.Name] {
			t.Errorf("%s is found twice", f.Name)
		}
		seen[f.Name] = true
		ready = ready && status != Missing
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
	if r := report("", findings); r.Ready != ready {
		t.Errorf("ready is %t, want %t", r.Ready, ready)
	}
}
