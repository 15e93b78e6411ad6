package filter_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/filter"
	"github.com/unspan/unspan/userspace/lab"
)

// judges loads one program for each filter; they share the maps of the first.
func judges(t *testing.T, filters ...*filter.Filter) (*harnessObjects, []*ebpf.Program) {
	t.Helper()
	first := new(harnessObjects)
	if err := spliced(t, filters[0]).LoadAndAssign(first, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	programs := []*ebpf.Program{first.Judge}
	for _, f := range filters[1:] {
		var next harnessObjects
		if err := spliced(t, f).LoadAndAssign(&next, &ebpf.CollectionOptions{
			MapReplacements: map[string]*ebpf.Map{"tallies": first.Tallies, "slot": first.Slot},
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { next.Close() })
		programs = append(programs, next.Judge)
	}
	if err := first.Slot.Update(uint32(0), programs[0], ebpf.UpdateAny); err != nil {
		t.Fatal(err)
	}
	return first, programs
}

func tallied(t *testing.T, m *ebpf.Map) (sum harnessTally) {
	t.Helper()
	var each []harnessTally
	if err := m.Lookup(uint32(0), &each); err != nil {
		t.Fatal(err)
	}
	for _, one := range each {
		sum.Empty += one.Empty
		sum.Matched += one.Matched
		sum.Missed += one.Missed
	}
	return sum
}

var plain = []byte("\x00\x00\x5e\x00\x53\x02\x00\x00\x5e\x00\x53\x01\x08\x00\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00" +
	"\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x01\x00\x02\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// The program in the slot is exchanged again and again while frames arrive on a
// veth. Each frame is judged by one program, and none finds the slot empty.
func TestExchangeUnderLoad(t *testing.T) {
	needRoot(t)
	needTcpdump(t)
	const frames, least = 100_000, 100
	objects, programs := judges(t, mustCompile(t, "ip"), mustCompile(t, "not ip"))
	cable, err := lab.Open(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cable.Close(); err != nil {
			t.Error(err)
		}
	}()
	var attached link.Link
	if err := cable.Collector.Do(func() (err error) {
		attached, err = link.AttachXDP(link.XDPOptions{Program: objects.Entry, Interface: cable.Collector.Ifindex})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer attached.Close()

	before := sentBy(t, cable.Mirror)
	var done atomic.Bool
	failed := make(chan error, 1)
	go func() {
		defer done.Store(true)
		failed <- cable.Mirror.Do(func() error { return send(cable.Mirror.Ifindex, plain, frames) })
	}()
	exchanges := 0
	for ; !done.Load() || exchanges < least; exchanges++ {
		if err := objects.Slot.Update(uint32(0), programs[(exchanges+1)%2], ebpf.UpdateAny); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	sent := sentBy(t, cable.Mirror) - before
	got := tallied(t, objects.Tallies)
	for patience := time.Now().Add(10 * time.Second); got.Matched+got.Missed+got.Empty < sent && time.Now().Before(patience); {
		got = tallied(t, objects.Tallies)
	}
	if got.Empty != 0 || got.Matched+got.Missed != sent || got.Matched == 0 || got.Missed == 0 {
		t.Errorf("of %d frames %d matched, %d did not, %d found the slot empty: want all, some of both, none",
			sent, got.Matched, got.Missed, got.Empty)
	}
	t.Logf("%d frames, %d exchanges: %d judged by one program, %d by the other", sent, exchanges, got.Matched, got.Missed)
}

// sentBy is what the end's veth handed to its peer.
func sentBy(t *testing.T, n *lab.Namespace) (frames uint64) {
	t.Helper()
	if err := n.Do(func() error {
		veth, err := netlink.LinkByName(n.Link)
		if err == nil {
			frames = veth.Attrs().Statistics.TxPackets
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return frames
}

func send(ifindex int, frame []byte, count int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: ifindex}
	for range count {
		if err := unix.Sendto(fd, frame, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// What a filter costs in the kernel, the call included; "" is the empty stub.
func BenchmarkFilter(b *testing.B) {
	needRoot(b)
	needTcpdump(b)
	frame := make([]byte, 128)
	copy(frame[12:], []byte{8, 0, 0x45, 0, 0, 100, 0, 0, 0, 0, 64, 6, 0, 0, 10, 44, 44, 10, 10, 0, 0, 1, 0x12, 0x34, 1, 187})
	for _, e := range []string{"", "ip", "tcp port 443", "tcp port 443 and host 10.44.44.10", "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420"} {
		b.Run(e, func(b *testing.B) {
			var filters []*filter.Filter
			if e != "" {
				filters = append(filters, mustCompile(b, e))
			}
			run(b, mustLoad(b, filters...), asked(0, questionSize, frame, false))
		})
	}
}

// What the slot adds to the program behind it.
func BenchmarkSlot(b *testing.B) {
	needRoot(b)
	one, err := filter.FromPrograms("all", all, nil)
	if err != nil {
		b.Fatal(err)
	}
	var o harnessObjects
	if err := spliced(b, one).LoadAndAssign(&o, nil); err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	if err := o.Slot.Update(uint32(0), o.Judge, ebpf.UpdateAny); err != nil {
		b.Fatal(err)
	}
	b.Run("direct", func(b *testing.B) { run(b, o.Judge, plain) })
	b.Run("slot", func(b *testing.B) { run(b, o.Entry, plain) })
}

func run(b *testing.B, program *ebpf.Program, packet []byte) {
	b.Helper()
	_, took, err := program.Benchmark(packet, max(b.N, 1000), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(took.Nanoseconds()), "bpf_ns/op")
}
