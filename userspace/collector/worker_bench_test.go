package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/store"
	"github.com/unspan/unspan/userspace/traffic"
)

// ring are buffers as an AF_XDP socket lends them: a record and a frame each.
func ring(b *testing.B, table *feed.Table, size int) (bufs [][]byte) {
	b.Helper()
	key := bpf.FeedKey{Exporter: [16]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 7}, Encap: uint8(bpf.EncapERSPAN2), Session: 1}
	for i, f := range (traffic.Load{Seed: 1, Sizes: []int{size}, Flows: 1000, Frames: 4096}).Make() {
		rec := bpf.Record{
			Time: uint64(i) * 100, Length: uint32(len(f)), WireLength: uint32(len(f)), Weight: 1,
			Encap: uint8(bpf.EncapERSPAN2), Version: bpf.RecordVersion, Rule: bpf.NoRule, Platform: bpf.NoPlatform,
			Flags: bpf.RecordSequence, Sequence: uint32(i), FlowHash: binary.LittleEndian.Uint32(f[26:]),
		}
		rec.Feed = table.Find(&key)
		table.Observe(&rec, bpf.RedirectInner)
		bufs = append(bufs, append(rec.Append(nil), f...))
	}
	return bufs
}

// BenchmarkWorker is what one frame costs from the ring to the capture's buffer:
// record, frame, clock, flow, pcapng block. Writing the file is part of it, into
// memory and over and over.
func BenchmarkWorker(b *testing.B) {
	for _, size := range []int{64, 512, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dir, err := os.MkdirTemp("/dev/shm", "unspan")
			if err != nil {
				b.Skipf("no memory file system to write to: %v", err)
			}
			defer os.RemoveAll(dir)
			c := Default()
			c.Write, c.Store.Path = true, dir
			c.Store.Writer = store.Inline
			c.Store.RotateSize, c.Store.Keep = 64<<20, 2
			rebuild := DefaultFlows()
			c.Flows = &rebuild
			table := feed.NewTable(feed.Max)
			bufs := ring(b, table, size)
			out, err := openOutput(&c, 1, table.State)
			if err != nil {
				b.Fatal(err)
			}
			w, err := newWorker(&c, table, nil, out, 0, newLimit(0))
			if err != nil {
				b.Fatal(err)
			}
			flows, err := openFlows(&c, 1, false)
			if err != nil {
				b.Fatal(err)
			}
			w.rebuild(flows, 0)
			for _, buf := range bufs {
				w.receive(buf)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.receive(bufs[i%len(bufs)])
				if i%c.Batch == c.Batch-1 {
					w.publish()
					w.flows.Flush()
				}
			}
			b.StopTimer()
			w.finish()
			if err := errors.Join(out.wait(), flows.close()); err != nil {
				b.Fatal(err)
			}
			if l := w.ledger(); l.Inner == 0 || l.Malformed != 0 {
				b.Fatalf("the worker's books: %+v", l)
			}
		})
	}
}
