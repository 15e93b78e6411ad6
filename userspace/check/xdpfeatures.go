package check

import (
	"encoding/binary"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// xdpFeatures is what a driver can do with XDP.
type xdpFeatures struct {
	basic      bool // native mode
	redirect   bool // and redirect from it
	zeroCopy   bool // AF_XDP without a copy
	buffers    bool // frames of more than one buffer
	timestamps bool // receive timestamps as XDP metadata
}

// The generic netlink family "netdev" (Linux 6.3), include/uapi/linux/netdev.h.
const (
	netdevCmdDevGet = 1

	netdevDevIfindex    = 1
	netdevDevFeatures   = 3 // u64 of enum netdev_xdp_act
	netdevDevRxMetadata = 5 // u64 of enum netdev_xdp_rx_metadata

	actBasic    = 1 << 0
	actRedirect = 1 << 1
	actZeroCopy = 1 << 3
	actBuffers  = 1 << 5

	metadataTimestamp = 1 << 0
)

// readXDPFeatures asks the kernel what the driver can do; nil when the kernel is
// too old to say.
func readXDPFeatures(ifindex int) *xdpFeatures {
	family, err := netlink.GenlFamilyGet("netdev")
	if err != nil {
		return nil
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	request.AddData(genlHeader{netdevCmdDevGet, 1})
	request.AddData(nl.NewRtAttr(netdevDevIfindex, nl.Uint32Attr(uint32(ifindex))))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < len(genlHeader{}) {
		return nil
	}
	return parseXDPFeatures(answers[0][len(genlHeader{}):])
}

// genlHeader is struct genlmsghdr: command, version and two bytes that must be
// zero (genl_header_check in net/netlink/genetlink.c). nl.Genlmsg sends whatever
// lies in memory behind its two.
type genlHeader [4]byte

func (h genlHeader) Len() int          { return len(h) }
func (h genlHeader) Serialize() []byte { return h[:] }

func parseXDPFeatures(attributes []byte) *xdpFeatures {
	parsed, err := nl.ParseRouteAttr(attributes)
	if err != nil {
		return nil
	}
	var x xdpFeatures
	for _, a := range parsed {
		if len(a.Value) != 8 {
			continue
		}
		bits := binary.NativeEndian.Uint64(a.Value)
		switch a.Attr.Type {
		case netdevDevFeatures:
			x.basic = bits&actBasic != 0
			x.redirect = bits&actRedirect != 0
			x.zeroCopy = bits&actZeroCopy != 0
			x.buffers = bits&actBuffers != 0
		case netdevDevRxMetadata:
			x.timestamps = bits&metadataTimestamp != 0
		}
	}
	return &x
}

// knownDriver is what a driver could do in Linux 6.1 and 6.2, which do not say
// it themselves, by its name in ethtool -i.
func knownDriver(driver string) *xdpFeatures {
	native := []string{
		"bnxt_en", "ena", "hv_netvsc", "i40e", "ice", "igb", "igc", "ixgbe", "ixgbevf", "mlx4_en", "mlx5_core",
		"mvneta", "mvpp2", "nfp", "qede", "sfc", "st_gmac", "tun", "veth", "virtio_net",
	}
	zeroCopy := []string{"i40e", "ice", "igc", "ixgbe", "mlx5_core", "st_gmac"}
	buffers := []string{"mvneta", "mlx5_core", "veth"}
	is := slices.Contains(native, driver)
	return &xdpFeatures{
		basic:    is,
		redirect: is,
		zeroCopy: slices.Contains(zeroCopy, driver),
		buffers:  slices.Contains(buffers, driver),
	}
}
