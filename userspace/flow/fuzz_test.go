package flow_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// FuzzObserve gives frames of any bytes to a small table. The input is a run of
// [flags 1][feed 1][time 2][length 1][frame]; whatever it holds, each frame is
// counted once, each packet and byte is in one record, and the flows add up.
func FuzzObserve(f *testing.F) {
	pack := func(frames ...[]byte) (in []byte) {
		for _, frame := range frames {
			in = append(in, 0, 1, 0, 10, byte(len(frame)))
			in = append(in, frame...)
		}
		return in
	}
	f.Add(pack(udp4(), mirrored(udp4())))
	f.Add(pack(udp6(), insert6(udp6(), 0, 0, 0, 1, 4, 0, 0, 0, 0)))
	f.Add(pack(fragments(udp4(), 7)...))
	f.Add(pack(fragments(udp6(), 7)[1], fragments(udp6(), 7)[0]))
	f.Add(pack(shim(udp4(), 0x8100, 0, 1), shim(shim(udp4(), 0x8100, 0, 7), 0x88a8, 0x1, 0x2c)))
	for _, d := range dialogues {
		var frames [][]byte
		for i := range d.segments {
			if d.segments[i].data < 100 {
				frames = append(frames, d.segments[i].frame())
			}
		}
		f.Add(pack(frames...))
	}
	flags := []uint32{0, bpf.RecordRawIP, bpf.RecordSequence, bpf.RecordFragment, bpf.RecordTagRemoved | bpf.RecordVLAN}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := flow.Config{
			Flows: 8, Idle: time.Second, Closed: time.Second, Active: 2 * time.Second,
			NonIP: true, Datagrams: 4, Records: 16, Feeds: flow.NewFeeds(4),
		}
		c.Feeds.SetDomain(2, 1)
		c.Feeds.SetDomain(3, 1)
		table, err := flow.New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		var records, told uint64
		tell := func(fl *flow.Flow) {
			records++
			told += fl.Bytes[0] + fl.Bytes[1]
			if fl.Packets[0]+fl.Packets[1] == 0 {
				t.Errorf("a record of no packets: %+v", fl)
			}
		}
		now, frames, tracked, bytes := start, uint64(0), uint64(0), uint64(0)
		batch := make([]flow.Flow, 16)
		for len(in) >= 5 && frames < 200 {
			record := bpf.Record{
				Flags: flags[int(in[0])%len(flags)], Feed: uint32(in[1]), Weight: uint32(in[1] >> 6),
				Sequence: uint32(frames) ^ uint32(in[0]>>6), Gap: uint32(in[1] >> 7), Tci: uint16(in[0]),
			}
			now += uint64(int64(int16(binary.BigEndian.Uint16(in[2:])))) * 1e6
			n := min(int(in[4]), len(in)-5)
			length := n + int(in[0]>>7)
			table.Observe(&record, in[5:5+n], length, now)
			table.Tick(now)
			frames++
			got := table.Counters()
			if got.Frames() != frames {
				t.Fatalf("%d frames counted of %d: %v", got.Frames(), frames, got)
			}
			if got[flow.Tracked] != tracked {
				tracked = got[flow.Tracked]
				bytes += uint64(max(record.Weight, 1)) * uint64(length)
			}
			for i := range table.Ring().Read(batch) {
				tell(&batch[i])
			}
			in = in[5+n:]
		}
		table.Drain(tell)
		for i := range table.Ring().Read(batch) {
			tell(&batch[i])
		}
		got := table.Counters()
		if told != bytes {
			t.Errorf("%d bytes in records, %d tracked", told, bytes)
		}
		if got.Live() != 0 || got[flow.RecordsLost] != 0 || got[flow.Emitted] != records {
			t.Errorf("%d records, %v", records, got)
		}
	})
}
