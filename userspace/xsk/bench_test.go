package xsk

import (
	"fmt"
	"testing"
)

// BenchmarkFrame is what a frame costs in this package: receive, release, its
// part of a turn. The kernel is played in the same goroutine, outside of the
// time that counts, so no cache line comes from another CPU.
func BenchmarkFrame(b *testing.B) {
	for _, batch := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			cfg := Default()
			cfg.Frames = 4096
			q, k := memoryQueue(b, cfg)
			s := q.sockets[0]
			frames := make([][]byte, batch)
			rx := &k.rx[0]
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				b.StopTimer()
				posted := k.fill.Peek(2048)
				for _, frame := range posted {
					d := rx.Reserve(1)
					d[0].Addr, d[0].Len = frame+headroom, 64
					rx.Submit(1)
				}
				k.fill.Release(len(posted))
				b.StartTimer()
				for n := -1; n != 0; {
					n = s.Receive(frames)
					s.Release()
					done += n
				}
			}
		})
	}
}

// BenchmarkTurn is the worker's whole turn against a kernel that has always one
// batch ready, kernel's part included: for the share of circulation and the
// claim, and to see that nothing is allocated.
func BenchmarkTurn(b *testing.B) {
	cfg := Default()
	cfg.Frames = 4096
	q, k := memoryQueue(b, cfg)
	s := q.sockets[0]
	var frames [64][]byte
	rx := &k.rx[0]
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		posted := k.fill.Peek(len(frames))
		descs := rx.Reserve(len(posted))
		for i := range descs {
			descs[i].Addr, descs[i].Len = posted[i]+headroom, 64
		}
		rx.Submit(len(descs))
		k.fill.Release(len(descs))
		done += s.Receive(frames[:])
		s.Release()
	}
}
