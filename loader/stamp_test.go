package loader_test

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
)

// What a driver answers when it is asked for the receive time becomes the
// record's: its time, or the kernel's when it has none.
func TestDriverAnswers(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name    string
		returns int32
		time    int64
		nic     bool
	}{
		{"a time", 0, 1_700_000_000_123_456_789, true},
		{"none", -int32(unix.ENODATA), 0, false},
		{"no time, and none left behind", -int32(unix.ENODATA), 1_700_000_000_123_456_789, false},
		{"0 for a time", 0, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			program, feeds := answered(t, row.returns, row.time)
			action, out, err := program.Test(erspan2(7, 1))
			if err != nil {
				t.Fatal(err)
			}
			record, _, ok := bpf.Split(out)
			if action != 4 || !ok {
				t.Fatalf("action %d, record %v: % x", action, ok, out)
			}
			nic := record.Flags&bpf.RecordNICTime != 0
			if nic != row.nic || (record.Time == uint64(row.time)) != row.nic || record.Time == 0 {
				t.Errorf("time %d, the NIC's %v, want the NIC's %v", record.Time, nic, row.nic)
			}
			// The feed's books stay with one clock, whatever the packet's is.
			var feed bpf.DecapFeedEntry
			if err := feeds.Lookup(record.Feed, &feed); err != nil {
				t.Fatal(err)
			}
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
				t.Fatal(err)
			}
			if first := feed.State.First; first == 0 || first > uint64(now.Nano()) {
				t.Errorf("the feed's first packet came at %d, want CLOCK_MONOTONIC, not after %d", first, now.Nano())
			}
		})
	}
}

// answered is the program, and its feeds, with a function in place of the driver's.
func answered(t *testing.T, returns int32, time int64) (program *ebpf.Program, feeds *ebpf.Map) {
	t.Helper()
	config := loader.Default()
	config.Settings.AnyDestination = 1
	spec, err := loader.Bound(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := spec.Programs[bpf.DecapProgDecap]
	p.Ifindex, p.Flags = 0, p.Flags&^(1<<6) // bound to nothing after all
	asked := 0
	var line fmt.Stringer // the verifier wants one of each function
	for i, ins := range p.Instructions {
		if ins.Source() != nil {
			line = ins.Source()
		}
		if ins.IsKfuncCall() {
			call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}
			p.Instructions[i] = call.WithReference("driver").WithSource(ins.Source())
			asked++
		}
	}
	if asked == 0 {
		t.Fatal("the program asks no driver")
	}
	u64 := &btf.Int{Name: "u64", Size: 8}
	driver := &btf.Func{Name: "driver", Linkage: btf.StaticFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: u64}}, {Name: "timestamp", Type: &btf.Pointer{Target: u64}}},
	}}
	p.Instructions = append(p.Instructions,
		btf.WithFuncMetadata(asm.LoadImm(asm.R3, time, asm.DWord).WithSymbol("driver").WithSource(line), driver),
		asm.StoreMem(asm.R2, 0, asm.R3, asm.DWord),
		asm.Mov.Imm(asm.R0, returns),
		asm.Return(),
	)
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	if err := c.Maps[bpf.DecapMapXsks].Put(uint32(0), uint32(socket)); err != nil {
		t.Fatal(err)
	}
	if err := c.Maps[bpf.DecapMapFreeFeeds].Put(nil, uint32(1)); err != nil {
		t.Fatal(err)
	}
	return c.Programs[bpf.DecapProgDecap], c.Maps[bpf.DecapMapFeeds]
}

// The cable has no clock, and says so.
func TestStampIsRefused(t *testing.T) {
	needRoot(t)
	l := mustOpen(t)
	err := l.Collector.Do(func() error {
		nic, err := loader.Prepare(l.Collector.Link, false)
		if err != nil {
			t.Fatal(err)
		}
		defer nic.Close()
		return nic.Stamp()
	})
	if want := "collector0 has no clock that stamps every packet: ethtool -T collector0 says what it has"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}
