package flow_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// serving runs a table's worker until the test ends: it does nothing but tick.
func serving(t *testing.T, table *flow.Table, now uint64) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			table.Tick(now)
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() { stop(); done.Wait() })
}

// town is a few hosts that talk: 198.18.0.1-3 to 192.0.2.1, DNS; 198.18.0.1
// also over TCP to port 443, and an ARP.
func town(t *testing.T) *flow.Table {
	table := newTable(t, small())
	for n := range uint32(3) {
		for range n + 1 {
			table.Observe(&bpf.Record{Feed: 1}, numbered(n+1), 100, start)
		}
	}
	table.Observe(&bpf.Record{Feed: 1}, mirrored(numbered(3)), 500, start)
	tcp := segment{flags: "A", seq: 100, ack: 1, data: 20}
	frame := set(tcp.frame(), 26, 198, 18, 0, 1)
	table.Observe(&bpf.Record{Feed: 2}, shim(frame, 0x8100, 0, 9), 1000, start)
	table.Observe(&bpf.Record{Feed: 2}, set(udp4(), 12, 0x08, 0x06), 60, start)
	table.Flush()
	return table
}

func ask(t *testing.T, q flow.Query, tables ...*flow.Table) flow.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := flow.Ask(ctx, q, tables...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAsk(t *testing.T) {
	table := town(t)
	serving(t, table, start+1e9)
	type row struct {
		client, server string
		port           uint16
		flows          uint64
		packets, bytes [2]uint64
	}
	addr := func(f *flow.Flow, side int) string {
		if f.Address[side] == [16]byte{} {
			return ""
		}
		return f.Addr(side).String()
	}
	dns3 := row{"198.18.0.3", "192.0.2.1", 53, 1, [2]uint64{3, 1}, [2]uint64{300, 500}}
	dns2 := row{"198.18.0.2", "192.0.2.1", 53, 1, [2]uint64{2, 0}, [2]uint64{200, 0}}
	dns1 := row{"198.18.0.1", "192.0.2.1", 53, 1, [2]uint64{1, 0}, [2]uint64{100, 0}}
	web1 := row{"198.18.0.1", "192.0.2.1", 443, 1, [2]uint64{1, 0}, [2]uint64{1000, 0}}
	arp := row{"", "", 0, 1, [2]uint64{1, 0}, [2]uint64{60, 0}}
	for _, test := range []struct {
		name  string
		query flow.Query
		want  []row
		rest  uint64
	}{
		{"flows by bytes", flow.Query{Order: flow.MostBytes, Limit: 10}, []row{web1, dns3, dns2, dns1, arp}, 0},
		{"the first two", flow.Query{Order: flow.MostBytes, Limit: 2}, []row{web1, dns3}, 3},
		{"flows by packets", flow.Query{Order: flow.MostPackets, Limit: 2}, []row{dns3, dns2}, 3},
		{"one host's", flow.Query{Order: flow.MostBytes, Limit: 10, Match: flow.Match{Address: netip.MustParsePrefix("198.18.0.1/32")}}, []row{web1, dns1}, 0},
		{"a port's", flow.Query{Order: flow.MostBytes, Limit: 10, Match: flow.Match{Port: 443}}, []row{web1}, 0},
		{"a protocol's", flow.Query{Order: flow.MostBytes, Limit: 10, Match: flow.Match{Protocol: 6}}, []row{web1}, 0},
		{"a VLAN's", flow.Query{Order: flow.MostBytes, Limit: 10, Match: flow.Match{VLAN: 9}}, []row{web1}, 0},
		{"a feed's", flow.Query{Order: flow.MostBytes, Limit: 10, Match: flow.Match{Feed: 2}}, []row{web1, arp}, 0},
		{"nobody's", flow.Query{Limit: 10, Match: flow.Match{Domain: 2}}, nil, 0},
		{"hosts", flow.Query{By: flow.ByAddress, Order: flow.MostBytes, Limit: 2}, []row{
			{"192.0.2.1", "", 0, 4, [2]uint64{1, 7}, [2]uint64{500, 1600}},
			{"198.18.0.1", "", 0, 2, [2]uint64{2, 0}, [2]uint64{1100, 0}},
		}, 4},
		{"services", flow.Query{By: flow.ByService, Order: flow.MostBytes, Limit: 10}, []row{
			{"", "192.0.2.1", 53, 3, [2]uint64{6, 1}, [2]uint64{600, 500}},
			{"", "192.0.2.1", 443, 1, [2]uint64{1, 0}, [2]uint64{1000, 0}},
			arp,
		}, 0},
		{"the service map", flow.Query{By: flow.ByEdge, Order: flow.MostFlows, Limit: 10, Match: flow.Match{Port: 53}}, []row{dns1, dns2, dns3}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := ask(t, test.query, table)
			var got []row
			for i := range a.Rows {
				r := &a.Rows[i]
				got = append(got, row{addr(&r.Flow, 0), addr(&r.Flow, 1), r.Port[1], r.Flows, r.Packets, r.Bytes})
			}
			if len(got) != len(test.want) {
				t.Fatalf("rows %+v, want %+v", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("row %d: %+v, want %+v", i, got[i], test.want[i])
				}
			}
			if a.Rest.Flows != test.rest {
				t.Errorf("rest %d flows, want %d", a.Rest.Flows, test.rest)
			}
		})
	}
}

