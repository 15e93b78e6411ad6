package collector

import (
	"bufio"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/clock"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/store"
)

// output is the store with what it needs to know of feeds: whose an interface
// is, for the statistics at the end of a file. A nil output writes nothing.
type output struct {
	store *store.Store
	lanes int
	books func(feed uint32) (bpf.FeedState, bool)

	mu     sync.Mutex
	owners map[uint32]uint32 // feed id by interface id
	failed error             // what Run returned
	done   chan struct{}
}

// openOutput opens the store and begins to write. books gives what is known of a
// feed by its id, with times in UTC; it is called by the goroutine that writes.
func openOutput(c *Config, lanes int, books func(feed uint32) (bpf.FeedState, bool)) (*output, error) {
	if !c.Write {
		return nil, nil
	}
	o := &output{lanes: lanes, books: books, owners: map[uint32]uint32{}, done: make(chan struct{})}
	s := c.Store
	s.Lanes = lanes
	s.Unordered = c.Timestamps == clock.Sender // such times may go backwards
	if c.Timestamps == clock.Auto {
		s.Lateness += autoLead
	}
	s.Section = section(c.Version)
	s.Names = c.Names.Names()
	s.Statistics = o.statistics
	var err error
	if o.store, err = store.Open(s); err != nil {
		return nil, err
	}
	go func() {
		defer close(o.done)
		o.failed = o.store.Run()
	}()
	return o, nil
}

// autoLead is how much earlier than its arrival clock.Auto may say that a packet
// was seen.
const autoLead = 100 * time.Millisecond

// lane is that of worker i; nil when nothing is written.
func (o *output) lane(i int) *store.Lane {
	if o == nil {
		return nil
	}
	return o.store.Lane(i)
}

// broken is closed when nothing can be written any more.
func (o *output) broken() <-chan struct{} {
	if o == nil {
		return nil
	}
	return o.store.Failed()
}

// addInterface makes a feed an interface of the capture.
func (o *output) addInterface(i pcapng.Interface, feed uint32) uint32 {
	id := o.store.AddInterface(i)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owners[id] = feed
	return id
}

// statistics gives the figures of an interface at the end of a file. What the
// kernel lost between XDP and the workers is nobody's in particular: it is in
// the ledger, not here.
func (o *output) statistics(id uint32) pcapng.Statistics {
	o.mu.Lock()
	feed := o.owners[id]
	o.mu.Unlock()
	s := pcapng.Statistics{
		Interface: id, Time: uint64(time.Now().UnixNano()),
		Received: pcapng.Unknown, Dropped: pcapng.Unknown, Accepted: pcapng.Unknown,
		OSDropped: pcapng.Unknown, Delivered: pcapng.Unknown,
	}
	state, ok := o.books(feed)
	if !ok {
		return s
	}
	s.Start, s.End = state.First, state.Last
	s.Received, s.Accepted = state.Packets, state.Kept
	if state.Sequence.Flags&bpf.SequenceSeen != 0 {
		s.Dropped = state.Sequence.Lost
	}
	return s
}

// abandon ends an output to whose lanes nothing was or will be given. That the
// empty files could not be ended is not told: another error has led here.
func (o *output) abandon() {
	if o == nil {
		return
	}
	for i := range o.lanes {
		o.store.Lane(i).Close()
	}
	<-o.done
}

// wait returns when everything is written; all lanes must be closed.
func (o *output) wait() error {
	if o == nil {
		return nil
	}
	<-o.done
	return o.failed
}

// ledger is the output line: what became of the frames that workers kept.
func (o *output) ledger(workers []*worker) ledger.Output {
	var out ledger.Output
	for _, w := range workers {
		out.Surplus += w.books.surplus.Load()
		out.Unasked += w.books.unasked.Load()
	}
	if o != nil {
		c := o.store.Counters()
		out.Written, out.WrittenBytes = c.Written, c.WrittenBytes
		out.Backlog, out.Refused = c.Backlog, c.Refused
	}
	return out
}

// section says who writes: program, system, CPU.
func section(version string) pcapng.Section {
	s := pcapng.Section{Application: strings.TrimSpace("unspan " + version), Hardware: cpu()}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		s.OS = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return s
}

// cpu is the model name in /proc/cpuinfo; empty where there is none (proc(5)).
func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
