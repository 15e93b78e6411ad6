// Package kafka produces flow records to a Kafka topic as JSON, the columns of
// export.Row. Records are keyed by the flow's end points, whichever side began
// and whichever collector saw it: so all records of a conversation are in one
// partition, in order, and what stands behind the topic scales out by partition.
package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Config says which topic of which cluster.
type Config struct {
	// Brokers are host:port of some brokers; the others are learned from them.
	Brokers []string
	// Topic must exist, unless the cluster makes topics on its own.
	Topic string
	// Labels names what records have as numbers; nil: nothing.
	Labels *export.Labels
	// Timeout is how long a record may take before it is tried anew.
	Timeout time.Duration
}

// Default waits ten seconds for a record.
func Default() Config { return Config{Topic: "flows", Timeout: 10 * time.Second} }

func (c *Config) validate() error {
	switch {
	case len(c.Brokers) == 0:
		return errors.New("kafka brokers: none given")
	case c.Topic == "":
		return errors.New("kafka topic: none given")
	case c.Timeout < time.Second:
		return fmt.Errorf("kafka timeout: %v is below a second", c.Timeout)
	}
	return nil
}

// Sink produces to one topic. One goroutine owns it.
type Sink struct {
	config Config
	client *kgo.Client
}

// New makes a sink that connects when there is something to produce.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(config.Brokers...),
		kgo.ClientID("unspan"),
		kgo.DefaultProduceTopic(config.Topic),
		kgo.AllowAutoTopicCreation(),
		kgo.RecordDeliveryTimeout(config.Timeout),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing kafka client: %w", err)
	}
	return &Sink{config: config, client: client}, nil
}

// Write produces records and waits until the brokers have them. Should some
// fail, those behind them are produced again, so that a record may come twice,
// never not at all.
func (s *Sink) Write(ctx context.Context, records []flow.Flow) (int, error) {
	if len(records) == 0 {
		return 0, nil
	}
	batch := make([]*kgo.Record, len(records))
	for i := range records {
		value, err := json.Marshal(export.RowOf(&records[i], s.config.Labels))
		if err != nil {
			return 0, fmt.Errorf("encoding flow %d: %w", records[i].ID, err)
		}
		batch[i] = &kgo.Record{Key: key(&records[i]), Value: value}
	}
	failed := map[*kgo.Record]error{}
	for _, result := range s.client.ProduceSync(ctx, batch...) {
		if result.Err != nil {
			failed[result.Record] = result.Err
		}
	}
	for i, r := range batch {
		if err := failed[r]; err != nil {
			return i, fmt.Errorf("producing to kafka topic %s: %w", s.config.Topic, err)
		}
	}
	return len(records), nil
}

// Close ends the connections. All that Write took is produced by then.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}

// key is both ends in order, and the protocol: "192.0.2.1:443 198.51.100.7:40000 6".
func key(f *flow.Flow) []byte {
	low, high := end(f, 0), end(f, 1)
	if low > high {
		low, high = high, low
	}
	return strconv.AppendUint([]byte(low+" "+high+" "), uint64(f.Protocol), 10)
}

func end(f *flow.Flow, side int) string {
	if !f.IsIP() {
		return fmt.Sprintf("%x", f.MAC[side])
	}
	return fmt.Sprintf("%v:%d", f.Addr(side), f.Port[side])
}
