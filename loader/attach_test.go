package loader_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/lab"
)

func mustOpen(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Open(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// at runs f in the namespace n with the device that the cable ends in there.
func at(t *testing.T, n *lab.Namespace, f func(netlink.Link) error) error {
	t.Helper()
	return n.Do(func() error {
		device, err := netlink.LinkByName(n.Link)
		if err != nil {
			t.Error(err)
			return err
		}
		return f(device)
	})
}

// send puts frames on the cable at the mirror's end.
func send(t *testing.T, l *lab.Lab, frames ...[]byte) {
	t.Helper()
	if err := l.Mirror.Do(func() error {
		socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		for _, frame := range frames {
			to := unix.SockaddrLinklayer{Ifindex: l.Mirror.Ifindex, Halen: 6}
			copy(to.Addr[:], frame[:6])
			if err := unix.Sendto(socket, frame, 0, &to); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// expect waits until as many frames have been seen as want holds, and compares all boxes.
func expect(t *testing.T, d *loader.Datapath, want map[bpf.Verdict]uint64) {
	t.Helper()
	var sum uint64
	for _, n := range want {
		sum += n
	}
	got := map[bpf.Verdict]uint64{}
	eventually(t, fmt.Sprintf("%d frames were seen", sum), func() bool {
		boxes, err := d.Verdicts()
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		seen := uint64(0)
		for v, box := range boxes {
			if seen += box.Packets; box.Packets != 0 {
				got[bpf.Verdict(v)] = box.Packets
			}
		}
		return seen >= sum
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
}

func TestAttach(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		mode, want loader.Mode
	}{
		{loader.Auto, loader.Native},
		{loader.Native, loader.Native},
		{loader.Generic, loader.Generic},
	} {
		t.Run(string(row.mode), func(t *testing.T) {
			l := mustOpen(t)
			d := mustLoad(t, func(c *loader.Config) { c.Mode = row.mode })
			if err := at(t, l.Collector, d.Attach); err != nil {
				t.Fatal(err)
			}
			if got := d.Mode(); got != row.want {
				t.Errorf("the program runs in mode %s, want %s", got, row.want)
			}
			_ = at(t, l.Collector, func(device netlink.Link) error {
				// enum of XDP_ATTACHED_DRV and XDP_ATTACHED_SKB, linux/if_link.h
				want := map[loader.Mode]uint32{loader.Native: 1, loader.Generic: 2}[row.want]
				if x := device.Attrs().Xdp; x == nil || x.AttachMode != want {
					t.Errorf("the device says of XDP %+v, want mode %d", x, want)
				}
				return nil
			})
			arp := append(erspan2(0, 0)[:12], 0x08, 0x06)
			send(t, l, erspan2(7, 1), erspan2(7, 2), append(arp, make([]byte, 46)...))
			expect(t, d, map[bpf.Verdict]uint64{bpf.RedirectInner: 2, bpf.PassNotIP: 1})
		})
	}
}

// The feeds are locked wherever two CPUs may meet at one.
func TestLockIsLeftOutForOneQueueOnly(t *testing.T) {
	needRoot(t)
	size := func(mode loader.Mode, queues int) int {
		l := mustOpen(t)
		d := mustLoad(t, func(c *loader.Config) { c.Mode, c.Queues = mode, queues })
		if err := at(t, l.Collector, d.Attach); err != nil {
			t.Fatal(err)
		}
		send(t, l, erspan2(7, 1), erspan2(7, 2))
		expect(t, d, map[bpf.Verdict]uint64{bpf.RedirectInner: 2})
		_, n := measure(t, d)
		return n
	}
	locked, alone := size(loader.Native, 0), size(loader.Native, 1)
	if alone >= locked {
		t.Errorf("for one queue the program has %d instructions, for any number %d: the lock is not left out", alone, locked)
	}
	for _, row := range []struct {
		name   string
		mode   loader.Mode
		queues int
		want   int
	}{
		{"auto, one queue", loader.Auto, 1, alone},
		{"two queues", loader.Native, 2, locked},
		{"generic, one queue", loader.Generic, 1, locked},
	} {
		if got := size(row.mode, row.queues); got != row.want {
			t.Errorf("%s: %d instructions, want %d", row.name, got, row.want)
		}
	}
}

// A device without native XDP, such as the loopback device, gets the generic kind, and with it the lock, and
// loses nothing that is in the maps.
func TestFallBackToGeneric(t *testing.T) {
	needRoot(t)
	l := mustOpen(t)
	attach := func(mode loader.Mode) (*loader.Datapath, error) {
		d := mustLoad(t, func(c *loader.Config) { c.Mode, c.Queues, c.NICTime = mode, 1, true })
		deliver(t, d, erspan2(7, 1))
		return d, l.Collector.Do(func() error {
			device, err := netlink.LinkByName("lo")
			if err != nil {
				t.Fatal(err)
			}
			return d.Attach(device)
		})
	}
	if _, err := attach(loader.Native); err == nil || !strings.Contains(err.Error(), "the driver has no native XDP: use --mode generic") {
		t.Errorf("attaching natively to the loopback device: %v, want the cure", err)
	}
	d, err := attach(loader.Auto)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Mode(); got != loader.Generic {
		t.Errorf("mode %s, want generic", got)
	}
	if d.NICTime() == nil {
		t.Error("times are said to be the NIC's, in generic mode")
	}
	deliver(t, d, erspan2(7, 2)) // the program of another kind, the same maps
	expect(t, d, map[bpf.Verdict]uint64{bpf.RedirectInner: 2})
	feeds, err := d.Feeds()
	if err != nil || len(feeds) != 1 || feeds[0].State.Packets != 2 || feeds[0].State.Sequence.Received != 2 {
		t.Errorf("feeds %+v, %v, want one of two packets", feeds, err)
	}
	_, generic := measure(t, d)
	if _, locked := measure(t, mustLoad(t, nil)); generic != locked {
		t.Errorf("the program has %d instructions, want %d: with the lock", generic, locked)
	}
}

// Somebody else's program is not replaced, whether it was there when the device
// was looked up or came later.
func TestOccupied(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name         string
		theirs, mine loader.Mode
		late         bool
	}{
		{"native", loader.Native, loader.Native, false},
		{"native, late", loader.Native, loader.Native, true},
		{"generic", loader.Generic, loader.Generic, false},
		{"generic, late", loader.Generic, loader.Generic, true},
		{"the other mode, late", loader.Generic, loader.Native, true},
		{"auto, late", loader.Native, loader.Auto, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := mustOpen(t)
			d := mustLoad(t, func(c *loader.Config) { c.Mode = row.mine })
			pass := passes(t)
			err := at(t, l.Collector, func(device netlink.Link) error {
				flags := link.XDPDriverMode
				if row.theirs == loader.Generic {
					flags = link.XDPGenericMode
				}
				theirs, err := link.AttachXDP(link.XDPOptions{Program: pass, Interface: device.Attrs().Index, Flags: flags})
				if err != nil {
					t.Fatal(err)
				}
				defer theirs.Close()
				if !row.late {
					if device, err = netlink.LinkByName(l.Collector.Link); err != nil {
						t.Fatal(err)
					}
				}
				return d.Attach(device)
			})
			if err == nil {
				t.Fatal("attached")
			}
			removal := map[loader.Mode]string{loader.Native: "ip link set dev collector0 xdp off", loader.Generic: "ip link set dev collector0 xdpgeneric off"}
			for _, want := range []string{"attaching to collector0", "another XDP program", removal[row.theirs]} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
		})
	}
}

// passes is a program that passes everything.
func passes(t *testing.T) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 2), // XDP_PASS
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// A driver that tells receive times is asked for them; the veth driver then says
// that there is none, and the packet has the kernel's time all the same.
func TestNICTime(t *testing.T) {
	needRoot(t)
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var asks *btf.Func
	known := kernel.TypeByName("bpf_xdp_metadata_rx_timestamp", &asks) == nil
	for _, row := range []struct {
		name  string
		mode  loader.Mode
		ask   bool
		asked bool
	}{
		{"native", loader.Native, true, known},
		{"auto", loader.Auto, true, known},
		{"generic", loader.Generic, true, false},
		{"off", loader.Native, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := mustOpen(t)
			d := mustLoad(t, func(c *loader.Config) { c.Mode, c.NICTime = row.mode, row.ask })
			if d.NICTime() == nil {
				t.Error("before Attach, times are said to be the NIC's")
			}
			if err := at(t, l.Collector, d.Attach); err != nil {
				t.Fatal(err)
			}
			if asked := d.NICTime() == nil; asked != row.asked {
				t.Errorf("asked %v (%v), want %v", asked, d.NICTime(), row.asked)
			}
			var before, after unix.Timespec
			_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &before)
			send(t, l, erspan2(7, 1))
			expect(t, d, map[bpf.Verdict]uint64{bpf.RedirectInner: 1})
			_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &after)
			feeds, err := d.Feeds()
			if err != nil || len(feeds) != 1 {
				t.Fatalf("feeds %+v, %v, want one", feeds, err)
			}
			if got := feeds[0].State.First; got < uint64(before.Nano()) || got > uint64(after.Nano()) {
				t.Errorf("received at %d, want CLOCK_MONOTONIC between %d and %d", got, before.Nano(), after.Nano())
			}
		})
	}
}

func TestInterfaceIsRefused(t *testing.T) {
	needRoot(t)
	l := mustOpen(t)
	if err := at(t, l.Collector, netlink.LinkSetDown); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, device, want string }{
		{"missing", "nosuch0", "finding interface nosuch0: there is none of that name: ip -br link lists them"},
		{"down", l.Collector.Link, "interface collector0 is down: ip link set dev collector0 up"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := l.Collector.Do(func() error {
				nic, err := loader.Prepare(row.device, true)
				if err == nil {
					nic.Close()
				}
				return err
			})
			if err == nil || err.Error() != row.want {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	needRoot(t)
	l := mustOpen(t)
	if err := l.Collector.Do(func() error {
		nic, err := loader.Prepare(l.Collector.Link, false)
		if err != nil {
			return err
		}
		defer nic.Close()
		got, err := nic.Addresses()
		want := map[netip.Addr]bool{l.Collector.IPv4: true, l.Collector.IPv6: true}
		for _, a := range got {
			if !want[a] && !a.IsLinkLocalUnicast() {
				t.Errorf("address %s is not the interface's", a)
			}
			delete(want, a)
		}
		if len(want) != 0 {
			t.Errorf("addresses %v are missing in %v", want, got)
		}
		if n := nic.Queues(); n != 1 {
			t.Errorf("%d queues, want 1", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
