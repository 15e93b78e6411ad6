package mirror

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// device is the network device that a Sender uses. Its netlink socket stays in
// the namespace where it was opened.
type device struct {
	name    string
	index   int
	mtu     int
	mac     net.HardwareAddr
	veth    bool
	netlink *netlink.Handle
}

// counters is what a device counts.
type counters struct{ sent, dropped uint64 }

func openDevice(name string) (*device, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	link, err := handle.LinkByName(name)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("looking for the interface: %w: ip link shows what there is", err)
	}
	attrs := link.Attrs()
	if attrs.Flags&net.FlagUp == 0 {
		handle.Close()
		return nil, fmt.Errorf("the interface is down: ip link set %s up", name)
	}
	return &device{
		name:    name,
		index:   attrs.Index,
		mtu:     attrs.MTU,
		mac:     attrs.HardwareAddr,
		veth:    link.Type() == "veth",
		netlink: handle,
	}, nil
}

func (d *device) counters() (counters, error) {
	link, err := d.netlink.LinkByIndex(d.index)
	if err != nil {
		return counters{}, fmt.Errorf("reading the counters of %s: %w", d.name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return counters{}, fmt.Errorf("reading the counters of %s: it has none", d.name)
	}
	return counters{s.TxPackets, s.TxDropped}, nil
}

func (d *device) close() { d.netlink.Close() }

// room is how many bytes of network packet the device takes behind an Ethernet
// header with so many tags. One 802.1Q tag is free (packet_snd in
// net/packet/af_packet.c, __xdp_ok_fwd_dev in include/linux/netdevice.h).
func (d *device) room(tags int) int {
	if tags == 1 {
		return d.mtu
	}
	return d.mtu - 4*tags
}

// longest is how long a frame like this one may be.
func (d *device) longest(frame []byte) int {
	if _, tagged := tag(frame); tagged {
		return ethernetLen + 4 + d.mtu
	}
	return ethernetLen + d.mtu
}

// Path is how packets reach a collector from here.
type Path struct {
	Interface      string
	Source         netip.Addr
	SourceMAC      net.HardwareAddr
	DestinationMAC net.HardwareAddr // of the collector or of the router on the way
	MTU            int
}

// Resolve finds the path to a collector from the routes and neighbours of the
// current network namespace, asking the neighbour if need be. interfaceName may be
// empty.
func Resolve(interfaceName string, destination netip.Addr) (Path, error) {
	path, err := resolve(interfaceName, destination)
	if err != nil {
		return Path{}, fmt.Errorf("finding the way to %s: %w", destination, err)
	}
	return path, nil
}

func resolve(interfaceName string, destination netip.Addr) (Path, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Path{}, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer handle.Close()
	var options *netlink.RouteGetOptions
	if interfaceName != "" {
		options = &netlink.RouteGetOptions{Oif: interfaceName}
	}
	routes, err := handle.RouteGetWithOptions(destination.AsSlice(), options)
	if err != nil {
		return Path{}, fmt.Errorf("%w: give source and MAC addresses, or add a route", err)
	}
	if len(routes) == 0 {
		return Path{}, errors.New("no route: give source and MAC addresses, or add one")
	}
	link, err := handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return Path{}, err
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	next := destination
	if gateway, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		next = gateway.Unmap()
	}
	mac, err := neighbour(handle, link.Attrs().Index, next)
	if err != nil {
		return Path{}, err
	}
	return Path{
		Interface:      link.Attrs().Name,
		Source:         source.Unmap(),
		SourceMAC:      link.Attrs().HardwareAddr,
		DestinationMAC: mac,
		MTU:            link.Attrs().MTU,
	}, nil
}

// neighbour is the MAC address of a neighbour. A datagram to the discard port
// (RFC 863) makes the kernel ask for it.
func neighbour(handle *netlink.Handle, index int, address netip.Addr) (net.HardwareAddr, error) {
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	const patience = 2 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		neighbours, err := handle.NeighList(index, unix.AF_UNSPEC)
		if err != nil {
			return nil, err
		}
		for _, n := range neighbours {
			if ip, _ := netip.AddrFromSlice(n.IP); ip.Unmap() == address && n.State&usable != 0 && len(n.HardwareAddr) == 6 {
				return n.HardwareAddr, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not answer for its MAC address: give it (--destination-mac), or start that machine", address)
		}
		if conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 9))); err == nil {
			conn.Write([]byte{0}) // whether it arrives is no matter
			conn.Close()
		}
	}
}
