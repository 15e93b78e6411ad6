package check

import (
	"errors"
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
)

// link is what an interface says of itself.
type link struct {
	name      string
	ethernet  bool
	up        bool
	carrier   bool
	driver    string
	mtu       int
	addresses int
	program   uint32 // id of an XDP program attached, 0: none
	generic   bool   // that program runs in the stack
	xdp       *xdpFeatures
	offloads  map[string]ethtool.FeatureState
	queues    int // receive queues in use
	ring      uint32
	ringMax   uint32 // 0: the driver has no ring to speak of
}

// readLink asks the kernel about an interface. What a driver does not answer
// stays zero.
func readLink(name string) (link, error) {
	ifi, err := netlink.LinkByName(name)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return link{}, errors.New("there is none of that name here")
		}
		return link{}, fmt.Errorf("finding interface %s: %w", name, err)
	}
	a := ifi.Attrs()
	l := link{
		name:     name,
		ethernet: a.EncapType == "ether" || a.EncapType == "loopback",
		up:       a.RawFlags&unix.IFF_UP != 0,
		carrier:  a.RawFlags&unix.IFF_LOWER_UP != 0,
		mtu:      a.MTU,
		queues:   1,
		xdp:      readXDPFeatures(a.Index),
	}
	if a.Xdp != nil && a.Xdp.Attached {
		l.program, l.generic = a.Xdp.ProgId, a.Xdp.AttachMode == nl.XDP_ATTACHED_SKB
	}
	addresses, err := netlink.AddrList(ifi, netlink.FAMILY_ALL)
	if err != nil {
		return link{}, fmt.Errorf("listing addresses of %s: %w", name, err)
	}
	l.addresses = len(addresses)

	e, err := ethtool.NewEthtool()
	if err != nil {
		return link{}, fmt.Errorf("opening the ethtool socket: %w", err)
	}
	defer e.Close()
	l.driver, _ = e.DriverName(name)
	l.offloads, _ = e.FeaturesWithState(name)
	if c, err := e.GetChannels(name); err == nil {
		l.queues = max(1, int(c.RxCount+c.CombinedCount))
	}
	if r, err := e.GetRing(name); err == nil {
		l.ring, l.ringMax = r.RxPending, r.RxMaxPending
	}
	return l, nil
}

// mirrorMTU holds a full-size mirrored frame, 1,514 bytes and a VLAN tag, in
// ERSPAN III with subheader over IPv6: 1,518 + 40 + 8 + 4 + 12 + 8, rounded up.
const mirrorMTU = 1600

// pageMTU is what native XDP fits in one page: 4,096 bytes less 256 of headroom,
// 320 of skb_shared_info and the Ethernet header with two tags.
const pageMTU = 4096 - 256 - 320 - 22

// findings judges the interface for a kernel.
func (l *link) findings(v version) []Finding {
	findings, add := list("interface")
	if !l.ethernet {
		add(Missing, "type", "not an Ethernet interface", "choose one that carries Ethernet frames")
		return *findings
	}
	switch {
	case !l.up:
		add(Missing, "link", "down", "ip link set dev "+l.name+" up")
	case !l.carrier:
		add(Warning, "link", "up, but without carrier", "plug the cable in, or bring the other end up")
	default:
		add(OK, "link", "up, driver "+l.driver, "")
	}
	if l.addresses > 0 {
		add(OK, "addresses", fmt.Sprintf("%d: mirror sessions to them are taken", l.addresses), "")
	} else {
		add(Warning, "addresses", "none: there is nothing for a mirror session to send to", "ip address add ADDRESS/LENGTH dev "+l.name+", or --any-destination for a tap")
	}
	if l.program == 0 {
		add(OK, "other XDP", "no program is attached", "")
	} else {
		mode := "xdp"
		if l.generic {
			mode = "xdpgeneric" // plain xdp means the driver's, and leaves this one where it is
		}
		add(Missing, "other XDP", fmt.Sprintf("program %d is attached", l.program),
			fmt.Sprintf("stop what put it there (bpftool prog show id %d), or: ip link set dev %s %s off", l.program, l.name, mode))
	}
	l.xdpFindings(v, add)
	l.offloadFindings(add)
	switch {
	case l.mtu > pageMTU && !v.atLeast(6, 6):
		add(Warning, "MTU", fmt.Sprintf("%d: frames over %d bytes need multi-buffer (Linux 6.6)", l.mtu, pageMTU),
			fmt.Sprintf("ip link set dev %s mtu %d, or a newer kernel", l.name, pageMTU))
	case l.mtu < mirrorMTU:
		add(Warning, "MTU", fmt.Sprintf("%d: a mirrored frame of full size does not fit; it comes in fragments, or cut, or not at all", l.mtu),
			fmt.Sprintf("ip link set dev %s mtu %d, and the same on the whole path", l.name, mirrorMTU))
	default:
		add(OK, "MTU", fmt.Sprintf("%d: a mirrored frame of full size fits", l.mtu), "")
	}
	switch {
	case l.queues > bpf.MaxQueues:
		add(Warning, "receive queues", fmt.Sprintf("%d, and %d are served: what lands on the others passes", l.queues, bpf.MaxQueues),
			fmt.Sprintf("ethtool -L %s combined %d", l.name, bpf.MaxQueues))
	case l.queues > 1:
		add(OK, "receive queues", fmt.Sprintf("%d: each feed lands on one of them", l.queues), "--workers N shares a queue among N workers by inner flow")
	default:
		add(OK, "receive queues", "1: every feed lands on it", "--workers N shares it among N workers by inner flow")
	}
	switch {
	case l.ringMax == 0:
	case l.ring < l.ringMax:
		add(OK, "receive ring", fmt.Sprintf("%d of up to %d", l.ring, l.ringMax), fmt.Sprintf("ethtool -G %s rx %d, if the NIC counts missed packets", l.name, l.ringMax))
	default:
		add(OK, "receive ring", fmt.Sprintf("%d, the most it can", l.ring), "")
	}
	return *findings
}

