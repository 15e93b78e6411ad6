package mirror_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/traffic"
)

// BenchmarkSender sends ERSPAN II into a veth whose other end drops everything
// at XDP: the most that a receiver on this machine can be offered. The sender and
// the receiver's NAPI share CPU 0.
func BenchmarkSender(b *testing.B) {
	needRoot(b)
	for _, method := range []mirror.Method{mirror.MethodLive, mirror.MethodSocket} {
		for _, load := range []struct {
			name  string
			sizes []int
		}{{"64", []int{64}}, {"512", []int{512}}, {"1400", []int{1400}}, {"imix", traffic.IMIX()}} {
			b.Run(fmt.Sprintf("%v/%s", method, load.name), func(b *testing.B) {
				l := mustLab(b, lab.Config{MTU: 1700})
				dropAll(b, l.Collector)
				sender := mustSender(b, l, func(c *mirror.Config) {
					c.Method, c.Loop, c.Count, c.CPU = method, true, uint64(b.N), 0
					c.Feeds = []mirror.Feed{{
						Session: session(bpf.EncapERSPAN2, nil),
						Frames:  traffic.Load{Seed: 1, Sizes: load.sizes, Flows: 1000, Frames: 1000 * len(load.sizes)}.Make(),
					}}
				})
				before := cpuTime(b)
				b.ResetTimer()
				if err := sender.Run(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
				stats := sender.Stats()
				if stats.DeviceDropped > 0 {
					b.ReportMetric(float64(stats.DeviceDropped), "dropped")
				}
				b.ReportMetric(float64(stats.Packets)/b.Elapsed().Seconds()/1e6, "Mpps")
			})
		}
	}
}

// cpuTime is what this process has used, the receiver's softirq included: it runs
// on the sender's account. It says more than the clock where others use the machine.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// dropAll attaches a program that drops every frame.
func dropAll(tb testing.TB, n *lab.Namespace) {
	tb.Helper()
	if err := n.Do(func() error {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type:         ebpf.XDP,
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1 /* XDP_DROP */), asm.Return()},
			License:      "GPL",
		})
		if err != nil {
			return err
		}
		defer program.Close()
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: n.Ifindex, Flags: link.XDPDriverMode})
		if err != nil {
			return err
		}
		tb.Cleanup(func() { attached.Close() })
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
}
