package ledger_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
)

// exporting is a live snapshot with flows: 1,012,077 frames kept less 8 over the
// number asked for.
func exporting() ledger.Snapshot {
	s := live()
	s.Flows = &ledger.Flows{
		Counters: flow.Counters{
			flow.Tracked: 1_012_060, flow.ShortIP: 9, flow.Created: 500, flow.EndedForced: 500,
			flow.EndedEvicted: 0, flow.Emitted: 520, flow.RecordsLost: 3,
		},
		Exports: []export.Stats{
			{Name: "json", Written: 517},
			{Name: "ipfix 192.0.2.9:4739", Written: 400, Waiting: 17, Dropped: 100, Errors: 4},
		},
	}
	return s
}

// Every frame is in a flow or in none for a reason, every record somewhere.
func TestFlows(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ledger.Snapshot)
		fault  string // of a finished run
		live   string // while it runs
	}{
		{"adds up", func(*ledger.Snapshot) {}, "", ""},
		{"a frame is nowhere", func(s *ledger.Snapshot) { s.Flows.Counters[flow.Tracked]-- }, "line flows does not add up: 1 in no box", ""},
		{"a frame twice", func(s *ledger.Snapshot) { s.Flows.Counters[flow.NotIP]++ }, "line flows does not add up: 1 too many", ""},
		{"a record is nowhere", func(s *ledger.Snapshot) { s.Flows.Exports[1].Waiting-- }, "line export does not add up: 1 in no box", ""},
		{"a record twice", func(s *ledger.Snapshot) { s.Flows.Exports[0].Written++ }, "line export does not add up: 1 too many", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := exporting()
			c.change(&s)
			for _, final := range []bool{true, false} {
				want := c.live
				if final {
					want = c.fault
				}
				s.Final = final
				err := s.Check()
				switch {
				case want == "" && err != nil:
					t.Errorf("final %v: %v", final, err)
				case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
					t.Errorf("final %v: %v, want %q", final, err, want)
				}
			}
		})
	}
}

func TestFlowsText(t *testing.T) {
	s := exporting()
	s.Flows.Counters[flow.EndedEvicted] = 1
	var b bytes.Buffer
	if err := s.WriteText(&b, ledger.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"inner frames looked at",
		"no flow: IP header cut short",
		"1 flow ended early: the table was full",
		"+ ipfix 192.0.2.9:4739 away or too slow",
		"export    exporter too slow 6, ipfix 192.0.2.9:4739 away or too slow 100",
		"Every line adds up.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		Losses map[string]map[string]uint64
	}
	if err := json.Unmarshal(text, &j); err != nil {
		t.Fatal(err)
	}
	if n := j.Losses["export"]["export ipfix 192.0.2.9:4739.dropped"]; n != 100 {
		t.Errorf("losses %v", j.Losses)
	}
}
