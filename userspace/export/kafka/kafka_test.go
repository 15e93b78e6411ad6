package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/export/kafka"
	"github.com/unspan/unspan/userspace/flow"
)

// broker runs a broker that speaks Kafka's protocol on the loopback.
func broker(t *testing.T, port int) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(4, "flows"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newSink(t *testing.T, brokers []string) *kafka.Sink {
	t.Helper()
	c := kafka.Default()
	c.Brokers, c.Timeout = brokers, time.Second
	s, err := kafka.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// conversation is a record of the flow of client n, told from one side or the other.
func conversation(id uint64, n int, reverse bool) flow.Flow {
	f := flow.Flow{
		ID: id, EtherType: 0x0800, Protocol: 6, Port: [2]uint16{40000, 443},
		Address: [2][16]byte{netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}).As16(), netip.MustParseAddr("192.0.2.1").As16()},
	}
	if reverse {
		f.Address[0], f.Address[1] = f.Address[1], f.Address[0]
		f.Port[0], f.Port[1] = f.Port[1], f.Port[0]
	}
	return f
}

// consume reads so many records of the topic.
func consume(t *testing.T, brokers []string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("flows"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records of %d: %v", len(all), n, err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// TestProduce reads records back: each is there, and a flow is in one partition
// in order, whichever side its records begin with.
func TestProduce(t *testing.T) {
	c := broker(t, 0)
	s := newSink(t, c.ListenAddrs())
	var records []flow.Flow
	for id := range uint64(200) {
		records = append(records, conversation(id, int(id)%20, id%3 == 0))
	}
	for part := range slices.Chunk(records, 60) {
		if n, err := s.Write(context.Background(), part); n != len(part) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(part), err)
		}
	}
	if n, err := s.Write(context.Background(), nil); n != 0 || err != nil {
		t.Fatalf("nothing: %d, %v", n, err)
	}
	partitions := map[string]int32{}
	last := map[string]uint64{}
	used := map[int32]bool{}
	got := consume(t, c.ListenAddrs(), len(records))
	if len(got) != len(records) {
		t.Fatalf("%d records, want %d", len(got), len(records))
	}
	for _, r := range got {
		var row export.Row
		if err := json.Unmarshal(r.Value, &row); err != nil {
			t.Fatal(err)
		}
		if want := export.RowOf(&records[row.FlowID], nil); row != want {
			t.Errorf("row\n got %+v\nwant %+v", row, want)
		}
		client := fmt.Sprintf("198.51.100.%d:40000", row.FlowID%20)
		key := "192.0.2.1:443 " + client + " 6"
		if string(r.Key) != key {
			t.Errorf("key %q, want %q", r.Key, key)
		}
		if p, seen := partitions[key]; seen && (p != r.Partition || row.FlowID <= last[key]) {
			t.Errorf("%s: record %d in partition %d after %d in %d", key, row.FlowID, r.Partition, last[key], p)
		}
		partitions[key], last[key], used[r.Partition] = r.Partition, row.FlowID, true
	}
	if len(used) < 2 {
		t.Errorf("all flows in %d partition", len(used))
	}
}

// TestBrokerGone fails in time while nobody is there, and delivers when somebody is.
func TestBrokerGone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s := newSink(t, []string{address})
	records := []flow.Flow{conversation(0, 0, false), conversation(1, 1, false)}
	if n, err := s.Write(context.Background(), records); n != 0 || err == nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := s.Write(ctx, records); n != 0 || err == nil {
		t.Fatalf("wrote %d after the end: %v", n, err)
	}
	c := broker(t, port)
	for deadline := time.Now().Add(30 * time.Second); len(records) > 0; {
		n, err := s.Write(context.Background(), records)
		records = records[n:]
		if err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if got := consume(t, c.ListenAddrs(), 2); len(got) != 2 {
		t.Errorf("%d records", len(got))
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*kafka.Config)
		want   string
	}{
		{func(c *kafka.Config) { c.Brokers = nil }, "kafka brokers: none given"},
		{func(c *kafka.Config) { c.Topic = "" }, "kafka topic: none given"},
		{func(c *kafka.Config) { c.Timeout = 1 }, "kafka timeout: 1ns is below a second"},
	} {
		c := kafka.Default()
		c.Brokers = []string{"192.0.2.1:9092"}
		test.change(&c)
		if _, err := kafka.New(c); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
