// Package filter runs tcpdump's filter language on inner frames, in the kernel and
// in Go.
//
//	"tcp port 443"   Compile: libpcap, by way of tcpdump -ddd
//	classic BPF      twice: for Ethernet frames, and for bare IP packets (DLT_RAW)
//	   |       \
//	   |        Match: golang.org/x/net/bpf, the offline path and the oracle of tests
//	eBPF            Translate, and Splice: in place of filter() in the XDP program, where
//	                it runs on the frame before it goes to user space
//
// libpcap is the only full compiler of the language, and tcpdump is where every
// capture machine has it. The alternatives were weighed: cgo or dlopen make a
// static binary a dynamic one and run a parser written in C inside a process with
// privileges; the compilers written in Go know a part of the language.
//
// A Filter is a value that nobody changes; all methods may be called concurrently.
package filter

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
)

// Filter is one compiled expression.
type Filter struct {
	// Expression in the words of pcap-filter(7).
	Expression string

	ethernet, rawIP program
	length          int // of its function in the kernel
}

// program is an expression for one kind of frame. The zero value matches nothing.
type program struct {
	code []bpf.Instruction
	vm   *bpf.VM
}

// newProgram checks that both engines can run a program.
func newProgram(raw []bpf.RawInstruction) (program, error) {
	if len(raw) > maxInstructions {
		return program{}, fmt.Errorf("the expression takes %d instructions, the limit is %d: shorten it", len(raw), maxInstructions)
	}
	code, known := bpf.Disassemble(raw)
	if !known {
		return program{}, unknownInstruction(code)
	}
	for _, ins := range code {
		switch ins := ins.(type) {
		case bpf.NegateA:
			// x/net/bpf does not run it, and a filter that only one engine runs is no filter.
			return program{}, errors.New("a value is negated: write 0 - x instead of -x")
		case bpf.Jump:
			if ins.Skip >= uint32(len(code)) { // backward: 32 bits, taken as signed
				return program{}, errors.New("it loops (protochain does): a filter in the kernel may not")
			}
		case bpf.LoadExtension:
			if ins.Num != bpf.ExtLen {
				return program{}, errors.New("it asks the capturing socket (inbound, outbound, ifname and their like do): " +
					"a mirrored frame has none, see the keys direction and exporter of a rule")
			}
		}
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		return program{}, err
	}
	return program{code: code, vm: vm}, nil
}

// unknownInstruction names the first instruction that is not classic BPF.
func unknownInstruction(code []bpf.Instruction) error {
	for i, ins := range code {
		if raw, ok := ins.(bpf.RawInstruction); ok {
			return fmt.Errorf("instruction %d is unknown: %#04x", i, raw.Op)
		}
	}
	return fmt.Errorf("an instruction is unknown")
}

// Match reports whether a frame matches. rawIP says that it is an IP packet
// without an Ethernet header; expressions about link layers match none of those.
func (f *Filter) Match(frame []byte, rawIP bool) bool {
	p := f.ethernet
	if rawIP {
		p = f.rawIP
	}
	if p.vm == nil {
		return false
	}
	accepted, err := p.vm.Run(frame)
	return err == nil && accepted != 0
}

// MatchesRawIP reports whether the expression means something for bare IP packets.
func (f *Filter) MatchesRawIP() bool { return f.rawIP.vm != nil }

// Instructions counts those of the classic program for Ethernet frames, and those
// of the function in the kernel.
func (f *Filter) Instructions() (classic, kernel int) { return len(f.ethernet.code), f.length }

// measure translates the filter, to know that it can be.
func (f *Filter) measure() error {
	code, err := f.function("filter_0")
	if err != nil {
		return fmt.Errorf("%q: %w", f.Expression, err)
	}
	f.length = len(code)
	return nil
}
