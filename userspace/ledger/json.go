package ledger

import (
	"encoding/json"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

// The JSON form. Its names are a promise to scripts: lines and boxes by name,
// every box of a line that is there, zero or not.
type (
	jsonLedger struct {
		Subject string                       `json:"subject"`
		Start   time.Time                    `json:"start"`
		Seconds float64                      `json:"seconds"`
		Live    bool                         `json:"live"`
		Final   bool                         `json:"final"`
		Adds    bool                         `json:"adds_up"`
		Lines   map[string]jsonLine          `json:"lines"`
		Losses  map[string]map[string]uint64 `json:"losses"` // kind → line.box, where not zero
		Feeds   []jsonFeed                   `json:"feeds"`

		Rules    []Rule    `json:"rules,omitempty"`    // of the policy, the default last
		Overlaps []Overlap `json:"overlaps,omitempty"` // feeds that deliver the same packets
	}

	jsonLine struct {
		In      jsonBox            `json:"in"`
		Boxes   map[string]jsonBox `json:"boxes"`
		Balance int64              `json:"balance"` // in less boxes
		Adds    bool               `json:"adds_up"`
	}

	jsonBox struct {
		Name    string `json:"name,omitempty"` // of the left side only; boxes are keyed by it
		Kind    string `json:"kind,omitempty"` // of a box
		Packets uint64 `json:"packets"`
		Bytes   uint64 `json:"bytes,omitempty"`
	}

	jsonFeed struct {
		Name      string        `json:"name"`
		Exporter  string        `json:"exporter"`  // "": RSPAN and native have none
		Collector string        `json:"collector"` // likewise
		Encap     string        `json:"encapsulation"`
		Session   uint16        `json:"session"`
		Key       *uint32       `json:"key"` // null: the sender set none
		Packets   uint64        `json:"packets"`
		Bytes     uint64        `json:"bytes"`
		Kept      uint64        `json:"kept"`
		Loops     uint64        `json:"loops"`
		Sequence  *jsonSequence `json:"sequence"` // null: the feed has no sequence numbers
	}

	jsonSequence struct {
		Expected   uint64 `json:"expected"`
		Received   uint64 `json:"received"`
		Lost       uint64 `json:"lost"`
		Reordered  uint64 `json:"reordered"`
		Duplicates uint64 `json:"duplicates"`
		Restarts   uint64 `json:"restarts"`
		Strays     uint64 `json:"strays"`
	}
)

// MarshalJSON gives the computed ledger, not the raw counters.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	lines := s.Lines()
	j := jsonLedger{
		Subject: s.Subject,
		Start:   s.Start,
		Seconds: s.Elapsed.Seconds(),
		Live:    s.Live,
		Final:   s.Final,
		Adds:    true,
		Lines:   make(map[string]jsonLine, len(lines)),
		Losses:  map[string]map[string]uint64{},
		Feeds:   make([]jsonFeed, 0, len(s.Feeds)),

		Rules: s.Rules, Overlaps: s.Overlaps,
	}
	for _, k := range s.losses() {
		j.Losses[k.String()] = map[string]uint64{}
	}
	for i := range lines {
		l := &lines[i]
		line := jsonLine{
			In:      jsonBox{Name: l.In.Name, Packets: l.In.Packets, Bytes: l.In.Bytes},
			Boxes:   make(map[string]jsonBox, len(l.Boxes)),
			Balance: l.Balance(),
			Adds:    l.Adds(),
		}
		for b := range l.Boxes {
			box := &l.Boxes[b]
			line.Boxes[box.Name] = jsonBox{Kind: box.Kind.String(), Packets: box.Packets, Bytes: box.Bytes}
			if loss, is := j.Losses[box.Kind.String()]; is && box.Packets > 0 {
				loss[l.Name+"."+box.Name] = box.Packets
			}
		}
		j.Lines[l.Name] = line
		j.Adds = j.Adds && line.Adds
	}
	for i := range s.Feeds {
		j.Feeds = append(j.Feeds, s.Feeds[i].json())
	}
	return json.Marshal(j)
}

func (f *Feed) json() jsonFeed {
	j := jsonFeed{
		Name:      f.Name(),
		Exporter:  address(feed.Exporter(&f.Key)),
		Collector: address(feed.Collector(&f.Key)),
		Encap:     bpf.EncapName(bpf.Encap(f.Key.Encap)),
		Session:   f.Key.Session,
		Packets:   f.State.Packets,
		Bytes:     f.State.Bytes,
		Kept:      f.State.Kept,
		Loops:     f.State.Loops,
	}
	if f.Key.Keyed != 0 {
		j.Key = &f.Key.Key
	}
	if f.Sequenced() {
		q := &f.State.Sequence
		j.Sequence = &jsonSequence{
			Expected:   f.Expected(),
			Received:   q.Received,
			Lost:       q.Lost,
			Reordered:  q.Reordered,
			Duplicates: q.Duplicates,
			Restarts:   q.Restarts,
			Strays:     q.Strays,
		}
	}
	return j
}
