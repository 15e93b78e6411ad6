package lab_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unspan/unspan/userspace/lab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "network namespaces need root: run sudo go test"
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func mustOpen(t *testing.T, cfg lab.Config) *lab.Lab {
	t.Helper()
	l, err := lab.Open(cfg)
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

// receivedFrames is the receive counter of the end's veth.
func receivedFrames(t *testing.T, n *lab.Namespace) uint64 {
	t.Helper()
	var frames uint64
	if err := n.Do(func() error {
		veth, err := netlink.LinkByName(n.Link)
		if err == nil {
			frames = veth.Attrs().Statistics.RxPackets
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return frames
}

func TestDatagramsCrossAndNothingElseDoes(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name string
		cfg  lab.Config
	}{
		{"plain", lab.Config{}},
		{"two queues and jumbo frames", lab.Config{Queues: 2, MTU: 9000}},
		{"passing programs", lab.Config{MirrorPass: true, CollectorPass: true}},
		{"passing programs, queues and jumbo frames", lab.Config{Queues: 4, MTU: 9000, MirrorPass: true, CollectorPass: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := mustOpen(t, row.cfg)
			for _, way := range []struct{ from, to *lab.Namespace }{{l.Mirror, l.Collector}, {l.Collector, l.Mirror}} {
				exchange(t, way.from, way.from.IPv4, way.to, way.to.IPv4)
				exchange(t, way.from, way.from.IPv6, way.to, way.to.IPv6)
				if got := receivedFrames(t, way.to); got != 2 {
					t.Errorf("%s received %d frames, want the 2 that were sent", way.to.Name, got)
				}
			}
		})
	}
}

// exchange sends one datagram and waits for it.
func exchange(t *testing.T, from *lab.Namespace, source netip.Addr, to *lab.Namespace, destination netip.Addr) {
	t.Helper()
	var receiver, sender *net.UDPConn
	if err := to.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, 0)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	if err := from.Do(func() (err error) {
		sender, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), receiver.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if _, err := sender.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	receiver.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 16)
	n, peer, err := receiver.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if string(buf[:n]) != "hello" || peer.Addr().Unmap() != source {
		t.Errorf("received %q from %v, want hello from %v", buf[:n], peer.Addr(), source)
	}
}

func TestEndsAreAsDescribed(t *testing.T) {
	needRoot(t)
	l := mustOpen(t, lab.Config{Queues: 3, MTU: 1600})
	for _, n := range []*lab.Namespace{l.Mirror, l.Collector} {
		if err := n.Do(func() error {
			veth, err := netlink.LinkByIndex(n.Ifindex)
			if err != nil {
				return err
			}
			a := veth.Attrs()
			if a.Name != n.Link || a.HardwareAddr.String() != n.MAC.String() || a.MTU != 1600 || a.NumRxQueues != 3 || a.NumTxQueues != 3 {
				t.Errorf("%s is %s %s MTU %d, %d and %d queues, want %s %s 1600, 3 and 3",
					n.Name, a.Name, a.HardwareAddr, a.MTU, a.NumRxQueues, a.NumTxQueues, n.Link, n.MAC)
			}
			links, err := netlink.LinkList()
			if len(links) != 2 {
				t.Errorf("%s has %d links, want lo and %s", n.Name, len(links), n.Link)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDo(t *testing.T) {
	needRoot(t)
	l := mustOpen(t, lab.Config{})
	home := threadNamespace(t)

	t.Run("returns the error", func(t *testing.T) {
		want := errors.New("no")
		if got := l.Mirror.Do(func() error { return want }); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("passes a panic on", func(t *testing.T) {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v, want boom", got)
			}
		}()
		l.Mirror.Do(func() error { panic("boom") })
	})
	t.Run("passes Goexit on", func(t *testing.T) {
		went := make(chan bool, 1)
		go func() {
			went <- true
			defer close(went)
			l.Mirror.Do(func() error { runtime.Goexit(); return nil })
			went <- false
		}()
		<-went
		if _, on := <-went; on {
			t.Error("the caller went on")
		}
	})
	t.Run("is in its namespace, many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 16 {
			n := []*lab.Namespace{l.Mirror, l.Collector}[i%2]
			wg.Go(func() {
				if err := n.Do(func() error {
					_, err := net.InterfaceByName(n.Link)
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	if here := threadNamespace(t); here != home {
		t.Errorf("the test's thread ended up in %s, want %s", here, home)
	}
}

func TestConfigIsRefused(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name string
		cfg  lab.Config
		want string
	}{
		{"negative queues", lab.Config{Queues: -1}, "queues"},
		{"too many queues", lab.Config{Queues: 5000}, "queues"},
		{"MTU over veth's", lab.Config{MTU: 70000}, "MTU 70000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := holdings(t)
			l, err := lab.Open(row.cfg)
			if err == nil {
				l.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q does not name %q", err, row.want)
			}
			if after := holdings(t); after != before {
				t.Errorf("left behind: before %+v, after %+v", before, after)
			}
		})
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	mustOpen(t, lab.Config{}).Close() // what the runtime opens once is open now
	before := holdings(t)
	for range 5 {
		l, err := lab.Open(lab.Config{MirrorPass: true, CollectorPass: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
	if after := holdings(t); after != before {
		t.Errorf("left behind: before %+v, after %+v", before, after)
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	needRoot(t)
	a, b := mustOpen(t, lab.Config{}), mustOpen(t, lab.Config{})
	exchange(t, a.Mirror, a.Mirror.IPv4, a.Collector, a.Collector.IPv4)
	if got := receivedFrames(t, b.Collector); got != 0 {
		t.Errorf("the other lab's collector received %d frames", got)
	}
}

// held is what a leak would add to.
type held struct {
	fds, links, named int
	strayThreads      int // threads of this process in another namespace than the test's
}

func holdings(t *testing.T) held {
	t.Helper()
	var h held
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	h.fds = len(fds)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	h.links = len(links)
	named, _ := os.ReadDir("/run/netns") // absent where nobody has named one
	h.named = len(named)
	home := threadNamespace(t)
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if ns, err := os.Readlink(thread); err == nil && ns != home {
			h.strayThreads++
		}
	}
	return h
}

func threadNamespace(t *testing.T) string {
	t.Helper()
	buf := make([]byte, 64)
	n, err := unix.Readlink("/proc/thread-self/ns/net", buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}
