// Package metrics shows the ledger to Prometheus and serves it over HTTP.
//
// Every box of every line of a [ledger.Snapshot] is a metric under the box's own
// name, so that what an operator reads in a terminal and what an alert computes
// are the same numbers:
//
//	scrape ──► Server ──► Collector ──► snapshot() ──► ledger.Lines ──► series
//
// One scrape is one snapshot. Nothing is counted here and nothing is kept
// between scrapes; docs/metrics.md lists what there is, and a test keeps it so.
package metrics

import (
	"cmp"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/ledger"
)

// MaxFeeds is how many feeds have series of their own. Whoever can send packets
// can make feeds; the rest are summed in one that is called "other".
const MaxFeeds = 1000

// Build says what is running.
type Build struct {
	Version string // as unspan version prints it
}

// Collector turns ledger snapshots into metrics, one snapshot a scrape. It is
// safe for concurrent use if the snapshot function is.
type Collector struct {
	snapshot func() (ledger.Snapshot, error)
	build    Build
	descs    [familyCount]*prometheus.Desc
}

// NewCollector returns a Collector that calls snapshot on every scrape. An error
// from it fails the scrape.
func NewCollector(b Build, snapshot func() (ledger.Snapshot, error)) *Collector {
	c := &Collector{snapshot: snapshot, build: b}
	for f, d := range families {
		c.descs[f] = prometheus.NewDesc(d.name, d.help, d.labels, nil)
	}
	return c
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{c, out}
	s.put(buildInfo, 1, c.build.Version, runtime.Version())
	snapshot, err := c.snapshot()
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.descs[ledgerBalance], fmt.Errorf("reading the ledger: %w", err))
		return
	}
	for _, l := range snapshot.Lines() {
		s.line(&l)
	}
	s.wire(&snapshot)
	s.flows(snapshot.Flows)
	for i := range snapshot.Queues {
		s.queue(&snapshot.Queues[i])
	}
	s.feeds(snapshot.Feeds)
	for i, r := range snapshot.Rules {
		number := strconv.Itoa(i + 1)
		s.put(rulePackets, r.Packets, number, r.Name)
		s.put(ruleBytes, r.Bytes, number, r.Name)
		s.put(ruleKept, r.Kept, number, r.Name)
	}
	for _, o := range snapshot.Overlaps[:min(len(snapshot.Overlaps), MaxFeeds)] {
		s.put(duplicatePackets, o.Packets, o.First, o.Second)
	}
}

// scrape is one Collect under way.
type scrape struct {
	c   *Collector
	out chan<- prometheus.Metric
}

func (s *scrape) put(f family, value uint64, labels ...string) {
	s.gauge(f, float64(value), labels...)
}

func (s *scrape) gauge(f family, value float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(s.c.descs[f], families[f].typ, value, labels...)
}

// line exports the boxes of a ledger line.
func (s *scrape) line(l *ledger.Line) {
	s.gauge(ledgerBalance, float64(l.Balance()), l.Name)
	for i := range l.Boxes {
		b := &l.Boxes[i]
		kind := b.Kind.String()
		switch l.Name {
		case "wire":
			if b.Name == "lost" {
				s.put(wireLost, b.Packets)
			} else {
				s.put(wirePackets, b.Packets, b.Name)
			}
		case "xdp":
			s.put(xdpPackets, b.Packets, b.Name, kind)
			s.put(xdpBytes, b.Bytes, b.Name, kind)
		case "afxdp":
			s.put(afxdpPackets, b.Packets, b.Name, kind)
		case "worker":
			if b.Kind == ledger.Held {
				s.put(workerHeld, b.Packets)
			} else {
				s.put(workerPackets, b.Packets, b.Name, kind)
			}
		case "reassembly":
			s.put(reassemblyDatagrams, b.Packets, b.Name, kind)
			s.put(reassemblyBytes, b.Bytes, b.Name, kind)
		case "output":
			s.put(outputPackets, b.Packets, b.Name, kind)
			if b.Name == "written" {
				s.put(outputBytes, b.Bytes)
			}
		}
	}
	if l.Name == "wire" {
		s.put(wireExpected, l.In.Packets)
	}
}

