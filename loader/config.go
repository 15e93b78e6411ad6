package loader

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/policy"
)

// Mode says where on the receive path the program runs.
type Mode string

// Auto tries Native, in the driver, and falls back to Generic, in the stack,
// where every driver works and speed is lost.
const (
	Auto    Mode = "auto"
	Native  Mode = "native"
	Generic Mode = "generic"
)

// Config says what to load and for whom.
type Config struct {
	Settings   bpf.Config       // fixed at load; who may send is said by Policy
	Mode       Mode             // where to attach
	Collectors []netip.Addr     // the collector's addresses, unless Settings.AnyDestination
	Policy     *policy.Compiled // what becomes of feeds and frames at first; nil: policy.Default
	MaxFeeds   int              // size of the feed table
	NICTime    bool             // take receive times from the NIC where its driver tells them; see NIC.Stamp
	Queues     int              // receive queues that get sockets, queue 0 first; 0: not known
}

// Default takes the Ethernet-carrying mirror encapsulations from any exporter.
func Default() Config {
	return Config{
		Settings: bpf.Config{
			Accept:  1<<bpf.EncapERSPAN1 | 1<<bpf.EncapERSPAN2 | 1<<bpf.EncapERSPAN3 | 1<<bpf.EncapGRE,
			Workers: 1,
		},
		Mode:     Auto,
		MaxFeeds: feed.Max,
	}
}

func (c *Config) validate() error {
	switch {
	case c.Mode != Auto && c.Mode != Native && c.Mode != Generic:
		return fmt.Errorf("mode %q is none of auto, native, generic", c.Mode)
	case c.Settings.Workers < 1 || int(c.Settings.Workers) > bpf.MaxWorkers:
		return fmt.Errorf("workers %d: must be 1 to %d per receive queue", c.Settings.Workers, bpf.MaxWorkers)
	case c.Settings.Accept == 0:
		return errors.New("accept names no encapsulation")
	case c.MaxFeeds < 1 || c.MaxFeeds > maxFeeds:
		return fmt.Errorf("max feeds %d: must be 1 to %d", c.MaxFeeds, maxFeeds)
	case c.Queues < 0 || c.Queues > bpf.MaxQueues:
		return fmt.Errorf("queues %d: must be 0, for not known, to %d", c.Queues, bpf.MaxQueues)
	case c.Settings.AnyDestination == 0 && len(c.Collectors) == 0:
		return errors.New("no collector address: give the interface one, or accept any destination")
	}
	return nil
}
