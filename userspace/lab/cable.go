package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The ends have different indexes, so that one used in the wrong namespace is
// an error there and not the other end.
const (
	mirrorIndex    = 11
	collectorIndex = 12
)

// addCable joins the current namespace, which is a's, to b's.
func addCable(cfg Config, a, b *Namespace) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Link
	attrs.Index = mirrorIndex
	attrs.HardwareAddr = a.MAC
	attrs.MTU = cfg.MTU
	attrs.NumTxQueues = cfg.Queues
	attrs.NumRxQueues = cfg.Queues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = b.Link
	veth.PeerHardwareAddr = b.MAC
	veth.PeerNamespace = netlink.NsFd(b.fd)
	veth.PeerMTU = uint32(cfg.MTU)
	veth.PeerNumTxQueues = uint32(cfg.Queues)
	veth.PeerNumRxQueues = uint32(cfg.Queues)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding a veth pair with MTU %d and %d queues: %w", cfg.MTU, cfg.Queues, err)
	}
	return nil
}

// bringUp configures the end in the current namespace, silences it and brings
// it up; peer is the other end.
func (n *Namespace) bringUp(peer *Namespace) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("looking for lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bringing up lo: %w", err)
	}
	veth, err := netlink.LinkByName(n.Link)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", n.Link, err)
	}
	n.Ifindex = veth.Attrs().Index
	if err := disableOffloads(n.Link); err != nil {
		return err
	}
	// Without ARP the kernel also joins no solicited-node group (addrconf_join_solict
	// in net/ipv6/addrconf.c), so nothing is reported by MLD.
	if err := netlink.LinkSetARPOff(veth); err != nil {
		return fmt.Errorf("switching ARP off on %s: %w", n.Link, err)
	}
	ipv6, err := n.quietIPv6()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("bringing up %s: %w", n.Link, err)
	}
	if err := n.address(veth, n.IPv4, 24, peer.IPv4, peer.MAC); err != nil {
		return err
	}
	if ipv6 {
		return n.address(veth, n.IPv6, 64, peer.IPv6, peer.MAC)
	}
	return nil
}

// quietIPv6 switches off what IPv6 sends on its own. It returns false when the
// kernel has no IPv6. /proc/sys/net shows the namespace of the reading thread.
func (n *Namespace) quietIPv6() (bool, error) {
	for _, setting := range []struct{ name, value string }{
		{"accept_dad", "0"},
		{"accept_ra", "0"},
		{"router_solicitations", "0"},
		{"addr_gen_mode", "1"}, // IN6_ADDR_GEN_MODE_NONE: no link-local address
	} {
		path := "/proc/sys/net/ipv6/conf/" + n.Link + "/" + setting.name
		err := os.WriteFile(path, []byte(setting.value), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("quieting IPv6 on %s: %w", n.Link, err)
		}
	}
	return true, nil
}

// address gives the link an address and tells it where the peer's is.
func (n *Namespace) address(veth netlink.Link, own netip.Addr, bits int, peer netip.Addr, peerMAC net.HardwareAddr) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(bits, own.BitLen())}}
	family := unix.AF_INET
	if own.Is6() {
		addr.Flags = unix.IFA_F_NODAD
		family = unix.AF_INET6
	}
	if err := netlink.AddrAdd(veth, addr); err != nil {
		return fmt.Errorf("adding %s to %s: %w", own, n.Link, err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex:    n.Ifindex,
		Family:       family,
		State:        netlink.NUD_PERMANENT,
		IP:           peer.AsSlice(),
		HardwareAddr: peerMAC,
	}); err != nil {
		return fmt.Errorf("adding neighbour %s to %s: %w", peer, n.Link, err)
	}
	return nil
}

// deleteLink removes the cable, both ends at once. The end in the mirror's
// namespace may be missing after a partial failure.
func (n *Namespace) deleteLink() error {
	veth, err := netlink.LinkByName(n.Link)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for %s: %w", n.Link, err)
	}
	if err := netlink.LinkDel(veth); err != nil {
		return fmt.Errorf("deleting %s: %w", n.Link, err)
	}
	return nil
}

// awaitReady waits for what the kernel does on work queues after the requests
// above are answered: the end that came up first had no carrier yet and eats what
// is sent until it has a queue (linkwatch_do_dev in net/core/link_watch.c), and an
// IPv6 address receives only when its local route is in (addrconf_dad_work in
// net/ipv6/addrconf.c, even without DAD).
func (n *Namespace) awaitReady() error {
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		missing, err := n.missing()
		if err != nil || missing == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for %s: %s missing after %v", n.Link, missing, patience)
		}
	}
}

// missing names what the end still lacks; nothing when it is ready.
func (n *Namespace) missing() (string, error) {
	veth, err := netlink.LinkByName(n.Link)
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", n.Link, err)
	}
	if veth.Attrs().OperState != netlink.OperUp {
		return "carrier", nil
	}
	addresses, err := netlink.AddrList(veth, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("listing the addresses of %s: %w", n.Link, err)
	}
	for _, a := range addresses {
		routes, err := netlink.RouteGet(a.IP)
		if err != nil || len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL {
			return "local route to " + a.IP.String(), nil
		}
	}
	return "", nil
}

// attachPass attaches a program that passes every frame to the end of n.
func (l *Lab) attachPass(n *Namespace) error {
	return n.Do(func() error {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name:         "lab_pass",
			Type:         ebpf.XDP,
			Flags:        unix.BPF_F_XDP_HAS_FRAGS, // else veth refuses an MTU over 3.5 KB
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
			License:      "GPL",
		})
		if err != nil {
			return fmt.Errorf("loading a passing program for %s: %w", n.Link, err)
		}
		defer program.Close()
		attached, err := link.AttachXDP(link.XDPOptions{
			Program:   program,
			Interface: n.Ifindex,
			Flags:     link.XDPDriverMode,
		})
		if err != nil {
			return fmt.Errorf("attaching a passing program to %s: %w", n.Link, err)
		}
		l.pass = append(l.pass, attached)
		return nil
	})
}
