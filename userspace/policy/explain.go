package policy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/unspan/unspan/bpf"
)

// Explanation says what a policy means and what it compiles to: unspan policy check.
type Explanation struct {
	Exporters  string            `json:"exporters"`
	Loops      string            `json:"loops"`
	Duplicates string            `json:"duplicates"`
	Rules      []RuleExplanation `json:"rules"`
	Default    string            `json:"default"`
	Kernel     KernelExplanation `json:"kernel"`
}

// RuleExplanation says what one rule means.
type RuleExplanation struct {
	Name       string             `json:"name"`
	Line       int                `json:"line"`
	Conditions []Condition        `json:"conditions"`
	Filter     *FilterExplanation `json:"filter,omitempty"`
	Action     string             `json:"action"`
}

// Condition is one thing that a rule looks at, and the values that fit, joined and
// in order.
type Condition struct {
	Key    string   `json:"key"`
	Values []string `json:"values"`
}

// FilterExplanation says what a filter compiles to.
type FilterExplanation struct {
	Expression string `json:"expression"`
	Classic    int    `json:"classic_instructions"`
	Kernel     int    `json:"kernel_instructions"`
	// RawIP: it can match bare IP packets, which have no Ethernet header.
	RawIP bool `json:"raw_ip"`
}

// KernelExplanation says what the kernel holds of a policy.
type KernelExplanation struct {
	Rules    int `json:"rules"`
	Sets     int `json:"sets"`
	Ranges   int `json:"ranges"`
	Prefixes int `json:"prefixes"`
	Filters  int `json:"filters"`
	Bytes    int `json:"bytes"`
}

// Explain says what the policy means and what it was compiled to.
func (c *Compiled) Explain() *Explanation {
	p := c.policy
	e := &Explanation{
		Exporters:  p.exportersText(),
		Loops:      p.Loops.String(),
		Duplicates: p.Duplicates.String(),
		Rules:      []RuleExplanation{},
		Default:    p.Default.String(),
		Kernel: KernelExplanation{
			Rules:    len(c.rules),
			Sets:     len(c.sets),
			Ranges:   len(c.ranges),
			Prefixes: len(c.prefixes),
			Filters:  len(c.filters),
		},
	}
	k := &e.Kernel
	k.Bytes = binary.Size(c.rules) + binary.Size(c.sets) + binary.Size(c.ranges) + k.Prefixes*binary.Size(rulePrefix{})
	for i := range p.Rules {
		e.Rules = append(e.Rules, p.Rules[i].explain())
	}
	return e
}

func (p *Policy) exportersText() string {
	if p.Exporters == nil {
		return "all"
	}
	strangers := "passed to the host"
	if p.DropStrangers {
		strangers = "dropped"
	}
	return fmt.Sprintf("%s; others are %s", strings.Join(texts(p.Exporters), ", "), strangers)
}

func (d Duplicates) String() string {
	if d.Window == 0 {
		return "kept"
	}
	where := "from another feed"
	if d.WithinFeed {
		where = "from any feed"
	}
	text := fmt.Sprintf("dropped when they come %s within %v", where, d.Window)
	var ignored []string
	for i, name := range ignoredNames {
		if d.Ignore>>i&1 == 1 {
			ignored = append(ignored, name)
		}
	}
	if ignored != nil {
		text += ", whatever their " + wordList(ignored)
	}
	return text
}

func texts[T fmt.Stringer](values []T) []string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return out
}

func (rule *Rule) explain() RuleExplanation {
	e := RuleExplanation{Name: rule.Name, Line: rule.Line, Action: rule.Action.String(), Conditions: []Condition{}}
	add := func(key string, values []string) {
		if values != nil {
			e.Conditions = append(e.Conditions, Condition{key, values})
		}
	}
	add("exporter", texts(rule.Exporters))
	add("collector", texts(rule.Collectors))
	var encaps []string
	for _, encap := range rule.Encaps {
		encaps = append(encaps, bpf.EncapName(encap))
	}
	add("encapsulation", encaps)
	add("session", texts(rule.Sessions))
	add("gre_key", texts(rule.Keys))
	add("vni", texts(rule.VNIs))
	vlans := texts(rule.VLANs)
	if len(vlans) > 0 && vlans[0] == "0" {
		vlans[0] = "untagged"
	}
	add("vlan", vlans)
	if rule.Direction != AnyDirection {
		add("direction", []string{rule.Direction.String()})
	}
	if f := rule.Filter; f != nil {
		e.Filter = &FilterExplanation{Expression: f.Expression, RawIP: f.MatchesRawIP()}
		e.Filter.Classic, e.Filter.Kernel = f.Instructions()
	}
	return e
}

// WriteJSON prints the explanation for programs.
func (e *Explanation) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(e)
}

// WriteText prints the explanation for people.
func (e *Explanation) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "exporters   %s\nloops       %s\nduplicates  %s\n\n", e.Exporters, e.Loops, e.Duplicates)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LINE\tRULE\tFRAMES\tACTION")
	for _, r := range e.Rules {
		lines := r.lines()
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", r.Line, r.Name, lines[0], r.Action)
		for _, line := range lines[1:] {
			fmt.Fprintf(table, "\t\t%s\t\n", line)
		}
	}
	fmt.Fprintf(table, "\tdefault\tall others\t%s\n", e.Default)
	if err := table.Flush(); err != nil {
		return err
	}
	k := e.Kernel
	fmt.Fprintf(&b, "\nin the kernel: %s, %s, %s, %s, %s: %d bytes\n",
		count(k.Rules, "rule"), count(k.Sets, "set of rules"), count(k.Ranges, "range"),
		count(k.Prefixes, "prefix"), count(k.Filters, "filter"), k.Bytes)
	_, err := w.Write(trimmed(b.Bytes()))
	return err
}

// lines says what a rule looks at, one thing a line.
func (r *RuleExplanation) lines() []string {
	var lines []string
	for _, c := range r.Conditions {
		lines = append(lines, c.Key+" "+strings.Join(c.Values, ", "))
	}
	if f := r.Filter; f != nil {
		lines = append(lines, "filter "+f.Expression)
		note := fmt.Sprintf("  %d instructions, %d in the kernel", f.Classic, f.Kernel)
		if !f.RawIP {
			note += "; matches no bare IP packets"
		}
		lines = append(lines, note)
	}
	if lines == nil {
		return []string{"all"}
	}
	return lines
}

func count(n int, what string) string {
	plural := what + "s"
	switch what {
	case "prefix":
		plural = "prefixes"
	case "set of rules":
		plural = "sets of rules"
	}
	if n == 1 {
		plural = what
	}
	return fmt.Sprintf("%d %s", n, plural)
}

// trimmed takes away the blanks that a table leaves at the end of its lines.
func trimmed(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimRight(lines[i], " ")
	}
	return bytes.Join(lines, []byte("\n"))
}
