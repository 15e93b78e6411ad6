package flow_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// numbered is a UDP frame of flow n.
func numbered(n uint32) []byte {
	f := udp4()
	binary.BigEndian.PutUint32(f[26:], 198<<24|18<<16+n)
	return f
}

// sendAt observes one packet of flow n at a time after start.
func sendAt(table *flow.Table, n uint32, at time.Duration) {
	table.Observe(&bpf.Record{Feed: 1}, numbered(n), 100, start+uint64(at))
}

func read(table *flow.Table) []flow.Flow {
	batch := make([]flow.Flow, 1000)
	return batch[:table.Ring().Read(batch)]
}

func small() flow.Config {
	c := flow.Default()
	c.Flows = 64
	c.Records = 64
	return c
}

// TestIdle ends a silent flow though other packets go on, and not the others.
func TestIdle(t *testing.T) {
	table := newTable(t, small())
	sendAt(table, 1, 0)
	for at := time.Duration(0); at < 18*time.Second; at += 100 * time.Millisecond {
		sendAt(table, 2, at)
		table.Flush()
	}
	got := read(table)
	if len(got) != 1 || got[0].End != flow.EndIdle || got[0].Packets != [2]uint64{1, 0} || got[0].Addr(0).String() != "198.18.0.1" {
		t.Fatalf("ended: %+v", got)
	}
	c := table.Counters()
	if c[flow.EndedIdle] != 1 || c.Live() != 1 {
		t.Errorf("%v", c)
	}
}

// TestIdleByItsOwnPacket: a packet that comes after the idle timeout begins
// another flow, even when nothing moved the sweep before.
func TestIdleByItsOwnPacket(t *testing.T) {
	table := newTable(t, small())
	sendAt(table, 1, 0)
	sendAt(table, 1, 15*time.Second)
	sendAt(table, 1, 31*time.Second)
	flows, c := drain(table)
	if len(flows) != 2 || flows[0].Packets[0] != 2 || flows[1].Packets[0] != 1 {
		t.Fatalf("%+v", flows)
	}
	if flows[0].ID == flows[1].ID {
		t.Error("two flows of one ID")
	}
	if c[flow.EndedIdle] != 1 {
		t.Errorf("%v", c)
	}
}

// TestTick ends flows when no packet comes at all.
func TestTick(t *testing.T) {
	table := newTable(t, small())
	sendAt(table, 1, 0)
	table.Tick(start + 14e9)
	if got := read(table); len(got) != 0 {
		t.Fatalf("ended early: %+v", got)
	}
	table.Tick(start + 17e9)
	table.Tick(start + 18e9)
	if got := read(table); len(got) != 1 || got[0].End != flow.EndIdle {
		t.Fatalf("ended: %+v", got)
	}
}

// TestActive makes records of a flow that goes on; together they hold each
// packet once.
func TestActive(t *testing.T) {
	table := newTable(t, small())
	packets := uint64(0)
	for at := time.Duration(0); at < 150*time.Second; at += 500 * time.Millisecond {
		sendAt(table, 1, at)
		table.Flush()
		packets++
	}
	flows, c := drain(table)
	if len(flows) != 3 {
		t.Fatalf("%d records, want 3", len(flows))
	}
	sum, last := uint64(0), uint64(0)
	for i, f := range flows {
		sum += f.Packets[0]
		if f.First <= last || f.Last < f.First {
			t.Errorf("record %d from %d to %d, the one before ended at %d", i, f.First, f.Last, last)
		}
		last = f.Last
		if f.ID != flows[0].ID || f.Continued != (i > 0) {
			t.Errorf("record %d: flow %d, continued %v", i, f.ID, f.Continued)
		}
	}
	if sum != packets {
		t.Errorf("%d packets in records, %d sent", sum, packets)
	}
	if flows[0].End != flow.EndActive || flows[1].End != flow.EndActive || flows[2].End != flow.EndForced {
		t.Errorf("ends %v, %v, %v", flows[0].End, flows[1].End, flows[2].End)
	}
	if c[flow.EmittedActive] != 2 || c[flow.Created] != 1 || c[flow.Emitted] != 3 {
		t.Errorf("%v", c)
	}
}

