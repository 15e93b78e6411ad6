package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// napi is how the kernel receives from a link: what an administrator sets in
// /sys/class/net/LINK. The zero value is how it comes.
type napi struct {
	deferrals int           // napi_defer_hard_irqs
	flush     time.Duration // gro_flush_timeout
	threaded  bool
}

// set changes a link of the calling thread's namespace, once XDP is attached: a
// veth has no NAPI before (veth_napi_enable in drivers/net/veth.c), and what has
// none has no threads. sysfs shows the links of the namespace that it was
// mounted in, so it is mounted anew, where nobody else sees it.
func (n napi) set(link string) (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("leaving the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	at, err := os.MkdirTemp("", "unspan-bench-sys-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(at)) }()
	if err := unix.Mount("sysfs", at, "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounting sysfs: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(at, 0)) }()
	threaded := 0
	if n.threaded {
		threaded = 1
	}
	for _, s := range []struct {
		name  string
		value int
	}{
		{"napi_defer_hard_irqs", n.deferrals},
		{"gro_flush_timeout", int(n.flush.Nanoseconds())},
		{"threaded", threaded},
	} {
		file := filepath.Join(at, "class", "net", link, s.name)
		if err := os.WriteFile(file, []byte(strconv.Itoa(s.value)), 0); err != nil {
			return fmt.Errorf("setting %s of %s to %d: %w", s.name, link, s.value, errors.Unwrap(err))
		}
	}
	return nil
}

// setNAPI changes the collector's link.
func (g *rig) setNAPI(n napi) error {
	return g.lab.Collector.Do(func() error {
		// Once more than Do unlocks: the thread has left the mount namespace for
		// good, and ends with its goroutine.
		runtime.LockOSThread()
		return n.set(g.lab.Collector.Link)
	})
}
