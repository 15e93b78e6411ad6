package collector_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A collector that has ended leaves nothing: no program, no promiscuity, no
// open file (each map, program and socket is one).
func TestNothingIsLeft(t *testing.T) {
	once := func(t *testing.T) (link netlink.Link) {
		config := collector.Default()
		config.Settings.AnyDestination = 1
		config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
		s := collect(t, lab.Config{}, config)
		s.mirrorOnce([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: conversations()}})
		s.end()
		if err := s.lab.Collector.Do(func() (err error) {
			link, err = netlink.LinkByName(s.lab.Collector.Link)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return link
	}
	t.Run("first", func(t *testing.T) { once(t) }) // what Go and the libraries open once
	before := descriptors(t)
	t.Run("second", func(t *testing.T) {
		link := once(t)
		if x := link.Attrs().Xdp; x != nil && x.Attached {
			t.Error("a program is attached")
		}
		if link.Attrs().Promisc != 0 {
			t.Error("the interface is promiscuous")
		}
	})
	if after := descriptors(t); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// An address that the interface gains while collecting is the collector's.
func TestNewAddress(t *testing.T) {
	s := collect(t, lab.Config{}, collector.Default())
	late := mirror.DefaultSession(bpf.EncapERSPAN1)
	late.Source, late.Destination = s.lab.Mirror.IPv4, netip.MustParseAddr("192.0.2.77")
	inner := func() uint64 {
		snapshot, err := s.live.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return snapshot.XDP[bpf.RedirectInner].Packets
	}
	s.mirrorOnce([]mirror.Feed{{Session: late, Frames: [][]byte{frameOf(64)}}})
	if n := inner(); n != 0 {
		t.Fatalf("%d frames to an address that is nobody's were taken", n)
	}
	if err := s.lab.Collector.Do(func() error {
		link, err := netlink.LinkByName(s.lab.Collector.Link)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IP{192, 0, 2, 77}, Mask: net.CIDRMask(32, 32)}})
	}); err != nil {
		t.Fatal(err)
	}
	s.await("a frame to the new address to be taken", func() bool {
		s.mirrorOnce([]mirror.Feed{{Session: late, Frames: [][]byte{frameOf(64)}}})
		return inner() > 0
	})
	s.end()
}
