package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/unspan/unspan/userspace/xsk"
)

const (
	bareLoop    = "bare AF_XDP loop"
	readingLoop = "reading AF_XDP loop"
)

// spin is how long a loop looks at an empty ring before it sleeps.
const spin = 50 * time.Microsecond

// socketLoop is the ceiling: every frame of the interface is redirected to one
// AF_XDP socket, by a program that does nothing else, and given back at once.
type socketLoop struct {
	task  task
	reads bool // the first cache line of every frame
	sum   byte // of what was read, so that it is
	queue *xsk.Queue
	got   atomic.Uint64
}

func (l *socketLoop) run(ready func(), stop <-chan struct{}) (err error) {
	runtime.LockOSThread()
	cfg := xsk.Default()
	cfg.Ifindex, cfg.MultiBuffer = l.task.Ifindex, false
	cfg.Nap = 0
	cfg.CirculationMin, cfg.CirculationMax = l.task.Frames, l.task.Frames
	if l.queue, err = xsk.Open(cfg); err != nil {
		return err
	}
	defer func() {
		if e := l.queue.Close(); err == nil {
			err = e
		}
	}()
	socket := l.queue.Sockets()[0]
	attached, err := redirectAll(l.task.Ifindex, socket.FD())
	if err != nil {
		return err
	}
	defer attached.Close()
	ready()

	var frames [64][]byte
	var empty time.Time // when the ring was first found so; zero: it was not
	for {
		n := socket.Receive(frames[:])
		if l.reads {
			for _, f := range frames[:n] {
				l.sum += f[0]
			}
		}
		l.got.Add(uint64(n))
		socket.Release()
		if n > 0 {
			empty = time.Time{}
			continue
		}
		// It costs nothing here to look again and again, and few frames do not
		// last for a nap.
		if empty.IsZero() {
			empty = time.Now()
		}
		if time.Since(empty) < spin {
			continue
		}
		select {
		case <-stop:
			return nil
		default:
		}
		if err := socket.Wait(10 * time.Millisecond); err != nil {
			return err
		}
	}
}

func (l *socketLoop) tally() (tally, error) {
	stats, err := l.queue.Stats()
	return tally{Frames: l.got.Load(), Lost: stats.RingFull + stats.FillRingEmpty + stats.TooLong}, err
}

// redirectAll attaches the shortest program that fills an AF_XDP socket. The
// link holds everything.
func redirectAll(ifindex, socket int) (link.Link, error) {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("making the XSKMAP: %w", err)
	}
	defer sockets.Close()
	if err := sockets.Put(uint32(0), uint32(socket)); err != nil {
		return nil, fmt.Errorf("filling the XSKMAP: %w", err)
	}
	return attach(ifindex, asm.Instructions{
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, xdpDrop),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	})
}

// Verdicts of XDP programs, enum xdp_action in linux/bpf.h.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// verdict is a program that says the same of every frame.
func verdict(v int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, v), asm.Return()}
}

// attach loads a program and attaches it natively in the current namespace.
func attach(ifindex int, program asm.Instructions) (link.Link, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: program})
	if err != nil {
		return nil, fmt.Errorf("loading a program: %w", err)
	}
	defer p.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attaching a program: %w", err)
	}
	return l, nil
}
