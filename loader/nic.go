package loader

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hiding are the offloads that keep XDP from seeing what was on the wire, by
// their names in the kernel (net/ethtool/common.c): VLAN tags taken off into
// metadata, and packets glued together.
var hiding = []string{"rx-vlan-hw-parse", "rx-lro", "rx-gro-hw"}

// NIC is an interface made ready to receive mirror feeds. Close puts back what
// was changed.
type NIC struct {
	Link     netlink.Link
	changed  map[string]bool      // offloads switched off
	promisc  int                  // packet socket that holds promiscuous mode; -1: none
	stamping *unix.HwTstampConfig // which packets were stamped before Stamp; nil: not changed
}

// Prepare makes the interface ready: it must be up, the offloads that hide
// tags or glue packets are switched off where the driver lets us, and with
// promiscuous every frame is taken, not only those to the interface's own MAC.
func Prepare(name string, promiscuous bool) (*NIC, error) {
	ifi, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("finding interface %s: there is none of that name: ip -br link lists them", name)
	}
	if err != nil {
		return nil, fmt.Errorf("finding interface %s: %w", name, err)
	}
	if ifi.Attrs().RawFlags&unix.IFF_UP == 0 {
		return nil, fmt.Errorf("interface %s is down: ip link set dev %s up", name, name)
	}
	n := &NIC{Link: ifi, promisc: -1}
	if err := n.showTags(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if promiscuous {
		if err := n.hearAll(); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func (n *NIC) showTags() error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("opening the ethtool socket: %w", err)
	}
	defer e.Close()
	name := n.Link.Attrs().Name
	features, err := e.FeaturesWithState(name)
	if err != nil {
		return nil // a driver without features hides nothing
	}
	off := map[string]bool{}
	for _, f := range hiding {
		if s, ok := features[f]; ok && s.Active && s.Available {
			off[f] = false
		}
	}
	if len(off) == 0 {
		return nil
	}
	if err := e.Change(name, off); err != nil {
		return fmt.Errorf("switching off offloads of %s that hide tags or glue packets: %w: switch them off by hand: ethtool -K %s rxvlan off lro off rx-gro-hw off", name, err, name)
	}
	n.changed = off
	return nil
}

// hearAll asks for promiscuous mode through a packet socket: packet(7) says the
// kernel takes the membership back when the socket closes, so a killed process
// leaves nothing behind.
func (n *NIC) hearAll() error {
	name := n.Link.Attrs().Name
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket for promiscuous mode on %s: %w: run as root, or with CAP_NET_RAW", name, err)
	}
	n.promisc = fd
	m := unix.PacketMreq{Ifindex: int32(n.Link.Attrs().Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
		return fmt.Errorf("setting %s promiscuous: %w", name, err)
	}
	return nil
}

// Queues is the number of receive queues in use, by ETHTOOL_GCHANNELS; a
// driver that does not say has one.
func (n *NIC) Queues() int {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return 1
	}
	defer e.Close()
	c, err := e.GetChannels(n.Link.Attrs().Name)
	if err != nil {
		return 1
	}
	return max(1, int(c.RxCount+c.CombinedCount))
}

// Addresses are the interface's own, IPv4 and IPv6: what a mirror session
// names as its destination.
func (n *NIC) Addresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(n.Link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing addresses of %s: %w", n.Link.Attrs().Name, err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}

// Close puts the interface back as Prepare found it. It may be called again.
func (n *NIC) Close() error {
	var errs []error
	if len(n.changed) > 0 {
		on := map[string]bool{}
		for f := range n.changed {
			on[f] = true
		}
		n.changed = nil
		if e, err := ethtool.NewEthtool(); err != nil {
			errs = append(errs, fmt.Errorf("opening the ethtool socket: %w", err))
		} else {
			if err := e.Change(n.Link.Attrs().Name, on); err != nil {
				errs = append(errs, fmt.Errorf("restoring offloads of %s: %w", n.Link.Attrs().Name, err))
			}
			e.Close()
		}
	}
	if n.stamping != nil {
		errs = append(errs, n.unstamp())
	}
	if n.promisc >= 0 {
		errs = append(errs, unix.Close(n.promisc))
		n.promisc = -1
	}
	return errors.Join(errs...)
}
