package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace and, in a Lab, the end of the cable in it.
// Its fields do not change after Open.
type Namespace struct {
	Name    string           // "mirror" or "collector", for messages
	Link    string           // name of the veth device; of a namespace without one the rest is zero
	Ifindex int              // of the veth device; means something only inside
	MAC     net.HardwareAddr // of the veth device
	IPv4    netip.Addr       // in a /24
	IPv6    netip.Addr       // in a /64

	fd int // the namespace
}

// Do runs f on an operating system thread inside the namespace, and waits for
// it. Sockets, BPF links and child processes that f makes belong to the
// namespace and stay there; goroutines that f starts do not. A panic or a
// runtime.Goexit in f (testing's FailNow) goes on in the caller.
//
// Several goroutines may call Do at the same time.
func (n *Namespace) Do(f func() error) error {
	var (
		done     = make(chan struct{})
		err      error
		returned bool
		panicked any
	)
	// A goroutine of its own: if its thread cannot be brought back it stays
	// locked, and the runtime ends a thread whose goroutine ends locked.
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, e := openThreadNamespace()
		if e != nil {
			runtime.UnlockOSThread()
			err, returned = e, true
			return
		}
		defer unix.Close(home)
		if e := unix.Setns(n.fd, unix.CLONE_NEWNET); e != nil {
			runtime.UnlockOSThread()
			err, returned = fmt.Errorf("entering the %s namespace: %w", n.Name, e), true
			return
		}
		defer func() {
			panicked = recover()
			if unix.Setns(home, unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
		returned = true
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	if !returned {
		runtime.Goexit()
	}
	return err
}

// Path names the namespace for nsenter --net=PATH and ip link set … netns, as
// long as this process lives and the Lab is open.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd)
}

// NewNamespace makes a network namespace that exists only as a file descriptor
// of this process. There is nothing in it but its loopback device, which is down.
// The name is for messages. It needs root. The caller closes it.
func NewNamespace(name string) (*Namespace, error) {
	return openNamespace(Namespace{Name: name})
}

func openNamespace(n Namespace) (*Namespace, error) {
	n.fd = -1
	done := make(chan error)
	go func() { done <- n.unshare() }() // when that has let go of all but the namespace
	if err := <-done; err != nil {
		return nil, err
	}
	return &n, nil
}

// unshare makes the namespace on a thread of its own: if that cannot be brought
// back, it ends with the goroutine.
func (n *Namespace) unshare() error {
	runtime.LockOSThread()
	home, err := openThreadNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(home)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("making the %s namespace: %w: CAP_SYS_ADMIN is needed", n.Name, err)
	}
	n.fd, err = openThreadNamespace()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// openThreadNamespace opens the network namespace of the calling thread.
func openThreadNamespace() (int, error) {
	const path = "/proc/thread-self/ns/net"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", path, err)
	}
	return fd, nil
}

// Close lets go of the namespace; it ends when nothing else uses it. A second
// call does nothing. The namespaces of a Lab are closed by it.
func (n *Namespace) Close() error {
	if n.fd < 0 {
		return nil
	}
	fd := n.fd
	n.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("closing the %s namespace: %w", n.Name, err)
	}
	return nil
}
