package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// version is a kernel version, without what distributions add.
type version struct{ major, minor int }

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// machine is what was read and tried of the kernel and of this process.
type machine struct {
	release      string // as uname -r prints it
	version      version
	jit          string // net.core.bpf_jit_enable
	btf          bool
	lockdown     string // line of /sys/kernel/security/lockdown
	hugepages    int    // free ones of the default size
	capabilities uint64 // effective
	userns       bool   // in a user namespace of its own
	memlock      uint64 // soft limit in bytes
	attempts
}

// attempts holds what came of trying. A nil error is success.
type attempts struct {
	program  error  // loading the XDP program
	socket   error  // opening an AF_XDP socket
	busyPoll error  // preferring busy polling on it
	landlock int    // version of the interface, 0: there is none
	tcpdump  string // where it is, "": nowhere
}

func readMachine(root fs.FS, a attempts) machine {
	m := machine{
		release:  text(root, "proc/sys/kernel/osrelease"),
		jit:      text(root, "proc/sys/net/core/bpf_jit_enable"),
		lockdown: text(root, "sys/kernel/security/lockdown"),
		attempts: a,
	}
	// A release that does not begin with two numbers is version 0.0: too old.
	_, _ = fmt.Sscanf(m.release, "%d.%d", &m.version.major, &m.version.minor)
	if _, err := fs.Stat(root, "sys/kernel/btf/vmlinux"); err == nil {
		m.btf = true
	}
	m.hugepages, _ = strconv.Atoi(field(text(root, "proc/meminfo"), "HugePages_Free:", 0))
	m.capabilities, _ = strconv.ParseUint(field(text(root, "proc/self/status"), "CapEff:", 0), 16, 64)
	// user_namespaces(7): the initial namespace maps all ids to themselves.
	ids := strings.Fields(text(root, "proc/self/uid_map"))
	m.userns = len(ids) > 0 && (len(ids) != 3 || ids[0] != "0" || ids[1] != "0" || ids[2] != "4294967295")
	switch limit := field(text(root, "proc/self/limits"), "Max locked memory", 0); limit {
	case "unlimited":
		m.memlock = unix.RLIM_INFINITY
	default:
		m.memlock, _ = strconv.ParseUint(limit, 10, 64)
	}
	return m
}

// field is the n-th word after a name at the beginning of a line.
func field(text, name string, n int) string {
	for line := range strings.Lines(text) {
		if rest, is := strings.CutPrefix(line, name); is {
			if words := strings.Fields(rest); n < len(words) {
				return words[n]
			}
		}
	}
	return ""
}

// kernel judges what no user can change while the machine runs.
func (m *machine) kernel() []Finding {
	findings, add := list("kernel")
	const newer = "install a newer kernel: Debian 12 has 6.1, its backports a newer one"
	if m.version.atLeast(6, 1) {
		add(OK, "version", "Linux "+m.release, "")
	} else {
		add(Missing, "version", fmt.Sprintf("Linux %s, and 6.1 is needed", m.release), newer)
	}
	switch m.jit {
	case "0", "":
		add(Warning, "BPF JIT", "off: the XDP program is interpreted, many times slower", "sysctl -w net.core.bpf_jit_enable=1")
	default:
		add(OK, "BPF JIT", "on", "")
	}
	if m.btf {
		add(OK, "BTF", "there: the kernel describes its own types", "")
	} else {
		add(Warning, "BTF", "not there: no kernel functions for NIC timestamps", "a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship it")
	}
	switch {
	case m.program == nil:
		add(OK, "XDP program", "the verifier accepts it", "")
	case errors.Is(m.program, unix.EPERM):
		add(Missing, "XDP program", "could not be tried without privilege", runAsRoot)
	default:
		add(Missing, "XDP program", m.program.Error(), newer)
	}
	switch {
	case m.socket == nil:
		add(OK, "AF_XDP", "a socket opens", "")
	case errors.Is(m.socket, unix.EPERM):
		add(Missing, "AF_XDP", "could not be tried without privilege", runAsRoot)
	case errors.Is(m.socket, unix.EAFNOSUPPORT):
		add(Missing, "AF_XDP", "the kernel has none", "a kernel with CONFIG_XDP_SOCKETS=y, as distributions ship it")
	default:
		add(Missing, "AF_XDP", m.socket.Error(), "look for a seccomp or SELinux rule that forbids it")
	}
	if m.version.atLeast(5, 4) {
		add(OK, "need-wakeup", "there (5.4): no system call while packets flow", "")
	} else {
		add(Warning, "need-wakeup", "not there: it came with 5.4", newer)
	}
	if m.version.atLeast(6, 6) {
		add(OK, "multi-buffer", "there (6.6): frames larger than a buffer arrive whole", "")
	} else {
		add(Warning, "multi-buffer", "not there, it came with 6.6: frames over about 3,400 bytes are dropped and counted as too big", newer)
	}
	switch {
	case m.socket != nil:
	case m.busyPoll == nil:
		add(OK, "busy polling", "there: a busy worker can poll the NIC itself", "")
	default:
		add(Warning, "busy polling", m.busyPoll.Error(), "CAP_NET_ADMIN, and a kernel with CONFIG_NET_RX_BUSY_POLL=y")
	}
	switch {
	case m.lockdown == "" || strings.Contains(m.lockdown, "[none]"):
		add(OK, "lockdown", "none", "")
	case strings.Contains(m.lockdown, "[integrity]"):
		add(OK, "lockdown", "integrity: XDP is not affected", "")
	default:
		add(Warning, "lockdown", "confidentiality: XDP is not affected, but perf and bpftrace cannot look inside", "lockdown=integrity on the kernel command line, where that is allowed")
	}
	if m.hugepages > 0 {
		add(OK, "hugepages", fmt.Sprintf("%d free", m.hugepages), "")
	} else {
		add(OK, "hugepages", "none free: packet memory takes ordinary pages, a little slower", "sysctl -w vm.nr_hugepages=128 before the start")
	}
	return *findings
}

