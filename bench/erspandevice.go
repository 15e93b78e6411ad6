package main

import (
	"net"

	"github.com/vishvananda/netlink"
)

// kernelHasERSPAN tries to make an erspan device at the collector's end.
func kernelHasERSPAN(g *rig) bool {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "erspan-try", HardwareAddr: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 3}}, LinkType: "erspan"}
	err := g.lab.Collector.Do(func() error {
		if err := netlink.LinkAdd(device); err != nil {
			return err
		}
		return netlink.LinkDel(device)
	})
	return err == nil
}
