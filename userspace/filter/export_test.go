package filter

import "golang.org/x/net/bpf"

// FromPrograms makes a filter of programs that no expression stands for.
func FromPrograms(name string, ethernet, rawIP []bpf.RawInstruction) (*Filter, error) {
	f := &Filter{Expression: name}
	var err error
	if f.ethernet, err = newProgram(ethernet); err != nil {
		return nil, err
	}
	if rawIP != nil {
		f.rawIP, err = newProgram(rawIP)
	}
	return f, err
}
