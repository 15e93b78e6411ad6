package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// A translated program is two bodies that do the same:
//
//	fast  reads the frame through packet pointers, in registers only
//	slow  reads it with bpf_xdp_load_bytes, which finds what lies in later buffers
//	      of a multi-buffer frame
//
// The fast body starts; where a byte belongs to the frame but not to the first
// buffer, it jumps to the start of the slow one. A filter has no side effects, so
// beginning anew is safe, and a frame in one buffer never pays for the others.
// As classic BPF demands (bpf(4) of its inventors, McCanne and Jacobson 1993), a
// load outside the frame ends the program: no match.
const (
	maxFrame  = 65535  // nothing behind it exists
	maxOffset = 0x3fff // of the inner frame: MAX_HEADERS in bpf/packet.h
	maxDirect = 0xffff - maxOffset - 8
	maxLoad   = 1 << 14 // of the offset field of a load: signed, 16 bits
)

// The stack of a filter function, downward from the frame pointer.
const (
	stackScratch = -64 // M[0..15], 4 bytes each
	stackLength  = -72
	stackLoaded  = -80
)

// bodyRegisters are the places of the classic machine's registers. The slow body
// calls a helper, which clobbers R0 to R5.
type bodyRegisters struct{ a, x asm.Register }

const (
	regContext = asm.R6
	regOffset  = asm.R7
	regLength  = asm.R9 // fast; the slow body keeps it on the stack
	regEnd     = asm.R2 // fast: data_end
	regFrame   = asm.R3 // fast: the frame's first byte
)

var (
	fastRegisters = bodyRegisters{a: asm.R0, x: asm.R1}
	slowRegisters = bodyRegisters{a: asm.R8, x: asm.R9}
)

// body translates one program once.
type body struct {
	bodyRegisters
	fast  bool
	label string
	out   asm.Instructions
	// proven is the frame length that every way to the present instruction has
	// checked: a later load that ends within it needs no check of its own.
	proven int
	// arriving is the same at jump targets, by instruction.
	arriving map[int]int
	targets  map[int]bool
	reached  bool
}

// translate makes both bodies of a program. They expect regContext, regOffset and
// regLength, all zero-extended, and leave 0 or 1 in R0.
func (p program) translate(label string) (asm.Instructions, error) {
	if p.code == nil {
		return asm.Instructions{
			asm.Mov.Imm(asm.R0, 0).WithSymbol(label),
			asm.Return(),
		}, nil
	}
	var out asm.Instructions
	for _, fast := range []bool{true, false} {
		b := body{
			bodyRegisters: slowRegisters, fast: fast, label: label + ".slow",
			arriving: map[int]int{}, targets: map[int]bool{}, reached: true,
		}
		if fast {
			b.bodyRegisters, b.label = fastRegisters, label
		}
		if err := b.translate(p.code); err != nil {
			return nil, err
		}
		out = append(out, b.out...)
	}
	return out, nil
}

func (b *body) emit(ins ...asm.Instruction) { b.out = append(b.out, ins...) }

func (b *body) at(i int) string { return fmt.Sprintf("%s.%d", b.label, i) }
func (b *body) none() string    { return b.label + ".none" }
func (b *body) slow() string    { return b.label + ".slow" }

func (b *body) translate(code []bpf.Instruction) error {
	b.prologue(code)
	for i, ins := range code {
		if known, ok := b.arriving[i]; ok {
			if !b.reached || known < b.proven {
				b.proven = known
			}
			b.reached = true
		}
		if !b.reached {
			continue // the verifier refuses what nothing reaches
		}
		start := len(b.out)
		if err := b.instruction(ins, i); err != nil {
			return fmt.Errorf("instruction %d, %v: %w", i, ins, err)
		}
		if b.targets[i] {
			if start == len(b.out) { // a jump to the next instruction
				b.emit(asm.Mov.Reg(b.a, b.a))
			}
			b.out[start] = b.out[start].WithSymbol(b.at(i))
		}
	}
	for i := range b.out {
		if b.out[i].Reference() == b.none() {
			b.emit(asm.Mov.Imm(asm.R0, 0).WithSymbol(b.none()), asm.Return())
			break
		}
	}
	return nil
}

func (b *body) prologue(code []bpf.Instruction) {
	if b.fast {
		b.emit(
			asm.JGT.Imm(regOffset, maxOffset, b.slow()).WithSymbol(b.label),
			asm.LoadMem(regEnd, regContext, 4, asm.Word),   // xdp_md.data_end
			asm.LoadMem(regFrame, regContext, 0, asm.Word), // xdp_md.data
			asm.Add.Reg(regFrame, regOffset),
		)
	} else {
		b.emit(asm.StoreMem(asm.RFP, stackLength, regLength, asm.DWord).WithSymbol(b.label))
	}
	b.emit(asm.Mov.Imm(b.a, 0), asm.Mov.Imm(b.x, 0))
	// M[] begins as zeros in x/net/bpf; the verifier refuses to read what was not written.
	zeroed := map[int]bool{}
	for _, ins := range code {
		if load, ok := ins.(bpf.LoadScratch); ok && !zeroed[load.N] {
			zeroed[load.N] = true
			b.emit(asm.StoreImm(asm.RFP, scratch(load.N), 0, asm.Word))
		}
	}
}

