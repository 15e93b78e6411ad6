package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// configFile is a YAML file whose keys are the long names of flags:
//
//	write: /var/lib/unspan
//	rotate-size: 1G
//	exporter: [192.0.2.0/24]
//
// Flags on the command line come first. A key that is no flag is an error, with
// its line.
type configFile string

// BeforeResolve makes the file's values the defaults of the command's flags.
// kong has not set the receiver yet: the value is in the trace.
func (configFile) BeforeResolve(k *kong.Context, trace *kong.Path) error {
	name, _ := k.FlagValue(trace.Flag).(configFile)
	if name == "" {
		return nil
	}
	values, err := readConfig(string(name), k.Selected())
	if err != nil {
		return err
	}
	k.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v, ok := values[flag.Name]; ok {
			return v, nil
		}
		return nil, nil
	}))
	return nil
}

func readConfig(name string, node *kong.Node) (map[string]any, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer file.Close()
	var document yaml.Node
	if err := yaml.NewDecoder(file).Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", name, err)
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("reading configuration %s:%d: want flags as \"name: value\"", name, root.Line)
	}
	known := map[string]bool{}
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			known[f.Name] = f.Name != "config" && f.Name != "help"
		}
	}
	values := map[string]any{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if !known[key.Value] {
			return nil, fmt.Errorf("reading configuration %s:%d: %q is no flag of this command: unspan %s --help lists them", name, key.Line, key.Value, node.Name)
		}
		if _, twice := values[key.Value]; twice {
			return nil, fmt.Errorf("reading configuration %s:%d: %q stands there twice", name, key.Line, key.Value)
		}
		v, err := flagValue(value)
		if err != nil {
			return nil, fmt.Errorf("reading configuration %s:%d: %s: %w", name, value.Line, key.Value, err)
		}
		values[key.Value] = v
	}
	return values, nil
}

// flagValue gives kong what it would find on the command line: text, a truth
// value, or a list of texts.
func flagValue(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!bool" {
			return n.Value == "true", nil
		}
		return n.Value, nil
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("want a list of values")
			}
			list[i] = item.Value
		}
		return list, nil
	}
	return nil, errors.New("want a value or a list of values")
}
