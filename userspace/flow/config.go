package flow

import (
	"fmt"
	"time"
)

// Config is the size and the manners of a Table.
type Config struct {
	// Flows is how many flows are kept at once. Each takes about 410 bytes.
	Flows int
	// Idle ends a flow that has had no packet for so long, by packet time.
	Idle time.Duration
	// Closed ends a TCP connection that is over so long after its last packet,
	// so that stragglers still find it.
	Closed time.Duration
	// Active is how long a flow goes on before a record of it is made.
	Active time.Duration
	// NonIP keeps flows of frames that are not IP, as pairs of MAC addresses.
	NonIP bool
	// Datagrams is how many fragmented datagrams are remembered at once.
	Datagrams int
	// Records is how many records wait for the exporter at most.
	Records int
	// Feeds is what the tables of a run share about feeds; nil when there is
	// but one table and no domains.
	Feeds *Feeds
	// Worker tells the tables of a run apart: it is part of Flow.ID.
	Worker int
}

// Default suits one worker of a small collector: 131,072 flows in 53 MiB.
func Default() Config {
	return Config{
		Flows:     1 << 17,
		Idle:      15 * time.Second,
		Closed:    2 * time.Second,
		Active:    60 * time.Second,
		NonIP:     true,
		Datagrams: 4096,
		Records:   8192,
	}
}

const maxWorkers = 1 << 12

func (c *Config) validate() error {
	switch {
	case c.Flows < 1 || c.Flows > 1<<28:
		return fmt.Errorf("flows: %d is not between 1 and %d", c.Flows, 1<<28)
	case c.Idle <= 0:
		return fmt.Errorf("flow idle timeout: %v is not above 0", c.Idle)
	case c.Closed <= 0:
		return fmt.Errorf("flow closed timeout: %v is not above 0", c.Closed)
	case c.Active <= 0:
		return fmt.Errorf("flow active timeout: %v is not above 0", c.Active)
	case c.Datagrams < 1 || c.Datagrams > 1<<20:
		return fmt.Errorf("fragmented datagrams: %d is not between 1 and %d", c.Datagrams, 1<<20)
	case c.Records < 1 || c.Records > 1<<24:
		return fmt.Errorf("flow records: %d is not between 1 and %d", c.Records, 1<<24)
	case c.Worker < 0 || c.Worker >= maxWorkers:
		return fmt.Errorf("worker: %d is not between 0 and %d", c.Worker, maxWorkers-1)
	}
	return nil
}
