package main

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const devicePeer = "erspan device + AF_PACKET v3 + pcapgo"

const deviceName = "erspan-bench"

// addERSPAN makes an erspan device in the calling thread's namespace. It takes
// the sessions of every sender that no device was made for, whatever their number
// (collect_md_tun in ip_tunnel_lookup, net/ipv4/ip_tunnel.c).
func addERSPAN() (_ netlink.Link, err error) {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(deviceName)))
	request.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(cableMTU)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("erspan"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_GRE_COLLECT_METADATA, nil)
	request.AddData(info)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return nil, fmt.Errorf("making an erspan device: %w", err)
	}
	l, err := netlink.LinkByName(deviceName)
	if err != nil {
		return nil, fmt.Errorf("finding the erspan device: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, netlink.LinkDel(l))
		}
	}()
	if err := leaveFrames(deviceName); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("setting the erspan device up: %w", err)
	}
	return l, nil
}

// leaveFrames has a tunnel device deliver every frame as it came. With GRO, which
// it begins with, gro_cells_receive (net/core/gro_cells.c) sums each TCP segment up
// and joins those of a flow into one: more work for the peer, and frames missing.
func leaveFrames(device string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("opening the ethtool socket: %w", err)
	}
	defer e.Close()
	if err := e.Change(device, map[string]bool{"rx-gro": false}); err != nil {
		return fmt.Errorf("switching GRO off on %s: %w", device, err)
	}
	return nil
}

// removeERSPAN is not the receiver's work: a receiver that is killed would leave
// the device behind, and the next one could not be made.
func (g *rig) removeERSPAN(device netlink.Link) error {
	err := g.lab.Collector.Do(func() error { return netlink.LinkDel(device) })
	if err != nil {
		return fmt.Errorf("removing the erspan device: %w", err)
	}
	return nil
}

// tryERSPAN says why the kernel has no erspan device; nil when it has.
func (g *rig) tryERSPAN() error {
	var device netlink.Link
	if err := g.lab.Collector.Do(func() (err error) {
		device, err = addERSPAN()
		return err
	}); err != nil {
		return err
	}
	return g.removeERSPAN(device)
}