// TestActiveThenSilent: a flow that says nothing after its record ends without another.
func TestActiveThenSilent(t *testing.T) {
	c := small()
	c.Idle = time.Hour
	table := newTable(t, c)
	sendAt(table, 1, 0)
	table.Tick(start + 61e9)
	table.Tick(start + 62e9)
	if got := read(table); len(got) != 1 || got[0].End != flow.EndActive {
		t.Fatalf("records: %+v", got)
	}
	flows, counters := drain(table)
	if len(flows) != 0 || counters[flow.EndedForced] != 1 || counters[flow.Emitted] != 1 {
		t.Errorf("%d records, %v", len(flows), counters)
	}
}

// TestClosed lets go of a finished connection early, but not at once.
func TestClosed(t *testing.T) {
	table := newTable(t, small())
	for _, s := range after(handshake,
		segment{at: 5 * ms, flags: "FA", seq: 100, ack: 1000},
		segment{at: 6 * ms, server: true, flags: "FA", seq: 1000, ack: 101},
	) {
		s.observe(table)
	}
	table.Tick(start + 1e9)
	if got := read(table); len(got) != 0 {
		t.Fatalf("ended early: %+v", got)
	}
	straggler := segment{at: time.Second, flags: "A", seq: 101, ack: 1001}
	straggler.observe(table)
	table.Tick(start + 4e9)
	table.Tick(start + 5e9)
	got := read(table)
	if len(got) != 1 || got[0].End != flow.EndClosed || got[0].Packets != [2]uint64{4, 2} {
		t.Fatalf("ended: %+v", got)
	}
	if c := table.Counters(); c[flow.EndedClosed] != 1 {
		t.Errorf("%v", c)
	}
}

// TestEviction: more flows than places. Every packet is in exactly one record.
func TestEviction(t *testing.T) {
	c := small()
	c.Records = 1024
	table := newTable(t, c)
	const flows = 500
	for n := range uint32(flows) {
		sendAt(table, n, time.Duration(n)*100*ms) // 1.5 s apart: 8 are asked, the oldest goes
	}
	all, counters := drain(table)
	seen := map[string]uint64{}
	evicted := 0
	for _, f := range all {
		seen[f.Addr(0).String()] += f.Packets[0]
		if f.End == flow.EndEvicted {
			evicted++
		}
	}
	if len(seen) != flows {
		t.Errorf("%d flows in records, want %d", len(seen), flows)
	}
	for addr, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d packets", addr, n)
		}
	}
	if evicted == 0 || uint64(evicted) != counters[flow.EndedEvicted] || counters[flow.RecordsLost] != 0 {
		t.Errorf("%d evicted in records, counters %v", evicted, counters)
	}
}

// TestEvictionAhead: a larger table keeps all the flows it was made for, and
// makes room in good time for more. Every packet is in exactly one record.
func TestEvictionAhead(t *testing.T) {
	c := small()
	c.Flows, c.Records = 5000, 1<<13
	table := newTable(t, c)
	for n := range uint32(5000) {
		sendAt(table, n, 0)
	}
	table.Tick(start)
	if got := table.Counters(); got.Live() != 5000 || got[flow.EndedEvicted] != 0 {
		t.Fatalf("as many as it was made for: %v", got)
	}
	for n := range uint32(3000) {
		sendAt(table, 5000+n, time.Second)
	}
	all, counters := drain(table)
	seen := map[string]uint64{}
	for _, f := range all {
		seen[f.Addr(0).String()] += f.Packets[0]
	}
	if len(seen) != 8000 || len(all) != 8000 {
		t.Errorf("%d records of %d flows, want 8000", len(all), len(seen))
	}
	if n := counters[flow.EndedEvicted]; n < 3000 || n > 3200 || counters[flow.RecordsLost] != 0 {
		t.Errorf("%v", counters)
	}
}

