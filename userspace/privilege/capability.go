package privilege

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Set is a set of capabilities, a bit for each, as /proc/PID/status prints them.
type Set uint64

// SetOf is the set of capabilities by their numbers: unix.CAP_NET_ADMIN, ...
func SetOf(capabilities ...int) (s Set) {
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// names are those that this program has to do with (capabilities(7)).
var names = map[int]string{
	unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
	unix.CAP_SETPCAP:      "CAP_SETPCAP",
	unix.CAP_NET_ADMIN:    "CAP_NET_ADMIN",
	unix.CAP_NET_RAW:      "CAP_NET_RAW",
	unix.CAP_IPC_LOCK:     "CAP_IPC_LOCK",
	unix.CAP_SYS_ADMIN:    "CAP_SYS_ADMIN",
	unix.CAP_PERFMON:      "CAP_PERFMON",
	unix.CAP_BPF:          "CAP_BPF",
}

// String lists the set, "none" when it is empty; capabilities that do not
// concern this program go by their numbers.
func (s Set) String() string {
	var list []string
	for c := range 64 {
		if s>>c&1 == 0 {
			continue
		}
		name, known := names[c]
		if !known {
			name = "CAP_" + strconv.Itoa(c)
		}
		list = append(list, name)
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ",")
}

// sets are the capabilities of a thread that matter here; the inheritable set is
// always emptied.
type sets struct{ effective, permitted Set }

// current are those of the calling thread.
func current() (s sets, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return s, fmt.Errorf("reading the capabilities: %w", err)
	}
	s.effective = Set(data[0].Effective) | Set(data[1].Effective)<<32
	s.permitted = Set(data[0].Permitted) | Set(data[1].Permitted)<<32
	return s, nil
}

func (s sets) data() (d [2]unix.CapUserData) {
	for i := range d {
		d[i].Effective = uint32(s.effective >> (32 * i))
		d[i].Permitted = uint32(s.permitted >> (32 * i))
	}
	return d
}

// setHere sets those of the calling thread, which must be locked.
func (s sets) setHere() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := s.data()
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("setting the capabilities of a thread: %w", err)
	}
	return nil
}

// setEverywhere sets those of every thread. The ambient set goes with the
// inheritable one (capabilities(7)).
func (s sets) setEverywhere() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := s.data()
	if _, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("setting the capabilities: %w", errno)
	}
	return nil
}
