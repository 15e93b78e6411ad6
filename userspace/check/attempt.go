package check

import (
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/loader"
)

// try tries what leaves no trace.
func try() attempts {
	a := attempts{program: loadProgram(), landlock: landlock()}
	a.socket, a.busyPoll = openSocket()
	if path, err := exec.LookPath("tcpdump"); err == nil {
		a.tcpdump = path
	}
	return a
}

// loadProgram has the verifier look at the program that unspan run would attach.
func loadProgram() error {
	config := loader.Default()
	config.Settings.AnyDestination = 1
	datapath, err := loader.Load(config)
	if err != nil {
		return err
	}
	return datapath.Close()
}

// openSocket opens an AF_XDP socket, which is bound to nothing, and asks it to
// prefer busy polling.
func openSocket() (opening, busyPolling error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening an AF_XDP socket: %w", err), nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, 1); err != nil {
		busyPolling = fmt.Errorf("preferring busy polling: %w", err)
	}
	return unix.Close(fd), busyPolling
}

// landlock is the version of the Landlock interface: landlock_create_ruleset(2)
// returns it when asked for no ruleset. 0: the kernel has none, or it is off.
func landlock() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}
