package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/filter"
)

const (
	maxFile   = 4 << 20 // bytes of a policy file: 1,024 rules of 4 KiB
	minSnap   = 14      // an Ethernet header; with less nobody can say what the frame was
	maxSnap   = 65535
	maxOneIn  = 1 << 30
	maxWindow = 10 * time.Second
)

// ReadFile reads the policy in a file.
func ReadFile(ctx context.Context, name string) (*Policy, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading policy %s: %w", name, err)
	}
	return Read(ctx, name, data)
}

// Read reads a policy file's content; name stands in its errors. Every problem is
// reported, each with its line and its cure, in one *FileError. Filters are
// compiled by tcpdump, which must be installed when the file has one; ctx bounds
// the time that takes.
func Read(ctx context.Context, name string, data []byte) (*Policy, error) {
	r := fileReader{ctx: ctx, filters: map[string]compiledFilter{}, policy: Default()}
	if len(data) > maxFile {
		r.problem(0, "the file is longer than %d bytes", maxFile)
		return nil, r.err(name)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return r.policy, nil // an empty file asks for nothing
	case err != nil:
		r.syntax(err)
		return nil, r.err(name)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.problem(0, "the file holds more than one YAML document: remove the lines from the second --- on")
	}
	r.file(document.Content[0])
	if len(r.problems) == 0 {
		r.unreachable()
	}
	if err := r.err(name); err != nil {
		return nil, err
	}
	return r.policy, nil
}

type fileReader struct {
	reader
	ctx     context.Context
	policy  *Policy
	filters map[string]compiledFilter
}

type compiledFilter struct {
	filter *filter.Filter
	err    error
}

// syntax takes the line out of the YAML parser's own error.
func (r *fileReader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, text = n, after
			}
		}
	}
	r.problem(line, "not YAML: %s", text)
}

func (r *fileReader) file(n *yaml.Node) {
	if resolved(n).Tag == "!!null" {
		return
	}
	r.fields(n, "the policy", map[string]func(*yaml.Node){
		"exporters":  r.exporters,
		"loops":      r.loops,
		"duplicates": r.duplicates,
		"rules":      r.rules,
		"default":    r.defaultAction,
	})
}

func (r *fileReader) exporters(n *yaml.Node) {
	allowed := false
	r.fields(n, "exporters", map[string]func(*yaml.Node){
		"allow": func(n *yaml.Node) {
			allowed = true
			r.policy.Exporters = r.prefixes(n, "exporters: allow")
		},
		"strangers": func(n *yaml.Node) {
			i, _ := r.choice(n, "exporters: strangers", "pass", "drop")
			r.policy.DropStrangers = i == 1
		},
	})
	if !allowed {
		r.problem(n.Line, "exporters has no list of them: add allow: [192.0.2.0/24, ...]")
	}
}

func (r *fileReader) loops(n *yaml.Node) {
	if i, ok := r.choice(n, "loops", LoopDrop.String(), LoopUnwrap.String(), LoopKeep.String()); ok {
		r.policy.Loops = LoopAction(i)
	}
}

func (r *fileReader) duplicates(n *yaml.Node) {
	d := &r.policy.Duplicates
	r.fields(n, "duplicates", map[string]func(*yaml.Node){
		"window": func(n *yaml.Node) {
			text, ok := r.text(n, "duplicates: window")
			if !ok {
				return
			}
			window, err := time.ParseDuration(text)
			if err != nil || window <= 0 || window > maxWindow {
				r.problem(n.Line, "duplicates: window is %q, want a time above 0 and up to %v, such as 20ms", text, maxWindow)
				return
			}
			d.Window = window
		},
		"within_feed": func(n *yaml.Node) { d.WithinFeed = r.yes(n, "duplicates: within_feed") },
		"ignore": func(n *yaml.Node) {
			d.Ignore = 0
			if resolved(n).Kind == yaml.SequenceNode && len(resolved(n).Content) == 0 {
				return // here an empty list says something: compare all
			}
			r.each(n, "duplicates: ignore", func(n *yaml.Node) {
				if i, ok := r.choice(n, "duplicates: ignore", ignoredNames[:]...); ok {
					d.Ignore |= 1 << i
				}
			})
		},
	})
	if d.Window == 0 && len(r.problems) == 0 {
		r.problem(n.Line, "duplicates has no window: add one, such as window: 20ms")
	}
}

var ignoredNames = [...]string{"ttl", "tos", "checksums", "vlan", "mac"}