// TestEvictionTakesTheSilent: the flow that goes is not one that is busy.
func TestEvictionTakesTheSilent(t *testing.T) {
	c := small()
	c.Flows = 8 // all of them are asked
	table := newTable(t, c)
	for n := range uint32(8) {
		sendAt(table, n, 0)
	}
	for n := range uint32(8) {
		if n != 5 {
			sendAt(table, n, 10*time.Second)
		}
	}
	sendAt(table, 100, 11*time.Second)
	table.Flush()
	got := read(table)
	if len(got) != 1 || got[0].Addr(0).String() != "198.18.0.5" || got[0].End != flow.EndEvicted {
		t.Fatalf("evicted: %+v", got)
	}
}

// TestRingFull: flows that are over wait for room; what cannot wait is counted.
func TestRingFull(t *testing.T) {
	c := small()
	c.Records = 4
	table := newTable(t, c)
	for n := range uint32(10) {
		sendAt(table, n, 0)
	}
	for s := range uint64(30) {
		table.Tick(start + s*1e9)
	}
	counters := table.Counters()
	if counters[flow.EndedIdle] != 4 || counters[flow.RecordsLost] != 0 || counters.Live() != 6 {
		t.Errorf("with a full ring: %v", counters)
	}
	if got := read(table); len(got) != 4 {
		t.Errorf("%d records, want 4", len(got))
	}
	for s := range uint64(30) {
		table.Tick(start + (30+s)*1e9)
	}
	if counters := table.Counters(); counters[flow.EndedIdle] != 8 {
		t.Errorf("after reading: %v", counters)
	}
	for n := range uint32(100) {
		sendAt(table, 1000+n, 60*time.Second)
	}
	table.Tick(start + 61e9)
	counters = table.Counters()
	if counters[flow.EndedEvicted] == 0 || counters[flow.RecordsLost] != counters[flow.EndedEvicted] {
		t.Errorf("evicted without room: %v", counters)
	}
	if counters[flow.Created] != counters.Live()+counters[flow.EndedIdle]+counters[flow.EndedEvicted] {
		t.Errorf("flows do not add up: %v", counters)
	}
}

// TestWildTime: one packet with a time far off ends nothing but itself.
func TestWildTime(t *testing.T) {
	table := newTable(t, small())
	for n := range uint32(10) {
		sendAt(table, n, 0)
	}
	table.Observe(&bpf.Record{Feed: 1}, numbered(50), 100, start+uint64(10*365*24*time.Hour))
	sendAt(table, 1, time.Second)
	table.Flush()
	if c := table.Counters(); c.Live() != 11 {
		t.Errorf("%v", c)
	}
}

// TestSampled scales what was sampled and says so.
func TestSampled(t *testing.T) {
	table := newTable(t, small())
	for range 3 {
		table.Observe(&bpf.Record{Feed: 1, Weight: 10}, numbered(1), 100, start)
	}
	table.Observe(&bpf.Record{Feed: 1, Weight: 1}, numbered(2), 100, start)
	flows, _ := drain(table)
	if len(flows) != 2 {
		t.Fatalf("%d flows", len(flows))
	}
	if f := flows[0]; f.Packets != [2]uint64{30, 0} || f.Bytes != [2]uint64{3000, 0} || f.Weight != 10 {
		t.Errorf("sampled: packets %d, bytes %d, weight %d", f.Packets, f.Bytes, f.Weight)
	}
	if f := flows[1]; f.Packets != [2]uint64{1, 0} || f.Weight != 1 {
		t.Errorf("whole: packets %d, weight %d", f.Packets, f.Weight)
	}
}

// TestManyPackets: a count that would overflow becomes a record in time.
func TestManyPackets(t *testing.T) {
	table := newTable(t, small())
	for range 1000 {
		table.Observe(&bpf.Record{Feed: 1, Weight: 1 << 24}, numbered(1), 100, start)
	}
	flows, c := drain(table)
	packets, bytes := uint64(0), uint64(0)
	for _, f := range flows {
		packets += f.Packets[0]
		bytes += f.Bytes[0]
	}
	if packets != 1000<<24 || bytes != 100_000<<24 {
		t.Errorf("%d packets, %d bytes, want %d, %d", packets, bytes, uint64(1000<<24), uint64(100_000<<24))
	}
	if c[flow.EmittedActive] == 0 {
		t.Errorf("%v", c)
	}
}

