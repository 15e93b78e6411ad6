package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/policy"
)

// A repeated test run does not put the packet back between repeats: from the
// second on, a program that strips sees what it has already stripped. So it is
// run through a program of the bench's own:
//
//	test run ─► restore ── tail call ─► program under test
//	            length as it was, headers as they were,
//	            the next sequence number
//
// and what restore costs is measured with programs behind it that do nothing.

// kernelCost measures the XDP program on its own, without a device.
func (b *bench) kernelCost(ctx context.Context) error {
	costs := table{
		Title:   "The XDP program per packet, above an empty XDP_DROP",
		Columns: []string{"packet", "verdict", "ns", "spread"},
		Note:    "BPF_PROG_TEST_RUN of one packet of 64 inner bytes, hot in the cache, on one CPU; a policy of 10 rules unless said otherwise, none of which fits; headers and length put back and the sequence number counted up before every run, the cost of that taken off.",
	}
	cases := []struct {
		name    string
		encap   bpf.Encap
		rules   int
		dropped bool // by the policy: a verdict before the strip
		full    bool // the feed table, of other feeds
		title   string
	}{
		{name: "erspan1", encap: bpf.EncapERSPAN1, rules: someRules, title: "ERSPAN I"},
		{name: "erspan2", encap: bpf.EncapERSPAN2, rules: someRules, title: "ERSPAN II"},
		{name: "erspan3", encap: bpf.EncapERSPAN3, rules: someRules, title: "ERSPAN III"},
		{name: "gre", encap: bpf.EncapGRE, rules: someRules, title: "GRE"},
		{name: "drop", encap: bpf.EncapERSPAN2, rules: someRules, dropped: true, title: "ERSPAN II"},
		{name: "erspan2_no_rules", encap: bpf.EncapERSPAN2, title: "ERSPAN II, no rules"},
		{name: "erspan2_1_rule", encap: bpf.EncapERSPAN2, rules: 1, title: "ERSPAN II, 1 rule"},
		{name: "erspan2_1000_rules", encap: bpf.EncapERSPAN2, rules: manyRules, title: "ERSPAN II, 1,000 rules"},
		{name: "erspan2_flooded", encap: bpf.EncapERSPAN2, rules: someRules, full: true, title: "ERSPAN II, a flood of feeds has filled the table"},
	}
	all, floors := make([]sample, len(cases)), sample{}
	for range b.plan.rounds {
		for i, c := range cases {
			if err := ctx.Err(); err != nil {
				return err
			}
			cost, floor, err := programCost(c.encap, ruled(c.rules, c.dropped), c.full, b.plan.repeat)
			if err != nil {
				return fmt.Errorf("%s: %w", c.title, err)
			}
			all[i], floors = append(all[i], cost), append(floors, floor)
		}
	}
	for i, c := range cases {
		verdict := "redirect to AF_XDP"
		if c.dropped {
			verdict = "drop"
		}
		costs.row(c.title, verdict, fmt.Sprintf("%.0f", all[i].median()), all[i].spread("%.0f"))
		b.report.figure("xdp_ns_"+c.name, all[i].median())
	}
	costs.row("any", "empty XDP_DROP", fmt.Sprintf("%.0f", floors.median()), floors.spread("%.0f"))
	b.report.figure("xdp_ns_floor", floors.median())
	b.report.add(costs)
	return nil
}

// programCost is what the program costs per packet above an empty one, and what
// the empty one does, in ns.
func programCost(encap bpf.Encap, p *policy.Policy, full bool, repeat int) (cost, floor float64, err error) {
	packet, layout, err := wrapped(encap)
	if err != nil {
		return 0, 0, err
	}
	dropped := p.Default.Drop
	path, closePath, err := loadPath(p)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, closePath()) }()
	if full {
		if err := flood(path, packet); err != nil {
			return 0, 0, err
		}
	}

	want := uint32(xdpRedirect)
	if dropped {
		want = xdpDrop
	}
	whole, err := restored(packet, layout, path.Program(), want, repeat)
	if err != nil {
		return 0, 0, err
	}
	// The way of the restoring program without a packet that has changed, and
	// with one: the difference is two bpf_xdp_adjust_head, there and back.
	idle, err := restoredNew(packet, layout, verdict(xdpDrop), repeat)
	if err != nil {
		return 0, 0, err
	}
	base := idle
	if !dropped {
		grow := bpf.RecordSize - layout.overhead
		moved, err := restoredNew(packet, layout, adjust(-int32(grow)), repeat)
		if err != nil {
			return 0, 0, err
		}
		base += (moved - idle) / 2
	}
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: verdict(xdpDrop)})
	if err != nil {
		return 0, 0, err
	}
	defer empty.Close()
	_, took, err := empty.Benchmark(packet, repeat, nil)
	return whole - base, float64(took.Nanoseconds()), err
}

// layout is what the restoring program has to know of a packet.
type layout struct {
	overhead int // bytes of outer headers
	sequence int // offset of the GRE sequence number; 0: there is none
}

var (
	exporterAddress  = netip.MustParseAddr("192.0.2.1")
	collectorAddress = netip.MustParseAddr("192.0.2.2")
)

