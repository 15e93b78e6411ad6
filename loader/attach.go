package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attach puts the program on the interface, in the configured mode, in the
// network namespace of the calling thread.
func (d *Datapath) Attach(ifi netlink.Link) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	name := ifi.Attrs().Name
	if x := ifi.Attrs().Xdp; x != nil && x.Attached {
		theirs := Native
		if x.AttachMode == nl.XDP_ATTACHED_SKB {
			theirs = Generic
		}
		return fmt.Errorf("attaching to %s: another XDP program (id %d) is there: stop what put it there, or remove it with: %s", name, x.ProgId, removal(name, theirs))
	}
	modes := []Mode{Native, Generic}
	if d.config.Mode != Auto {
		modes = []Mode{d.config.Mode}
	}
	var first error
	for _, mode := range modes {
		err := d.attach(ifi.Attrs().Index, mode)
		if err == nil {
			d.mode = mode
			return nil
		}
		err = fmt.Errorf("attaching to %s (%s): %w", name, mode, attachCure(err, name, mode))
		if first == nil {
			first = err
		}
		if occupied(err) || errors.Is(err, unix.EPERM) {
			break // the other mode would not do better
		}
	}
	return first
}

// attach tries native mode with the NIC's receive times first, if they are asked
// for. It stays with what there is when that fails: not every driver has them.
func (d *Datapath) attach(ifindex int, mode Mode) error {
	d.nicTime = errors.New("not asked for")
	v := d.config.variant(mode)
	if d.config.NICTime {
		d.nicTime = errors.New("generic mode is not in the driver, which would know it")
		if mode == Native {
			bound := v
			bound.device = ifindex
			if d.nicTime = d.attachAs(bound, ifindex, mode); d.nicTime == nil {
				return nil
			}
		}
	}
	return d.attachAs(v, ifindex, mode)
}

func (d *Datapath) attachAs(v variant, ifindex int, mode Mode) error {
	if err := d.become(v, d.policy); err != nil {
		return err
	}
	flags := link.XDPDriverMode
	if mode == Generic {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: d.programs.Decap, Interface: ifindex, Flags: flags})
	if err != nil {
		return err
	}
	d.link = l
	return nil
}

// occupied: the kernel says EEXIST when the program that is there runs in the
// other mode (dev_xdp_attach in net/core/dev.c).
func occupied(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) }

// removal is the command that takes a program off that nobody holds by a link.
// Without a mode the kernel means the driver's wherever it has one
// (dev_xdp_mode), and leaves a generic program where it is.
func removal(name string, mode Mode) string {
	if mode == Generic {
		return "ip link set dev " + name + " xdpgeneric off"
	}
	return "ip link set dev " + name + " xdp off"
}

func attachCure(err error, name string, mode Mode) error {
	switch {
	case occupied(err):
		theirs := mode
		if errors.Is(err, unix.EEXIST) {
			theirs = map[Mode]Mode{Native: Generic, Generic: Native}[mode]
		}
		return fmt.Errorf("%w: another XDP program is there: stop what put it there, or remove it with: %s", err, removal(name, theirs))
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN and CAP_BPF", err)
	case mode == Native && errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the driver has no native XDP: use --mode generic", err)
	case mode == Native && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE)):
		return fmt.Errorf("%w: the driver refuses, mostly for the MTU or LRO: lower the MTU (ip link set dev %s mtu 1500), switch LRO off (ethtool -K %s lro off), or use --mode generic", err, name, name)
	}
	return err
}
