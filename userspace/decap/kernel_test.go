package decap_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/policy"
)

// What an XDP program returns, linux/bpf.h.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// linear is how much of a test run's frame lies in one piece: a page less the
// headroom and what the kernel keeps at its end (net/bpf/test_run.c).
const linear = 3520

// kernel is the XDP program in the kernel, attached to nothing: frames go in and
// come out by BPF_PROG_TEST_RUN.
type kernel struct {
	datapath *loader.Datapath
	attr     *testRun
	in, out  []byte
}

// testRun is the part of union bpf_attr that BPF_PROG_TEST_RUN reads, linux/bpf.h.
type testRun struct {
	program, action    uint32
	sizeIn, sizeOut    uint32
	dataIn, dataOut    uint64
	repeat, duration   uint32
	ctxIn, ctxOut      uint32
	contextIn, context uint64
	flags, cpu, batch  uint32
	_                  uint32
}

// needRoot skips a test that loads a program where that cannot be.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal("loading the XDP program needs root, and UNSPAN_CI is set")
	}
	t.Skip("loading the XDP program needs root: sudo -E go test ./userspace/decap/")
}

// openSocket opens an AF_XDP socket. It is bound to nothing, and may stand in
// the socket map all the same: a redirect to it is then a verdict like others.
func openSocket(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("opening an AF_XDP socket: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// newKernel loads the program for s. Every worker has the socket fd; -1: none has one.
func newKernel(t testing.TB, s setup, fd int) *kernel {
	t.Helper()
	config := loader.Default()
	config.Settings = s.config
	config.Collectors = s.collectors
	compiled, err := policy.Compile(&s.policy)
	if err != nil {
		t.Fatal(err)
	}
	config.Policy = compiled
	config.MaxFeeds = feed.Max
	datapath, err := loader.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{datapath: datapath, attr: new(testRun), in: make([]byte, 1<<17), out: make([]byte, 1<<17)}
	for worker := 0; fd >= 0 && worker < int(s.config.Workers); worker++ {
		if err := datapath.Register(0, worker, fd); err != nil {
			k.close(t)
			t.Fatal(err)
		}
	}
	return k
}

func (k *kernel) close(t testing.TB) {
	if err := k.datapath.Close(); err != nil {
		t.Error(err)
	}
}

// run gives the program a frame and returns what it did and what it left.
func (k *kernel) run(frame []byte) (action uint32, out []byte, err error) {
	*k.attr = testRun{
		program: uint32(k.datapath.Program().FD()),
		sizeIn:  uint32(copy(k.in, frame)),
		sizeOut: uint32(len(k.out)),
		dataIn:  uint64(uintptr(unsafe.Pointer(unsafe.SliceData(k.in)))),
		dataOut: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(k.out)))),
		repeat:  1,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(k.attr)), unsafe.Sizeof(*k.attr))
	runtime.KeepAlive(k)
	if errno != 0 {
		return 0, nil, fmt.Errorf("running the program on %d bytes: %w", len(frame), errno)
	}
	return k.attr.action, k.out[:k.attr.sizeOut], nil
}

// actionOf is what the program returns for a verdict.
func actionOf(v bpf.Verdict) uint32 {
	switch {
	case bpf.Passes(v):
		return xdpPass
	case bpf.Drops(v):
		return xdpDrop
	}
	return xdpRedirect
}