// Capabilities by their bit in /proc/self/status, capabilities(7).
const (
	capIPCLock = 1 << unix.CAP_IPC_LOCK
	capAdmin   = 1 << unix.CAP_SYS_ADMIN
)

const runAsRoot = "run as root, or: setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon,cap_ipc_lock+ep on the unspan binary"

// packetMemory is what the packet buffers of one receive queue may take.
const packetMemory = 64 << 20

// user judges what this process may do.
func (m *machine) user() []Finding {
	findings, add := list("user")
	needed := []struct {
		name, why string
		bits      uint64 // any of them will do
	}{
		{"CAP_BPF", "to load the program", 1<<unix.CAP_BPF | capAdmin},
		{"CAP_PERFMON", "to load it as it is", 1<<unix.CAP_PERFMON | capAdmin},
		{"CAP_NET_ADMIN", "to attach it", 1 << unix.CAP_NET_ADMIN},
		{"CAP_NET_RAW", "for AF_XDP sockets", 1 << unix.CAP_NET_RAW},
	}
	var have, lack []string
	for _, c := range needed {
		if m.capabilities&c.bits != 0 {
			have = append(have, c.name)
		} else {
			lack = append(lack, c.name+" "+c.why)
		}
	}
	switch {
	case len(lack) > 0:
		add(Missing, "capabilities", "without "+strings.Join(lack, ", "), runAsRoot)
	case m.userns:
		add(Missing, "capabilities", "only inside a user namespace: BPF asks for them outside", "run outside of it (a container: --privileged, or the capabilities of the host)")
	default:
		add(OK, "capabilities", strings.Join(have, ", "), "")
	}
	switch {
	case m.capabilities&capIPCLock != 0:
		add(OK, "locked memory", "not limited (CAP_IPC_LOCK)", "")
	case m.memlock == unix.RLIM_INFINITY:
		add(OK, "locked memory", "not limited", "")
	case m.memlock >= packetMemory:
		add(OK, "locked memory", fmt.Sprintf("%d MiB", m.memlock>>20), "")
	default:
		add(Missing, "locked memory", fmt.Sprintf("%d KiB, and packet buffers take up to %d MiB a queue", m.memlock>>10, packetMemory>>20),
			"ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit")
	}
	if m.landlock > 0 {
		add(OK, "Landlock", fmt.Sprintf("version %d: the process can lock itself into its output directory", m.landlock), "")
	} else {
		add(Warning, "Landlock", "not there: the process cannot lock itself into its output directory", "lsm=landlock,... on the kernel command line (CONFIG_SECURITY_LANDLOCK=y)")
	}
	if m.tcpdump != "" {
		add(OK, "tcpdump", m.tcpdump+": it compiles capture filters", "")
	} else {
		add(Warning, "tcpdump", "not found: there is nothing to compile capture filters", "apt install tcpdump")
	}
	return *findings
}