// TestDomains: one conversation at two mirrors is two flows, or one.
func TestDomains(t *testing.T) {
	for _, test := range []struct {
		name    string
		domains map[uint32]uint32
		feeds   [2]uint32
		want    int
	}{
		{"feeds are kept apart", nil, [2]uint32{1, 2}, 2},
		{"one domain", map[uint32]uint32{1: 7, 2: 7}, [2]uint32{1, 2}, 1},
		{"two domains", map[uint32]uint32{1: 7, 2: 8}, [2]uint32{1, 2}, 2},
		{"one in a domain named as the other's id", map[uint32]uint32{1: 2}, [2]uint32{1, 2}, 2},
		{"beyond the shared feeds", nil, [2]uint32{1, 4000}, 2},
		{"taken out again", map[uint32]uint32{1: 0, 2: 0}, [2]uint32{1, 2}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := small()
			c.Feeds = flow.NewFeeds(16)
			for feed, domain := range test.domains {
				c.Feeds.SetDomain(feed, domain)
			}
			table := newTable(t, c)
			frame := numbered(1)
			table.Observe(&bpf.Record{Feed: test.feeds[0]}, frame, 100, start)
			table.Observe(&bpf.Record{Feed: test.feeds[1]}, mirrored(frame), 100, start)
			flows, _ := drain(table)
			if len(flows) != test.want {
				t.Fatalf("%d flows, want %d", len(flows), test.want)
			}
			if test.want == 1 && (flows[0].Domain != 7 || flows[0].Feed != test.feeds || flows[0].Packets != [2]uint64{1, 1}) {
				t.Errorf("domain %d, feeds %d, packets %d", flows[0].Domain, flows[0].Feed, flows[0].Packets)
			}
			for _, f := range flows {
				if domain := test.domains[f.Feed[0]]; f.Domain != domain {
					t.Errorf("feed %d in domain %d, want %d", f.Feed[0], f.Domain, domain)
				}
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*flow.Config)
		want   string
	}{
		{func(c *flow.Config) { c.Flows = 0 }, "flows: 0 is not between 1 and 268435456"},
		{func(c *flow.Config) { c.Idle = 0 }, "flow idle timeout: 0s is not above 0"},
		{func(c *flow.Config) { c.Closed = -1 }, "flow closed timeout: -1ns is not above 0"},
		{func(c *flow.Config) { c.Active = 0 }, "flow active timeout: 0s is not above 0"},
		{func(c *flow.Config) { c.Datagrams = 0 }, "fragmented datagrams: 0 is not between 1 and 1048576"},
		{func(c *flow.Config) { c.Records = 0 }, "flow records: 0 is not between 1 and 16777216"},
		{func(c *flow.Config) { c.Worker = -1 }, "worker: -1 is not between 0 and 4095"},
	} {
		c := flow.Default()
		test.change(&c)
		table, err := flow.New(c)
		if table != nil || err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

// TestNoAllocation: nothing per packet, whatever becomes of it.
func TestNoAllocation(t *testing.T) {
	c := small()
	table := newTable(t, c)
	n, at := uint32(0), start
	batch := make([]flow.Flow, 64)
	frames := [][]byte{udp4(), udp6(), shim(udp4(), 0x8100, 0, 1), udp4()[:20], (&segment{flags: "S"}).frame(), (&segment{flags: "A", seq: 9, data: 5}).frame()}
	allocs := testing.AllocsPerRun(2000, func() {
		for _, f := range frames {
			if len(f) > 34 {
				binary.BigEndian.PutUint32(f[26:], 198<<24|n) // new flows, evictions, records
			}
			table.Observe(&bpf.Record{Feed: 1, Sequence: n, Flags: bpf.RecordSequence}, f, len(f), at)
		}
		n, at = n+1, at+50e6
		table.Flush()
		table.Ring().Read(batch)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestCloseTwice(t *testing.T) {
	table, err := flow.New(small())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}
