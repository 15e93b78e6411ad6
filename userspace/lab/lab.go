// Package lab is a cable in a box: two network namespaces joined by a veth
// pair, where one end plays the mirror source and the other the collector.
//
//	┌─ mirror ──────────────────┐        ┌─ collector ───────────────┐
//	│ 192.0.2.1  2001:db8::1    │  veth  │ 192.0.2.2  2001:db8::2    │
//	│ mirror0  00:00:5e:00:53:01├────────┤ collector0  …:53:02       │
//	└───────────────────────────┘        └───────────────────────────┘
//
// The cable is silent: no ARP, no neighbour discovery, no duplicate address
// detection, no multicast reports, and no offload that joins or splits frames.
// What one end sends is what the other end gets, so tests may count frames and
// compare bytes.
//
// The namespaces have no name in /run/netns. They live as long as the file
// descriptors that Lab holds, so they vanish with the process however it ends.
package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/cilium/ebpf/link"
)

// Config says what the cable is like.
//
// A passing program makes veth receive through NAPI. Frames redirected to the
// other end (XDP_TX, bpf_redirect, live frames) arrive only then, or with a
// program of the test's own (veth_xdp_xmit in drivers/net/veth.c).
type Config struct {
	Queues        int  // receive and transmit queues of each end; 0 is 1
	MTU           int  // of both ends in bytes, without the Ethernet header; 0 is 1500
	MirrorPass    bool // attach an XDP program to the mirror's end that passes everything
	CollectorPass bool // the same at the collector's end
}

// Lab is the pair of namespaces. Close it.
type Lab struct {
	Mirror    *Namespace // the sending side
	Collector *Namespace // the receiving side

	pass  []link.Link
	close sync.Once
	err   error
}

// Open makes the namespaces and the cable; both ends send and receive when it
// returns. It needs root. After an error nothing is left.
func Open(cfg Config) (_ *Lab, err error) {
	if cfg.Queues == 0 {
		cfg.Queues = 1
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.Queues < 1 || cfg.Queues > 4096 {
		return nil, fmt.Errorf("opening lab: queues %d: must be 1 to 4096", cfg.Queues)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("opening lab: network namespaces need root: run with sudo")
	}

	l := &Lab{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening lab: %w", err), l.Close())
		}
	}()
	l.Mirror, err = openNamespace(Namespace{
		Name: "mirror",
		Link: "mirror0",
		MAC:  net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01},
		IPv4: netip.MustParseAddr("192.0.2.1"),
		IPv6: netip.MustParseAddr("2001:db8::1"),
	})
	if err != nil {
		return nil, err
	}
	l.Collector, err = openNamespace(Namespace{
		Name: "collector",
		Link: "collector0",
		MAC:  net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02},
		IPv4: netip.MustParseAddr("192.0.2.2"),
		IPv6: netip.MustParseAddr("2001:db8::2"),
	})
	if err != nil {
		return nil, err
	}
	if err := l.Mirror.Do(func() error { return addCable(cfg, l.Mirror, l.Collector) }); err != nil {
		return nil, err
	}
	if err := l.Mirror.Do(func() error { return l.Mirror.bringUp(l.Collector) }); err != nil {
		return nil, err
	}
	if err := l.Collector.Do(func() error { return l.Collector.bringUp(l.Mirror) }); err != nil {
		return nil, err
	}
	if err := l.Mirror.Do(l.Mirror.awaitReady); err != nil {
		return nil, err
	}
	if err := l.Collector.Do(l.Collector.awaitReady); err != nil {
		return nil, err
	}
	if cfg.MirrorPass {
		if err := l.attachPass(l.Mirror); err != nil {
			return nil, err
		}
	}
	if cfg.CollectorPass {
		if err := l.attachPass(l.Collector); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close takes the cable away and lets go of the namespaces. Processes that
// still run inside keep theirs alive, without the cable. A second call does
// nothing and returns the same error.
func (l *Lab) Close() error {
	l.close.Do(func() {
		var errs []error
		for _, p := range l.pass {
			errs = append(errs, p.Close())
		}
		if l.Mirror != nil {
			errs = append(errs, l.Mirror.Do(l.Mirror.deleteLink), l.Mirror.Close())
		}
		if l.Collector != nil {
			errs = append(errs, l.Collector.Close())
		}
		if err := errors.Join(errs...); err != nil {
			l.err = fmt.Errorf("closing lab: %w", err)
		}
	})
	return l.err
}
