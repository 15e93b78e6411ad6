package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// load reads size bytes at a place that the program names.
func (b *body) load(dst asm.Register, offset uint32, size int) {
	end := uint64(offset) + uint64(size)
	if end > maxFrame {
		b.emit(asm.Ja.Label(b.none()))
		b.reached = false
		return
	}
	if int(end) > b.proven {
		if b.fast {
			b.emit(asm.JLT.Imm(regLength, int32(end), b.none()))
		} else {
			b.emit(
				asm.LoadMem(asm.R4, asm.RFP, stackLength, asm.DWord),
				asm.JLT.Imm(asm.R4, int32(end), b.none()),
			)
		}
	}
	if !b.fast {
		b.proven = max(b.proven, int(end))
		b.emit(asm.Mov.Reg(asm.R2, regOffset), asm.Add.Imm(asm.R2, int32(offset)))
		b.loadSlow(dst, size)
		return
	}
	if end > maxDirect {
		b.emit(asm.Ja.Label(b.slow()))
		b.reached = false
		return
	}
	if int(end) > b.proven {
		b.proven = int(end)
		b.emit(
			asm.Mov.Reg(asm.R4, regFrame),
			asm.Add.Imm(asm.R4, int32(end)),
			asm.JGT.Reg(asm.R4, regEnd, b.slow()),
		)
	}
	base := regFrame
	if offset > maxLoad {
		base = asm.R4
		b.emit(asm.Mov.Reg(asm.R4, regFrame), asm.Add.Imm(asm.R4, int32(offset)))
		offset = 0
	}
	b.emit(asm.LoadMem(dst, base, int16(offset), width(size)))
	b.hostOrder(dst, size)
}

// loadIndirect reads size bytes at X + offset into A. The sum does not wrap: that
// is outside of every frame.
func (b *body) loadIndirect(offset uint32, size int) {
	if uint64(offset)+uint64(size) > maxFrame {
		b.emit(asm.Ja.Label(b.none()))
		b.reached = false
		return
	}
	b.emit(
		asm.Mov.Reg(asm.R4, b.x),
		asm.Add.Imm(asm.R4, int32(offset)),
		asm.Mov.Reg(asm.R5, asm.R4),
		asm.Add.Imm(asm.R5, int32(size)),
	)
	if !b.fast {
		b.emit(
			b.length(asm.R3),
			asm.JGT.Reg(asm.R5, asm.R3, b.none()),
			asm.Mov.Reg(asm.R2, regOffset),
			asm.Add.Reg(asm.R2, asm.R4),
		)
		b.loadSlow(b.a, size)
		return
	}
	b.emit(
		asm.JGT.Reg(asm.R5, regLength, b.none()),
		asm.JGT.Imm(asm.R4, maxDirect, b.slow()),
		// Changes nothing. On a way that no frame can take, older verifiers (6.1) hold
		// bounds that contradict each other, and lose the pointer; this mends them.
		asm.And.Imm(asm.R4, maxFrame),
		asm.Add.Reg(asm.R4, regFrame),
		asm.Mov.Reg(asm.R5, asm.R4),
		asm.Add.Imm(asm.R5, int32(size)),
		asm.JGT.Reg(asm.R5, regEnd, b.slow()),
		asm.LoadMem(b.a, asm.R4, 0, width(size)),
	)
	b.hostOrder(b.a, size)
}

// loadSlow reads size bytes at the place of the buffer that R2 says.
func (b *body) loadSlow(dst asm.Register, size int) {
	b.emit(
		asm.Mov.Reg(asm.R1, regContext),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackLoaded),
		asm.Mov.Imm(asm.R4, int32(size)),
		asm.FnXdpLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, b.none()), // the record says more than the frame has
		asm.LoadMem(dst, asm.RFP, stackLoaded, width(size)),
	)
	b.hostOrder(dst, size)
}

func (b *body) hostOrder(dst asm.Register, size int) {
	if size > 1 {
		b.emit(asm.HostTo(asm.BE, dst, width(size)))
	}
}

func width(size int) asm.Size {
	switch size {
	case 1:
		return asm.Byte
	case 2:
		return asm.Half
	}
	return asm.Word
}

var operations = map[bpf.ALUOp]asm.ALUOp{
	bpf.ALUOpAdd:        asm.Add,
	bpf.ALUOpSub:        asm.Sub,
	bpf.ALUOpMul:        asm.Mul,
	bpf.ALUOpDiv:        asm.Div,
	bpf.ALUOpOr:         asm.Or,
	bpf.ALUOpAnd:        asm.And,
	bpf.ALUOpShiftLeft:  asm.LSh,
	bpf.ALUOpShiftRight: asm.RSh,
	bpf.ALUOpMod:        asm.Mod,
	bpf.ALUOpXor:        asm.Xor,
}

func isShift(op bpf.ALUOp) bool { return op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight }

// constant computes A op value. NewVM has refused to divide by 0.
func (b *body) constant(ins bpf.ALUOpConstant) error {
	op, ok := operations[ins.Op]
	switch {
	case !ok:
		return fmt.Errorf("operation %#x is unknown", uint16(ins.Op))
	case isShift(ins.Op) && ins.Val > 31:
		b.emit(asm.Mov.Imm(b.a, 0))
	default:
		b.emit(op.Imm32(b.a, int32(ins.Val)))
	}
	return nil
}

// arithmetic computes A op X. A division by 0 ends the program, a shift by more
// than there are bits leaves none.
func (b *body) arithmetic(operation bpf.ALUOp, i int) error {
	op, ok := operations[operation]
	if !ok {
		return fmt.Errorf("operation %#x is unknown", uint16(operation))
	}
	switch {
	case operation == bpf.ALUOpDiv || operation == bpf.ALUOpMod:
		b.emit(asm.JEq.Imm32(b.x, 0, b.none()), op.Reg32(b.a, b.x))
	case isShift(operation):
		done := b.at(i) + ".shifted"
		b.emit(
			asm.Mov.Reg32(asm.R4, b.a),
			asm.Mov.Imm(b.a, 0),
			asm.JGT.Imm32(b.x, 31, done),
			op.Reg32(asm.R4, b.x),
			asm.Mov.Reg32(b.a, asm.R4),
			asm.Mov.Reg(b.x, b.x).WithSymbol(done),
		)
	default:
		b.emit(op.Reg32(b.a, b.x))
	}
	return nil
}
