package policy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

// Trial runs frames of a capture through the rules of a policy and prints which one
// each meets: unspan policy test. Loops and duplicates are no rules; it does not look
// for them. It is for one goroutine.
type Trial struct {
	engine *Engine
	out    *bufio.Writer
	json   bool
	frames int
}

// Meeting is what a trial says of one frame.
type Meeting struct {
	// Packet is the number of the outer packet in the capture, from 1.
	Packet int    `json:"packet"`
	Feed   string `json:"feed"`
	VLAN   uint32 `json:"vlan"`
	Length uint32 `json:"length"`
	Rule   string `json:"rule"`
	// Line of the rule in the policy file; 0 for the default.
	Line int `json:"line,omitempty"`
	// Verdict is "keep", or what it is dropped for.
	Verdict string `json:"verdict"`
	// Kept is the number of bytes left of the frame.
	Kept uint32 `json:"kept"`
}

// Summary is what a trial says of one rule at the end.
type Summary struct {
	Rule    string `json:"rule"`
	Line    int    `json:"line,omitempty"`
	Action  string `json:"action"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Kept    uint64 `json:"kept"`
}

// NewTrial makes a trial that prints to w, as a table or as a JSON object a line.
func NewTrial(p *Policy, w io.Writer, asJSON bool) *Trial {
	return &Trial{engine: NewEngine(p, &bpf.Config{}, nil), out: bufio.NewWriter(w), json: asJSON}
}

const trialRow = "%8v  %-32v %5v %7v  %-24v %5v  %v\n"

// Frame takes the inner frame of the capture's packet of a number.
func (t *Trial) Frame(packet int, key *bpf.FeedKey, rec bpf.Record, frame []byte) error {
	m := Meeting{Packet: packet, Feed: feed.Name(key), VLAN: frameVLAN(&rec, frame), Length: rec.Length}
	verdict := t.engine.Decide(key, &rec, frame)
	m.Rule, m.Line = t.engine.policy.called(rec.Rule)
	m.Verdict, m.Kept = "keep", rec.Length
	if verdict != bpf.VerdictNone {
		m.Verdict, m.Kept = strings.TrimPrefix(bpf.VerdictName(verdict), "drop_"), 0
	}
	if t.json {
		return json.NewEncoder(t.out).Encode(&m)
	}
	if t.frames == 0 {
		fmt.Fprintf(t.out, trialRow, "packet", "feed", "vlan", "length", "rule", "kept", "verdict")
	}
	t.frames++
	_, err := fmt.Fprintf(t.out, trialRow, m.Packet, m.Feed, m.VLAN, m.Length, m.Rule, m.Kept, m.Verdict)
	return err
}

// called is the name and the line of the rule of a record's number.
func (p *Policy) called(number uint16) (name string, line int) {
	if int(number) < len(p.Rules) {
		return p.Rules[number].Name, p.Rules[number].Line
	}
	return "default", 0
}

// Summaries says what each rule met, in the order of the file, the default last.
// States come from an Engine, or from ReadStates.
func (p *Policy) Summaries(states []RuleState) []Summary {
	out := make([]Summary, 0, len(states))
	for i, s := range states {
		summary := Summary{Rule: "default", Action: p.Default.String(), Packets: s.Packets, Bytes: s.Bytes, Kept: s.Kept}
		if i < len(p.Rules) {
			r := &p.Rules[i]
			summary.Rule, summary.Line, summary.Action = r.Name, r.Line, r.Action.String()
		}
		out = append(out, summary)
	}
	return out
}

// WriteSummaries prints what each rule met as a table.
func WriteSummaries(w io.Writer, all []Summary) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LINE\tRULE\tPACKETS\tBYTES\tKEPT\tACTION")
	for _, s := range all {
		line := ""
		if s.Line > 0 {
			line = strconv.Itoa(s.Line)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\n", line, s.Rule, s.Packets, s.Bytes, s.Kept, s.Action)
	}
	return table.Flush()
}

// Close prints what each rule met in all.
func (t *Trial) Close() error {
	all := t.engine.policy.Summaries(t.engine.States())
	var err error
	if t.json {
		err = json.NewEncoder(t.out).Encode(map[string][]Summary{"rules": all})
	} else {
		if t.frames > 0 {
			fmt.Fprintln(t.out)
		}
		err = WriteSummaries(t.out, all)
	}
	if err != nil {
		return err
	}
	return t.out.Flush()
}