// xdpFindings judges where the program can run and how packets get out.
func (l *link) xdpFindings(v version, add func(Status, string, string, string)) {
	x, source := l.xdp, "the driver says"
	if x == nil {
		x, source = knownDriver(l.driver), "known of drivers; kernels before 6.3 do not say"
	}
	if x.basic && x.redirect {
		add(OK, "native XDP", "yes ("+source+")", "")
	} else {
		add(Warning, "native XDP", fmt.Sprintf("no, generic mode will be used: slower (%s)", source), "a NIC with native XDP; or a virtual one whose driver has it (virtio_net, vmxnet3, ena)")
	}
	add(OK, "generic XDP", "yes, as on every interface", "")
	if x.zeroCopy {
		add(OK, "zero-copy", "yes ("+source+")", "")
	} else {
		add(OK, "zero-copy", "no: each frame is copied once", "")
	}
	switch {
	case x.basic && x.buffers && v.atLeast(6, 6):
		add(OK, "large frames", "yes: frames of several buffers", "")
	case l.mtu <= pageMTU:
		add(OK, "large frames", fmt.Sprintf("no, up to an MTU of %d", pageMTU), "")
	default:
		add(Warning, "large frames", fmt.Sprintf("no, and the MTU of %d needs them: native mode will be refused", l.mtu),
			fmt.Sprintf("ip link set dev %s mtu %d, or --mode generic", l.name, pageMTU))
	}
	if x.timestamps {
		add(OK, "timestamps", "the NIC's own, through XDP metadata", "")
	} else {
		add(OK, "timestamps", "the kernel's, taken at XDP", "")
	}
}

// offloadFindings judges what keeps XDP from seeing the frames of the wire. The
// names are the kernel's (net/ethtool/common.c), the cures ethtool's.
func (l *link) offloadFindings(add func(Status, string, string, string)) {
	for _, o := range []struct{ name, title, harm, option string }{
		{"rx-vlan-hw-parse", "VLAN offload", "the NIC takes VLAN tags off before XDP sees them", "rxvlan off"},
		{"rx-lro", "LRO", "the NIC glues packets together", "lro off"},
		{"rx-gro-hw", "hardware GRO", "the NIC glues packets together", "rx-gro-hw off"},
	} {
		state, is := l.offloads[o.name]
		by := "ethtool -K " + l.name + " " + o.option
		switch {
		case !is || !state.Active:
			add(OK, o.title, "off", "")
		case state.Available && !state.NeverChanged:
			add(OK, o.title, "on; unspan run switches it off, and on again when it ends", "by hand: "+by)
		default:
			cure := "a NIC, or in a virtual machine a setting of the hypervisor, that lets it be switched off"
			if strings.HasPrefix(l.driver, "virtio") {
				cure = "at the hypervisor: offer ctrl_guest_offloads, or switch guest_tso4, guest_tso6 and guest_uso off"
			}
			add(Warning, o.title, "on, and fixed: "+o.harm, cure)
		}
	}
}