// wrapped is a packet of 64 inner bytes as a sender of the encapsulation sends it.
func wrapped(encap bpf.Encap) ([]byte, layout, error) {
	s := mirror.DefaultSession(encap)
	s.SourceMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}
	s.DestinationMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}
	s.Source, s.Destination = exporterAddress, collectorAddress
	s.MTU = cableMTU
	w, err := mirror.NewWrapper(s)
	if err != nil {
		return nil, layout{}, err
	}
	inner := load64.frames()[0]
	one, err := w.Wrap(nil, inner, mirror.Stamp{Number: 1})
	if err != nil {
		return nil, layout{}, err
	}
	l := layout{overhead: len(one) - len(inner)}
	const ethernet, ip4, gre, sequenceFlag, keyFlag = 14, 20, 4, 0x10, 0x20
	if flags := one[ethernet+ip4]; flags&sequenceFlag != 0 {
		l.sequence = ethernet + ip4 + gre
		if flags&keyFlag != 0 {
			l.sequence += 4
		}
	}
	return one, l, nil
}

// loadPath loads the kernel half with a socket in place, so that it redirects.
func loadPath(p *policy.Policy) (*loader.Datapath, func() error, error) {
	c := loader.Default()
	c.Collectors, c.Queues = []netip.Addr{collectorAddress}, 1
	var err error
	if c.Policy, err = policy.Compile(p); err != nil {
		return nil, nil, err
	}
	path, err := loader.Load(c)
	if err != nil {
		return nil, nil, err
	}
	// A socket that is not bound may be in an XSKMAP, and is redirected to.
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("making an AF_XDP socket: %w", err), path.Close())
	}
	closeAll := func() error { return errors.Join(unix.Close(socket), path.Close()) }
	if err := path.Register(0, 0, socket); err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	return path, closeAll, nil
}

// flood has feeds that nobody knows send a packet each, until the table has one
// place left for the feed that is measured: exporters count up.
func flood(path *loader.Datapath, packet []byte) error {
	const source = 14 + 12 + 2 // the low half of the IPv4 source address
	packet = bytes.Clone(packet)
	for i := range loader.Default().MaxFeeds - 1 {
		binary.BigEndian.PutUint16(packet[source:], uint16(i+0x100))
		if _, _, err := path.Program().Test(packet); err != nil {
			return fmt.Errorf("flooding the feed table: %w", err)
		}
	}
	return nil
}

// restoredNew is restored for a program that is only instructions; it drops.
func restoredNew(packet []byte, l layout, instructions asm.Instructions, repeat int) (float64, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS, Instructions: instructions,
	})
	if err != nil {
		return 0, fmt.Errorf("loading a program: %w", err)
	}
	defer p.Close()
	return restored(packet, l, p, xdpDrop, repeat)
}

// restored is the time of a run of the restoring program and the one behind it.
func restored(packet []byte, l layout, under *ebpf.Program, want uint32, repeat int) (ns float64, err error) {
	next, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return 0, fmt.Errorf("making a program array: %w", err)
	}
	defer next.Close()
	number, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return 0, fmt.Errorf("making an array: %w", err)
	}
	defer number.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: restore(packet, l, next.FD(), number.FD()),
	})
	if err != nil {
		return 0, fmt.Errorf("loading the restoring program: %w", err)
	}
	defer p.Close()
	if err := next.Put(uint32(0), under); err != nil {
		return 0, fmt.Errorf("putting a program behind the restoring one: %w", err)
	}
	got, took, err := p.Benchmark(packet, repeat, nil)
	if err != nil {
		return 0, err
	}
	if got != want {
		return 0, fmt.Errorf("the verdict is %d and must be %d: this measured something else", got, want)
	}
	return float64(took.Nanoseconds()), nil
}

// restore gives the packet its length, headers and the next number, and goes on
// to the program in the array.
func restore(packet []byte, l layout, next, number int) asm.Instructions {
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, 4, asm.Word), // data_end
		asm.LoadMem(asm.R3, asm.R6, 0, asm.Word), // data
		asm.Sub.Reg(asm.R2, asm.R3),
		asm.Add.Imm(asm.R2, -int32(len(packet))),
		asm.JEq.Imm(asm.R2, 0, "headers"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnXdpAdjustHead.Call(),
		asm.LoadMem(asm.R2, asm.R6, 4, asm.Word).WithSymbol("headers"),
		asm.LoadMem(asm.R3, asm.R6, 0, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R3),
		asm.Add.Imm(asm.R4, int32(len(packet))),
		asm.JGT.Reg(asm.R4, asm.R2, "out"),
	}
	for at := 0; at < l.overhead; at += 8 {
		word := int64(binary.NativeEndian.Uint64(packet[at:]))
		program = append(program,
			asm.LoadImm(asm.R5, word, asm.DWord),
			asm.StoreMem(asm.R3, int16(at), asm.R5, asm.DWord))
	}
	if l.sequence != 0 {
		program = append(program,
			asm.LoadMapValue(asm.R1, number, 0),
			asm.LoadMem(asm.R5, asm.R1, 0, asm.DWord),
			asm.Add.Imm(asm.R5, 1),
			asm.StoreMem(asm.R1, 0, asm.R5, asm.DWord),
			asm.HostTo(asm.BE, asm.R5, asm.Word),
			asm.StoreMem(asm.R3, int16(l.sequence), asm.R5, asm.Word))
	}
	return append(program,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, next),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), // XDP_ABORTED: it is no verdict that is asked for
		asm.Return(),
	)
}

// adjust moves the head of the packet and drops it.
func adjust(by int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R2, by),
		asm.FnXdpAdjustHead.Call(),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.Return(),
	}
}