func scratch(n int) int16 { return int16(stackScratch + 4*n) }

func (b *body) register(r bpf.Register) asm.Register {
	if r == bpf.RegX {
		return b.x
	}
	return b.a
}

func (b *body) instruction(ins bpf.Instruction, i int) error {
	switch ins := ins.(type) {
	case bpf.LoadConstant:
		b.emit(asm.Mov.Imm32(b.register(ins.Dst), int32(ins.Val)))
	case bpf.LoadScratch:
		b.emit(asm.LoadMem(b.register(ins.Dst), asm.RFP, scratch(ins.N), asm.Word))
	case bpf.StoreScratch:
		b.emit(asm.StoreMem(asm.RFP, scratch(ins.N), b.register(ins.Src), asm.Word))
	case bpf.LoadAbsolute:
		b.load(b.a, ins.Off, ins.Size)
	case bpf.LoadIndirect:
		b.loadIndirect(ins.Off, ins.Size)
	case bpf.LoadMemShift:
		b.load(b.x, ins.Off, 1)
		if b.reached {
			b.emit(asm.And.Imm32(b.x, 0x0f), asm.LSh.Imm32(b.x, 2))
		}
	case bpf.LoadExtension:
		if ins.Num != bpf.ExtLen {
			return fmt.Errorf("extension %d is of sockets, not of frames", ins.Num)
		}
		b.emit(b.length(b.a))
	case bpf.ALUOpConstant:
		return b.constant(ins)
	case bpf.ALUOpX:
		return b.arithmetic(ins.Op, i)
	case bpf.Jump:
		b.emit(asm.Ja.Label(b.target(i + 1 + int(ins.Skip))))
		b.reached = false
	case bpf.JumpIf:
		op, swapped, ok := jump(ins.Cond)
		if !ok {
			return fmt.Errorf("condition %d is unknown", ins.Cond)
		}
		b.branch(i, ins.SkipTrue, ins.SkipFalse, swapped, func(label string) asm.Instruction {
			return op.Imm32(b.a, int32(ins.Val), label)
		})
	case bpf.JumpIfX:
		op, swapped, ok := jump(ins.Cond)
		if !ok {
			return fmt.Errorf("condition %d is unknown", ins.Cond)
		}
		b.branch(i, ins.SkipTrue, ins.SkipFalse, swapped, func(label string) asm.Instruction {
			return op.Reg32(b.a, b.x, label)
		})
	case bpf.TAX:
		b.emit(asm.Mov.Reg32(b.x, b.a))
	case bpf.TXA:
		b.emit(asm.Mov.Reg32(b.a, b.x))
	case bpf.RetConstant:
		matched := int32(0)
		if ins.Val != 0 {
			matched = 1
		}
		b.emit(asm.Mov.Imm(asm.R0, matched), asm.Return())
		b.reached = false
	case bpf.RetA:
		b.emit(
			asm.JEq.Imm32(b.a, 0, b.none()),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		)
		b.reached = false
	default:
		return fmt.Errorf("cannot be translated")
	}
	return nil
}

// length puts the frame's length where it is asked for.
func (b *body) length(dst asm.Register) asm.Instruction {
	if b.fast {
		return asm.Mov.Reg(dst, regLength)
	}
	return asm.LoadMem(dst, asm.RFP, stackLength, asm.DWord)
}

// target notes that the present instruction may jump to another, with what is proven here.
func (b *body) target(i int) string {
	if known, ok := b.arriving[i]; !ok || b.proven < known {
		b.arriving[i] = b.proven
	}
	b.targets[i] = true
	return b.at(i)
}

// branch jumps to one of two places; what follows directly needs no jump.
func (b *body) branch(i int, skipTrue, skipFalse uint8, swapped bool, jump func(string) asm.Instruction) {
	yes, no := i+1+int(skipTrue), i+1+int(skipFalse)
	if swapped {
		yes, no = no, yes
	}
	if yes == no {
		b.emit(asm.Ja.Label(b.target(yes)))
		b.reached = false
		return
	}
	b.emit(jump(b.target(yes)))
	if no == i+1 {
		return
	}
	b.emit(asm.Ja.Label(b.target(no)))
	b.reached = false
}

// jump is the condition in eBPF; swapped: it holds where the other does not.
func jump(cond bpf.JumpTest) (op asm.JumpOp, swapped, ok bool) {
	switch cond {
	case bpf.JumpEqual:
		return asm.JEq, false, true
	case bpf.JumpNotEqual:
		return asm.JNE, false, true
	case bpf.JumpGreaterThan:
		return asm.JGT, false, true
	case bpf.JumpLessThan:
		return asm.JLT, false, true
	case bpf.JumpGreaterOrEqual:
		return asm.JGE, false, true
	case bpf.JumpLessOrEqual:
		return asm.JLE, false, true
	case bpf.JumpBitsSet:
		return asm.JSet, false, true
	case bpf.JumpBitsNotSet:
		return asm.JSet, true, true
	}
	return 0, false, false
}