func (r *fileReader) rules(n *yaml.Node) {
	n = resolved(n)
	if n.Kind != yaml.SequenceNode {
		r.problem(n.Line, "rules is %s, want a list", kindName(n))
		return
	}
	if len(n.Content) > int(MaxRules) {
		r.problem(n.Line, "%d rules, the limit is %d: join some with lists of values and ranges", len(n.Content), MaxRules)
		return
	}
	names := map[string]int{}
	for i, node := range n.Content {
		rule := r.rule(resolved(node), i)
		if first, twice := names[rule.Name]; twice {
			r.problem(rule.Line, "the name %q is taken, see line %d: choose another", rule.Name, first)
		}
		names[rule.Name] = rule.Line
		r.policy.Rules = append(r.policy.Rules, rule)
	}
}

func (r *fileReader) rule(n *yaml.Node, index int) Rule {
	rule := Rule{Line: n.Line, Name: fmt.Sprintf("rule %d", index+1)}
	before := len(r.problems)
	action := actionReader{fileReader: r, what: "the rule"}
	known := map[string]func(*yaml.Node){
		"name":          func(n *yaml.Node) { r.name(n, &rule) },
		"exporter":      func(n *yaml.Node) { rule.Exporters = r.prefixes(n, "exporter") },
		"collector":     func(n *yaml.Node) { rule.Collectors = r.prefixes(n, "collector") },
		"encapsulation": func(n *yaml.Node) { rule.Encaps = r.encaps(n) },
		"session":       func(n *yaml.Node) { rule.Sessions = r.ranges(n, "session", maxSession, "ERSPAN session ids") },
		"gre_key":       func(n *yaml.Node) { rule.Keys = r.ranges(n, "gre_key", maxKey, "GRE keys") },
		"vni":           func(n *yaml.Node) { rule.VNIs = r.ranges(n, "vni", maxVNI, "VNIs") },
		"vlan":          func(n *yaml.Node) { rule.VLANs = r.ranges(n, "vlan", maxVLAN, "VLAN ids") },
		"direction":     func(n *yaml.Node) { rule.Direction = r.direction(n) },
		"filter":        func(n *yaml.Node) { rule.Filter = r.filter(n) },
	}
	action.addTo(known)
	r.fields(n, "a rule", known)
	rule.Action = action.done(n.Line, len(r.problems) > before)
	if len(r.problems) == before {
		if why := rule.contradiction(); why != "" {
			r.problem(n.Line, "the rule can never match: %s", why)
		}
	}
	return rule
}

func (r *fileReader) name(n *yaml.Node, rule *Rule) {
	text, ok := r.text(n, "name")
	if !ok {
		return
	}
	valid := len(text) > 0 && len(text) <= 64
	for _, c := range text {
		valid = valid && c > ' ' && c < 0x7f && c != '"'
	}
	if !valid {
		r.problem(n.Line, "name is %q, want 1 to 64 letters, digits and signs without spaces", text)
		return
	}
	rule.Name = text
}

func (r *fileReader) direction(n *yaml.Node) Direction {
	i, ok := r.choice(n, "direction", Ingress.String(), Egress.String())
	if !ok {
		return AnyDirection
	}
	return []Direction{Ingress, Egress}[i]
}

func (r *fileReader) encaps(n *yaml.Node) []bpf.Encap {
	var names []string
	for e := bpf.EncapNone + 1; e < bpf.EncapCount; e++ {
		names = append(names, bpf.EncapName(e))
	}
	var encaps []bpf.Encap
	r.each(n, "encapsulation", func(n *yaml.Node) {
		if i, ok := r.choice(n, "encapsulation", names...); ok {
			encaps = append(encaps, bpf.EncapNone+1+bpf.Encap(i))
		}
	})
	return encaps
}

func (r *fileReader) filter(n *yaml.Node) *filter.Filter {
	text, ok := r.text(n, "filter")
	if !ok {
		return nil
	}
	known, done := r.filters[text]
	if !done {
		known.filter, known.err = filter.Compile(r.ctx, text)
		r.filters[text] = known
		if count := len(r.filters); count == int(MaxFilters)+1 {
			r.problem(n.Line, "more than %d different filters: use vlan, session and the other keys for what they can say", MaxFilters)
		}
	}
	if known.err != nil {
		r.problem(n.Line, "filter: %v", known.err)
	}
	return known.filter
}

func (r *fileReader) defaultAction(n *yaml.Node) {
	if n = resolved(n); n.Kind == yaml.ScalarNode {
		if i, ok := r.choice(n, "default", "keep", "drop"); ok {
			r.policy.Default = Action{Drop: i == 1, OneIn: 1}
		}
		return
	}
	before := len(r.problems)
	action := actionReader{fileReader: r, what: "default"}
	known := map[string]func(*yaml.Node){}
	action.addTo(known)
	r.fields(n, "default", known)
	r.policy.Default = action.done(n.Line, len(r.problems) > before)
}
