package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const elsewhere = "name another socket with --control, or none with --control=''"

// listen takes the path. A socket that a killed collector left is replaced; one
// that is answered is not.
func listen(path string) (_ *net.UnixListener, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening control socket %s: %w", path, err)
		}
	}()
	if len(path) > maxPath {
		return nil, fmt.Errorf("the name has %d bytes and at most %d fit: %s", len(path), maxPath, elsewhere)
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making its directory: %w: run as root, or %s", bare(err), elsewhere)
	}
	// One collector at a time looks and takes: else two that start together both
	// find a dead socket, and one removes the other's new one.
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: run as root, or %s", bare(err), elsewhere)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("locking its directory: %w", err)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	// The mode is set before the name exists: bind(2) gives the name that of the
	// socket (unix_bind_bsd in net/unix/af_unix.c).
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		if err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", bare(err), elsewhere)
	}
	return listener.(*net.UnixListener), nil
}

// clear removes a socket that nobody listens on any more.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return bare(err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("something is there that is no socket: remove it, or %s", elsewhere)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		defer conn.Close()
		owner := "another collector"
		if peer, err := peerOf(conn.(*net.UnixConn)); err == nil {
			owner = fmt.Sprintf("another collector, process %d,", peer.Pid)
		}
		return fmt.Errorf("%s answers there: stop it, or %s", owner, elsewhere)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("something is there: %w: remove it, or %s", bare(err), elsewhere)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing a dead collector's: %w", bare(err))
	}
	return nil
}

// peerOf is whose the other end of a connection is.
func peerOf(conn *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if controlling := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlling != nil {
		return nil, controlling
	}
	return peer, err
}

// bare takes away the layers that repeat the path and the system call.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
