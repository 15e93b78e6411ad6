package loader_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain also is the first process of a machine that exists for these tests
// only: scripts/test-kernel starts other kernels that way.
func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	err := boot()
	if err != nil {
		fmt.Println("booting:", err)
	} else if code := m.Run(); code == 0 {
		fmt.Println("test-kernel: passed")
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// boot does what an init does, as far as these tests need it.
func boot() error {
	var version unix.Utsname
	if err := unix.Uname(&version); err != nil {
		return err
	}
	fmt.Println("test-kernel: Linux", unix.ByteSliceToString(version.Release[:]))
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(kind, dir, kind, 0, "")); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	veth, err := os.Open("/veth.ko")
	if errors.Is(err, os.ErrNotExist) {
		return nil // built in
	}
	if err != nil {
		return err
	}
	defer veth.Close()
	return unix.FinitModule(int(veth.Fd()), "", 0)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal("loading the XDP program needs root, and UNSPAN_CI is set")
	}
	t.Skip("loading the XDP program needs root: sudo -E go test ./loader/")
}

// eventually waits until what holds, and fails the test if it takes too long.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("in 30 s it did not happen that %s", what)
		}
	}
}
