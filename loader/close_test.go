package loader_test

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"

	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/lab"
)

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// kept is what the kernel still has of a program and its maps.
func kept(program ebpf.ProgramID, maps []ebpf.MapID) int {
	n := 0
	if p, err := ebpf.NewProgramFromID(program); !errors.Is(err, os.ErrNotExist) {
		n++
		p.Close()
	}
	for _, id := range maps {
		if m, err := ebpf.NewMapFromID(id); !errors.Is(err, os.ErrNotExist) {
			n++
			m.Close()
		}
	}
	return n
}

// Close leaves no descriptor, program, map or attachment behind, and the
// interface as it was found.
func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	l := mustOpen(t)
	features := func() (tags, promiscuous bool) {
		if err := at(t, l.Collector, func(device netlink.Link) error {
			promiscuous = device.Attrs().Promisc != 0
			e, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer e.Close()
			states, err := e.Features(l.Collector.Link)
			tags = states["rx-vlan-hw-parse"]
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return tags, promiscuous
	}
	hideTags(t, l.Collector)
	for _, mode := range []loader.Mode{loader.Native, loader.Generic} {
		for _, nicTime := range []bool{true, false} {
			once := func() {
				var nic *loader.NIC
				if err := l.Collector.Do(func() (err error) {
					nic, err = loader.Prepare(l.Collector.Link, true)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if hidden, promiscuous := features(); hidden || !promiscuous {
					t.Errorf("prepared: tags are taken off %v, promiscuous %v, want false, true", hidden, promiscuous)
				}
				config := loader.Default()
				config.Settings.AnyDestination = 1
				config.Mode, config.Queues, config.NICTime = mode, 1, nicTime
				d, err := loader.Load(config)
				if err != nil {
					t.Fatal(err)
				}
				if err := at(t, l.Collector, d.Attach); err != nil {
					t.Fatal(err)
				}
				info, err := d.Program().Info()
				if err != nil {
					t.Fatal(err)
				}
				program, ok := info.ID()
				maps, ok2 := info.MapIDs()
				if !ok || !ok2 || len(maps) < 8 {
					t.Fatalf("the program uses the maps %v, want all of its own", maps)
				}
				for range 2 { // Close may be called again
					if err := d.Close(); err != nil {
						t.Error(err)
					}
					if err := l.Collector.Do(nic.Close); err != nil {
						t.Error(err)
					}
				}
				eventually(t, "the kernel let go of the program and its maps", func() bool { return kept(program, maps) == 0 })
			}
			once() // what Go and the libraries open once is open now
			before := descriptors(t)
			once()
			if after := descriptors(t); after != before {
				t.Errorf("%s: %d descriptors are open, %d were before", mode, after, before)
			}
			if hidden, promiscuous := features(); !hidden || promiscuous {
				t.Errorf("%s: tags are taken off %v, promiscuous %v, want true, false, as before", mode, hidden, promiscuous)
			}
			_ = at(t, l.Collector, func(device netlink.Link) error {
				if x := device.Attrs().Xdp; x != nil && x.Attached {
					t.Errorf("%s: program %d is attached", mode, x.ProgId)
				}
				return nil
			})
		}
	}
}

// hideTags has the device take VLAN tags off the frames, as most do.
func hideTags(t *testing.T, n *lab.Namespace) {
	t.Helper()
	if err := n.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		return e.Change(n.Link, map[string]bool{"rx-vlan-hw-parse": true})
	}); err != nil {
		t.Fatal(err)
	}
}

// A failed Load leaves nothing either.
func TestFailedLoadLeavesNothing(t *testing.T) {
	needRoot(t)
	load := func() {
		config := loader.Default()
		for range 33 {
			config.Collectors = append(config.Collectors, collector)
		}
		if d, err := loader.Load(config); err == nil {
			d.Close()
			t.Fatal("loaded with more collectors than there is room for")
		}
	}
	load()
	before := descriptors(t)
	load()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}
