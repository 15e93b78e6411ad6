package xsk_test

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/xsk"
)

const (
	etherType = 0x88b5 // IEEE 802 local experimental
	header    = 14 + 1 // Ethernet, and the socket that the packet is for
)

// wire is a cable with an XDP program at its collector's end, and a packet
// socket at the other.
type wire struct {
	*lab.Lab
	program *ebpf.Program
	sockets *ebpf.Map // XSKMAP
	counter *ebpf.Map // packets for which the program's verdict was XDP_REDIRECT
	sender  int
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "AF_XDP and network namespaces need root: run with sudo"
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// layWire opens a lab and attaches the program at the collector's end.
func layWire(t testing.TB, cfg lab.Config, flags link.XDPAttachFlags) *wire {
	t.Helper()
	needRoot(t)
	l, err := lab.Open(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	w := &wire{Lab: l}

	w.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 64})
	must(t, err)
	t.Cleanup(func() { w.sockets.Close() })
	w.counter, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	t.Cleanup(func() { w.counter.Close() })
	frags := uint32(0)
	if flags&link.XDPDriverMode != 0 {
		frags = unix.BPF_F_XDP_HAS_FRAGS
	}
	w.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		License:      "Dual BSD/GPL",
		Flags:        frags,
		Instructions: redirect(w.sockets, w.counter),
	})
	must(t, err)
	t.Cleanup(func() { w.program.Close() })
	must(t, l.Collector.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: w.program, Interface: l.Collector.Ifindex, Flags: flags})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
	must(t, l.Mirror.Do(func() error {
		var err error
		if w.sender, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(w.sender) })
		return unix.Bind(w.sender, &unix.SockaddrLinklayer{Ifindex: l.Mirror.Ifindex})
	}))
	return w
}

// redirect sends packets of etherType to the socket that the byte behind the
// Ethernet header names, and counts those that went.
func redirect(sockets, counter *ebpf.Map) asm.Instructions {
	const verdictRedirect, verdictDrop, verdictPass = 4, 1, 2
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, header),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R4, asm.R2, 12, asm.Half),
		asm.HostTo(asm.BE, asm.R4, asm.Half),
		asm.JNE.Imm(asm.R4, etherType, "pass"),

		asm.LoadMem(asm.R2, asm.R2, 14, asm.Byte),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Imm(asm.R3, verdictDrop),
		asm.FnRedirectMap.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.JNE.Imm(asm.R6, verdictRedirect, "out"),

		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),

		asm.Mov.Reg(asm.R0, asm.R6).WithSymbol("out"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, verdictPass).WithSymbol("pass"),
		asm.Return(),
	}
}

// open opens a queue at the collector's end and puts its sockets into the map.
func (w *wire) open(t testing.TB, cfg xsk.Config) *xsk.Queue {
	t.Helper()
	cfg.Ifindex = w.Collector.Ifindex
	var q *xsk.Queue
	must(t, w.Collector.Do(func() (err error) {
		q, err = xsk.Open(cfg)
		return err
	}))
	t.Cleanup(func() { must(t, q.Close()) })
	for i, s := range q.Sockets() {
		must(t, w.sockets.Put(uint32(i), uint32(s.FD())))
	}
	return q
}

// packet is n bytes for a socket, numbered.
func (w *wire) packet(socket, number, n int) []byte {
	p := make([]byte, max(n, header+4))
	copy(p, w.Collector.MAC)
	copy(p[6:], w.Mirror.MAC)
	binary.BigEndian.PutUint16(p[12:], etherType)
	p[14] = byte(socket)
	binary.BigEndian.PutUint32(p[header:], uint32(number))
	for i := header + 4; i < len(p); i++ {
		p[i] = byte(number + i)
	}
	return p
}

// send puts a packet on the wire. A full veth ring is waited for.
func (w *wire) send(t testing.TB, p []byte) {
	t.Helper()
	for {
		err := unix.Sendto(w.sender, p, 0, &unix.SockaddrLinklayer{Ifindex: w.Mirror.Ifindex})
		if !errors.Is(err, unix.ENOBUFS) {
			must(t, err)
			return
		}
		runtime.Gosched()
	}
}

// redirected is what the program counts.
func (w *wire) redirected(t testing.TB) uint64 {
	t.Helper()
	var n uint64
	must(t, w.counter.Lookup(uint32(0), &n))
	return n
}

// await waits until done is true. It fails the test when that takes far too long.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 seconds for %s", what)
		}
		runtime.Gosched()
	}
}
