package control

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/ledger"
)

// Sessions are the feeds of a collector at one moment.
type Sessions struct {
	Subject  string    `json:"subject"`
	Seconds  float64   `json:"rate_seconds"` // the time that rates are means over
	Sessions []Session `json:"sessions"`     // busiest first
}

// Session is one feed. Rates are per second.
type Session struct {
	Name          string  `json:"name"`
	Exporter      string  `json:"exporter"`  // "": RSPAN and native have none
	Collector     string  `json:"collector"` // likewise
	Encapsulation string  `json:"encapsulation"`
	Session       uint16  `json:"session"`
	Key           *uint32 `json:"key"` // null: the sender set none
	Packets       uint64  `json:"packets"`
	Bytes         uint64  `json:"bytes"`
	Kept          uint64  `json:"kept"`
	Loops         uint64  `json:"loops"` // packets that carry a mirror's own packet
	Lost          *uint64 `json:"lost"`  // null: the feed has no sequence numbers
	PacketRate    float64 `json:"packets_per_second"`
	ByteRate      float64 `json:"bytes_per_second"`
	Age           float64 `json:"age_seconds"`  // since its first packet
	Idle          float64 `json:"idle_seconds"` // since its newest
}

// reading is what was counted of each feed at a time.
type reading struct {
	at    time.Duration // since the start of the run
	feeds map[bpf.FeedKey]bpf.FeedState
}

// Rates remembers readings to take differences from: the latest one, and the one
// before, for whoever looks again at once.
type Rates struct{ before, latest reading }

// shortest is the shortest time that a rate is taken over, once the collector
// runs that long.
const shortest = time.Second

// List makes the list and takes note of the reading. now is the monotonic clock
// in ns, whose times feeds have.
func (r *Rates) List(s *ledger.Snapshot, now uint64) Sessions {
	this := reading{at: s.Elapsed, feeds: make(map[bpf.FeedKey]bpf.FeedState, len(s.Feeds))}
	for _, f := range s.Feeds {
		this.feeds[f.Key] = f.State
	}
	if this.at-r.latest.at >= shortest {
		r.before, r.latest = r.latest, this
	}
	seconds := (this.at - r.before.at).Seconds()
	list := Sessions{Subject: s.Subject, Seconds: seconds, Sessions: make([]Session, 0, len(s.Feeds))}
	for i := range s.Feeds {
		f := &s.Feeds[i]
		list.Sessions = append(list.Sessions, session(f, r.before.feeds[f.Key], seconds, now))
	}
	slices.SortStableFunc(list.Sessions, func(a, b Session) int {
		return cmp.Or(cmp.Compare(b.PacketRate, a.PacketRate), cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func session(f *ledger.Feed, before bpf.FeedState, seconds float64, now uint64) Session {
	if before.Packets > f.State.Packets {
		before = bpf.FeedState{} // its place was given up and taken again since
	}
	s := Session{
		Name:          f.Name(),
		Encapsulation: bpf.EncapName(bpf.Encap(f.Key.Encap)),
		Session:       f.Key.Session,
		Packets:       f.State.Packets,
		Bytes:         f.State.Bytes,
		Kept:          f.State.Kept,
		Loops:         f.State.Loops,
		Age:           since(f.State.First, now),
		Idle:          since(f.State.Last, now),
	}
	if a := feed.Exporter(&f.Key); a.IsValid() {
		s.Exporter = a.String()
	}
	if a := feed.Collector(&f.Key); a.IsValid() {
		s.Collector = a.String()
	}
	if f.Key.Keyed != 0 {
		s.Key = &f.Key.Key
	}
	if f.Sequenced() {
		s.Lost = &f.State.Sequence.Lost
	}
	if seconds > 0 {
		s.PacketRate = float64(f.State.Packets-before.Packets) / seconds
		s.ByteRate = float64(f.State.Bytes-before.Bytes) / seconds
	}
	return s
}

// since is in seconds; packets that came after the clock was read came now.
func since(then, now uint64) float64 {
	return float64(now-min(then, now)) / 1e9
}

func (l *Sessions) writeText(w io.Writer) error {
	var b bytes.Buffer
	if len(l.Sessions) == 0 {
		_, err := fmt.Fprintf(w, "%s: no mirror feed has come yet.\n", l.Subject)
		return err
	}
	name := len("feed")
	for i := range l.Sessions {
		name = max(name, len(l.Sessions[i].Name))
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	// What stands behind the last tab is no column: left as it is.
	fmt.Fprintf(table, "packets/s\tMbit/s\tpackets\tlost\tloops\tidle\t  %-*s  collector\n", name, "feed")
	for i := range l.Sessions {
		s := &l.Sessions[i]
		lost := "unknown"
		if s.Lost != nil {
			lost = fmt.Sprint(*s.Lost)
		}
		idle := time.Duration(s.Idle * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(table, "%.0f\t%.2f\t%d\t%s\t%d\t%v\t  %-*s  %s\n",
			s.PacketRate, s.ByteRate*8/1e6, s.Packets, lost, s.Loops, idle, name, s.Name, s.Collector)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	feeds := "feeds"
	if len(l.Sessions) == 1 {
		feeds = "feed"
	}
	fmt.Fprintf(&b, "\n%d %s on %s; rates over %.1f s.\n", len(l.Sessions), feeds, l.Subject, l.Seconds)
	_, err := w.Write(b.Bytes())
	return err
}
