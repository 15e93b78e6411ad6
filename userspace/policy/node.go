package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing wrong with a policy file.
type Problem struct {
	// Line of the file, from 1; 0 when it is not about a line.
	Line int
	// Text says what is wrong and what to write instead.
	Text string
}

// FileError is everything wrong with a policy file.
type FileError struct {
	File     string
	Problems []Problem
}

// Error has a line for each problem, in the order of the file.
func (e *FileError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		if p.Line == 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", e.File, p.Text))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text))
	}
	return strings.Join(lines, "\n")
}

// reader walks the nodes of a policy file and collects what is wrong with them. It
// goes on after a problem, so that one look at the file mends all of them.
type reader struct {
	problems []Problem
}

func (r *reader) problem(line int, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: line, Text: fmt.Sprintf(format, args...)})
}

// err is what was collected, or nil.
func (r *reader) err(file string) error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &FileError{File: file, Problems: r.problems}
}

// resolved follows an alias to what it stands for.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields calls a function for each key of a mapping. Keys that are not in the map,
// and keys that come twice, are problems.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		r.problem(n.Line, "%s is %s, want keys and values: %s", what, kindName(n), keyList(known))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch first, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || !ok:
			r.problem(key.Line, "%s has no key %q; it has %s", what, key.Value, keyList(known))
		case twice:
			r.problem(key.Line, "%s says %q twice, first in line %d: remove one", what, key.Value, first)
		default:
			seen[key.Value] = key.Line
			read(value)
		}
	}
}

// each calls a function for every element of a list; a single value is a list of one.
func (r *reader) each(n *yaml.Node, what string, read func(*yaml.Node)) {
	n = resolved(n)
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		read(n)
		return
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.problem(n.Line, "%s is %s, want a value or a list of them; leave the key out to match everything", what, kindName(n))
		return
	}
	for _, element := range n.Content {
		read(resolved(element))
	}
}

// text is the value of a scalar; false, and a problem, when it is something else.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	n = resolved(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.problem(n.Line, "%s is %s, want a value", what, kindName(n))
		return "", false
	}
	return n.Value, true
}

// choice is the one of the words that the scalar is; false, and a problem, when it is none.
func (r *reader) choice(n *yaml.Node, what string, words ...string) (int, bool) {
	value, ok := r.text(n, what)
	if !ok {
		return 0, false
	}
	if i := slices.Index(words, value); i >= 0 {
		return i, true
	}
	r.problem(resolved(n).Line, "%s is %q, want %s", what, value, wordList(words))
	return 0, false
}

func (r *reader) yes(n *yaml.Node, what string) bool {
	i, ok := r.choice(n, what, "false", "true")
	return ok && i == 1
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return "an empty list"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "empty"
	}
	return fmt.Sprintf("%q", n.Value)
}

func keyList(known map[string]func(*yaml.Node)) string {
	keys := make([]string, 0, len(known))
	for key := range known {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// wordList is "a, b or c".
func wordList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
