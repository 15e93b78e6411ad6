package main

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// openStack lets packets through to a receiver that takes them from the kernel's
// stack; what it returns undoes that. veth takes redirected frames only when its
// other end has a program, so there is one that passes everything.
//
// A packet socket gets its copy before anything else looks at the packet. Behind
// it the host would go on, find that nobody wants GRE and write an ICMP answer,
// which costs more than the socket does. A program ends the packet there, as
// somebody who tunes such a machine would see to. A raw socket needs the stack,
// and one peer is measured with it to show what it costs. An erspan device needs
// it too; behind its own packet socket nothing has to end the frames, because
// their addresses are not the device's (PACKET_OTHERHOST): that is the first thing
// that ip_rcv_core (net/ipv4/ip_input.c) drops a packet for.
func (g *rig) openStack(t task) (undo func() error, err error) {
	var opened []func() error
	undo = func() error {
		var errs []error
		for _, remove := range opened {
			errs = append(errs, remove())
		}
		return errors.Join(errs...)
	}
	if t.ownsXDP() {
		return undo, nil
	}
	ifindex := g.lab.Collector.Ifindex
	err = g.lab.Collector.Do(func() error {
		pass, err := attach(ifindex, verdict(xdpPass))
		if err != nil {
			return err
		}
		opened = append(opened, pass.Close)
		switch t.Receiver {
		case rawPeer, stackPeer:
			return nil
		case devicePeer:
			device, err := addERSPAN()
			if err != nil {
				return err
			}
			opened = append(opened, func() error { return g.removeERSPAN(device) })
			return nil
		}
		end, err := endBehindTap(ifindex)
		if err != nil {
			return err
		}
		opened = append(opened, end.Close)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// ownsXDP reports whether a receiver attaches an XDP program of its own.
func (t task) ownsXDP() bool {
	switch t.Receiver {
	case bareLoop, readingLoop, pipeline, droppingPipeline, dropFloor:
		return true
	}
	return false
}

// endBehindTap drops every packet where traffic control begins.
func endBehindTap(ifindex int) (link.Link, error) {
	const tcDrop = 2 // TCX_DROP in linux/bpf.h
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: verdict(tcDrop)})
	if err != nil {
		return nil, fmt.Errorf("loading a program: %w", err)
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Program: p, Interface: ifindex, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, fmt.Errorf("attaching a program to traffic control: %w: Linux 6.6 or newer is needed", err)
	}
	return l, nil
}