// TestAskSeveral adds up what two workers know.
func TestAskSeveral(t *testing.T) {
	one, two := town(t), town(t)
	serving(t, one, start+1e9)
	serving(t, two, start+1e9)
	a := ask(t, flow.Query{By: flow.ByService, Order: flow.MostPackets, Limit: 1}, one, two)
	if len(a.Rows) != 1 || a.Rows[0].Flows != 6 || a.Rows[0].Packets != [2]uint64{12, 2} || a.Rest.Flows != 4 {
		t.Errorf("%+v", a)
	}
}

// TestRate is what came since the look before.
func TestRate(t *testing.T) {
	table := newTable(t, small())
	sendAt(table, 1, 0)
	query := flow.Query{Limit: 1}
	for _, look := range []struct {
		at   time.Duration
		want uint64
	}{{2 * time.Second, 0}, {4 * time.Second, 150}, {4*time.Second + 10*ms, 150}, {6 * time.Second, 0}} {
		if look.at == 4*time.Second {
			for range 3 {
				sendAt(table, 1, 3*time.Second)
			}
		}
		done := make(chan flow.Answer)
		go func() {
			a, err := flow.Ask(context.Background(), query, table)
			if err != nil {
				t.Error(err)
			}
			done <- a
		}()
		var a flow.Answer
		for waiting := true; waiting; {
			table.Tick(start + uint64(look.at))
			select {
			case a = <-done:
				waiting = false
			default:
			}
		}
		if len(a.Rows) != 1 {
			t.Fatalf("%d rows", len(a.Rows))
		}
		if got := a.Rows[0].Rate; look.at > 2*time.Second && got != look.want {
			t.Errorf("at %v: %d bytes a second, want %d", look.at, got, look.want)
		}
	}
}

// TestAskNobody: a worker that has stopped does not hold up a view for ever, and
// the one who asks after it began again is answered.
func TestAskNobody(t *testing.T) {
	table := town(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*ms)
	defer cancel()
	if _, err := flow.Ask(ctx, flow.Query{Limit: 1}, table); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	serving(t, table, start)
	if a := ask(t, flow.Query{Limit: 1}, table); len(a.Rows) != 1 {
		t.Errorf("%+v", a)
	}
}

// TestWorkerAndViews runs all that may run at once, for the race detector: the
// worker, an exporter, views, metrics, a change of domains.
func TestWorkerAndViews(t *testing.T) {
	c := small()
	c.Flows = 256
	c.Idle = 50 * ms
	c.Feeds = flow.NewFeeds(4)
	table := newTable(t, c)
	ctx, stop := context.WithCancel(context.Background())
	var others sync.WaitGroup
	read := uint64(0)
	others.Go(func() {
		batch := make([]flow.Flow, 16)
		for {
			n := table.Ring().Read(batch)
			read += uint64(n)
			if n == 0 && ctx.Err() != nil {
				return
			}
		}
	})
	asked := make(chan int, 2)
	for range 2 {
		others.Go(func() {
			n := 0
			for ctx.Err() == nil {
				if _, err := flow.Ask(ctx, flow.Query{By: flow.ByEdge, Limit: 5}, table); err == nil {
					n++
				}
			}
			asked <- n
		})
	}
	others.Go(func() {
		for n := uint32(0); ctx.Err() == nil; n++ {
			c.Feeds.SetDomain(1, n%3)
			table.Counters()
		}
	})
	const packets = 20_000
	for n := range uint32(packets) {
		sendAt(table, n%1000, time.Duration(n)*100*time.Microsecond)
	}
	table.Flush()
	drained := uint64(0)
	table.Drain(func(*flow.Flow) { drained++ })
	stop()
	others.Wait()
	read += uint64(table.Ring().Read(make([]flow.Flow, 64)))
	counters := table.Counters()
	if counters[flow.Tracked] != packets || counters.Live() != 0 {
		t.Errorf("%v", counters)
	}
	if counters[flow.Emitted] != read+drained+counters[flow.RecordsLost] {
		t.Errorf("%d records emitted; %d read, %d drained, %d lost", counters[flow.Emitted], read, drained, counters[flow.RecordsLost])
	}
	t.Logf("%d and %d answers", <-asked, <-asked)
}
