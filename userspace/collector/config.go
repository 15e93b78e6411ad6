package collector

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/hosts"
	"github.com/unspan/unspan/userspace/policy"
	"github.com/unspan/unspan/userspace/privilege"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/store"
	"github.com/unspan/unspan/userspace/xsk"
)

// Config is what live and offline collecting have in common and what only one
// of them needs. Start from Default.
type Config struct {
	Settings   bpf.Config     // what to accept; Workers is set from Workers, who may send from Policy
	Collectors []netip.Addr   // addresses that mirror feeds are sent to; live: those of the interface when empty
	Policy     *policy.Policy // who may send, and what becomes of frames
	MaxFeeds   int

	Frame      frame.Config // tags, check sequences
	Timestamps clock.Mode
	Reassembly reassembly.Config

	Flows *Flows       // rebuild flows; nil: do not
	Names *hosts.Table // of addresses, for flows and captures; nil: none

	Write   bool         // write captures at all
	Store   store.Config // where to
	Version string       // of the program, for the section block
	Log     *slog.Logger // what an operator must know; nil: nobody is told

	Input io.Reader // what the file "-" is; offline only

	// Live only.
	Interface string
	Mode      loader.Mode
	Workers   int        // per receive queue
	Sockets   xsk.Config // of a receive queue; Run sets interface, queue and number
	Batch     int        // frames a worker borrows at a time
	Duration  time.Duration
	Count     uint64 // stop after this many inner frames; 0: never

	// Privileges are dropped when all is set up, before the first packet is
	// looked at; nil: they are kept.
	Privileges *privilege.Guard
}

// Default returns the configuration of a collector that writes nothing yet.
func Default() Config {
	l := loader.Default()
	return Config{
		Settings:   l.Settings,
		Policy:     policy.Default(),
		MaxFeeds:   feed.Max,
		Timestamps: clock.Auto,
		Reassembly: reassembly.Default(),
		Store:      store.Default(),
		Mode:       l.Mode,
		Workers:    1,
		Sockets:    xsk.Default(),
		Batch:      64,
	}
}

// maxBatch bounds how long a worker does not look up from its frames.
const maxBatch = 4096

func (c *Config) validate() error {
	switch {
	case c.Workers < 1 || c.Workers > bpf.MaxWorkers:
		return fmt.Errorf("workers %d: must be 1 to %d per receive queue", c.Workers, bpf.MaxWorkers)
	case c.Batch < 1 || c.Batch > maxBatch:
		return fmt.Errorf("batch %d: must be 1 to %d frames", c.Batch, maxBatch)
	case c.Duration < 0:
		return errors.New("duration must not be negative")
	}
	if c.Flows != nil {
		return c.Flows.validate()
	}
	return nil
}