// wire exports what the wire line tells apart from loss in its notes.
func (s *scrape) wire(snapshot *ledger.Snapshot) {
	all := snapshot.Ended.Sequenced.State.Sequence
	var sequenced, silent uint64
	for i := range snapshot.Feeds {
		f := &snapshot.Feeds[i]
		if !f.Sequenced() {
			silent++
			continue
		}
		sequenced++
		all.Duplicates += f.State.Sequence.Duplicates
		all.Restarts += f.State.Sequence.Restarts
	}
	s.put(wireDuplicates, all.Duplicates)
	s.put(wireRestarts, all.Restarts)
	s.put(wireFeeds, sequenced, "true")
	s.put(wireFeeds, silent, "false")
}

func (s *scrape) queue(q *ledger.Queue) {
	index := strconv.Itoa(q.Index)
	s.put(queueFillEmpty, q.FillRingEmpty, index)
	s.put(queueCirculating, uint64(q.Circulating), index)
	for i := range q.Sockets {
		socket := strconv.Itoa(i)
		s.put(queueReceived, q.Sockets[i].Received, index, socket)
		s.put(queueRingFull, q.Sockets[i].RingFull, index, socket)
	}
}

// feeds exports at most MaxFeeds feeds each for itself. The first to appear keep
// their place, so that a flood of new ones cannot make a series come and go.
func (s *scrape) feeds(feeds []ledger.Feed) {
	feeds = slices.Clone(feeds)
	slices.SortFunc(feeds, func(x, y ledger.Feed) int {
		return cmp.Or(
			cmp.Compare(x.State.First, y.State.First),
			slices.Compare(x.Key.Exporter[:], y.Key.Exporter[:]),
			slices.Compare(x.Key.Collector[:], y.Key.Collector[:]),
			cmp.Compare(x.Key.Encap, y.Key.Encap),
			cmp.Compare(x.Key.Session, y.Key.Session),
			cmp.Compare(x.Key.Key, y.Key.Key),
		)
	})
	own := min(len(feeds), MaxFeeds)
	for i := range feeds[:own] {
		f := &feeds[i]
		s.feed(f, f.Name(), address(feed.Exporter(&f.Key)), address(feed.Collector(&f.Key)),
			bpf.EncapName(bpf.Encap(f.Key.Encap)), strconv.Itoa(int(f.Key.Session)), key(&f.Key))
	}
	if rest := feeds[own:]; len(rest) > 0 {
		other := merge(rest)
		s.feed(&other, "other", "", "", "", "", "")
	}
}

func (s *scrape) feed(f *ledger.Feed, labels ...string) {
	s.put(feedPackets, f.State.Packets, labels...)
	s.put(feedBytes, f.State.Bytes, labels...)
	s.put(feedKept, f.State.Kept, labels...)
	s.put(feedLoops, f.State.Loops, labels...)
	if !f.Sequenced() {
		return // zero would say that nothing was lost
	}
	q := &f.State.Sequence
	s.put(feedExpected, f.Expected(), labels...)
	s.put(feedSkipped, q.Lost+q.Reordered, labels...)
	s.put(feedLost, q.Lost, labels...)
	s.put(feedReordered, q.Reordered, labels...)
	s.put(feedDuplicates, q.Duplicates, labels...)
	s.put(feedStrays, q.Strays, labels...)
	s.put(feedRestarts, q.Restarts, labels...)
}

func merge(feeds []ledger.Feed) (sum ledger.Feed) {
	for i := range feeds {
		sum.Add(&feeds[i])
	}
	return sum
}

// address is empty for the feeds that have none: RSPAN and native.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// key is empty when the sender set none: a key of 0 is not no key.
func key(k *bpf.FeedKey) string {
	if k.Keyed == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", k.Key)
}
