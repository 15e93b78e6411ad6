package flow_test

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// tcpFrame64 is a 64-byte frame (60 without the FCS that a mirror does not
// carry) with 6 bytes of TCP payload between RFC 5737 addresses.
func tcpFrame64() []byte {
	f := make([]byte, 60)
	copy(f, []byte{0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 2, 8, 0, 0x45, 0, 0, 46})
	f[22], f[23] = 64, 6
	copy(f[26:], []byte{198, 18, 0, 0, 192, 0, 2, 1})
	binary.BigEndian.PutUint16(f[34:], 40000)
	binary.BigEndian.PutUint16(f[36:], 443)
	f[46], f[47] = 0x50, 0x10
	binary.BigEndian.PutUint16(f[48:], 1024)
	return f
}

// threadTime is the CPU time of this thread, ns: what is measured stays right
// when other work shares the machine.
func threadTime(b *testing.B) int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return now.Nano()
}

// BenchmarkObserve is the cost of a 64-byte frame against the number of flows
// under way. The frame is always in the cache, as it is when a worker has just
// copied it; the flows come as if by chance.
func BenchmarkObserve(b *testing.B) {
	for _, flows := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			c := flow.Default()
			c.Flows = 1_000_000
			table := newTable(b, c)
			frame := tcpFrame64()
			record := bpf.Record{Feed: 1, Weight: 1}
			time, sequence := uint64(1e18), uint32(0)
			observe := func(n int) {
				binary.BigEndian.PutUint32(frame[26:], 198<<24|18<<16+uint32(n))
				binary.BigEndian.PutUint32(frame[38:], sequence)
				time += 300 // 3.3 Mpps
				table.Observe(&record, frame, 60, time)
			}
			for n := range flows {
				observe(n)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			b.ResetTimer()
			before := threadTime(b)
			sequence = 6 // in order, as TCP mostly is
			// Each flow once a round, in an order that looks like chance: a
			// congruential generator of full period.
			n, mask := 0, 1<<bits.Len(uint(flows-1))-1
			for range b.N {
				for n = (n*1664525 + 1013904223) & mask; n >= flows; {
					n = (n*1664525 + 1013904223) & mask
				}
				if n == 0 {
					sequence += 6
				}
				observe(n)
			}
			b.ReportMetric(float64(threadTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkChurn is the worst a sender can do: every packet begins a flow, the
// table is full, so every packet also evicts one and makes a record.
func BenchmarkChurn(b *testing.B) {
	for _, flows := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			c := flow.Default()
			c.Flows = flows
			table := newTable(b, c)
			frame := tcpFrame64()
			record := bpf.Record{Feed: 1, Weight: 1}
			batch := make([]flow.Flow, 1024)
			n, time := uint32(0), uint64(1e18)
			observe := func() {
				n++
				binary.BigEndian.PutUint32(frame[38:], n)
				binary.BigEndian.PutUint32(frame[26:], n)
				time += 300
				table.Observe(&record, frame, 60, time)
				if n%1024 == 0 {
					table.Ring().Read(batch)
				}
			}
			for range flows {
				observe()
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			b.ResetTimer()
			before := threadTime(b)
			for range b.N {
				observe()
			}
			b.ReportMetric(float64(threadTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
