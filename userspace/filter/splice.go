package filter

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// maxFunction is the length of a filter's function: a jump reaches 32,767 instructions.
const maxFunction = 32000

// functions assembles what stands in place of the stub: itself, now a dispatcher,
// and a function for each filter.
//
//	int filter(struct xdp_md *ctx, __u32 number, __u32 offset, __u32 length, __u32 raw_ip)
//	int filter_3(struct xdp_md *ctx, __u32 offset, __u32 length, __u32 raw_ip)
//
// They are global functions: the verifier takes each by itself, so that ten filters
// cost it ten times one, and not what the program around them costs times ten.
func functions(stub *btf.Func, filters []*Filter) (asm.Instructions, error) {
	proto, ok := stub.Type.(*btf.FuncProto)
	if !ok || len(proto.Params) != 5 {
		return nil, fmt.Errorf("function %s does not have the parameters of a filter", stub.Name)
	}
	params := append([]btf.FuncParam{proto.Params[0]}, proto.Params[2:]...)

	out := dispatcher(stub, len(filters))
	for i, f := range filters {
		code, err := f.function(nameOf(stub, i))
		if err != nil {
			return nil, fmt.Errorf("translating filter %q: %w", f.Expression, err)
		}
		code[0] = named(code[0], &btf.Func{
			Name:    nameOf(stub, i),
			Type:    &btf.FuncProto{Return: proto.Return, Params: params},
			Linkage: btf.GlobalFunc,
		}, f.Expression)
		out = append(out, code...)
	}
	return out, nil
}

func nameOf(stub *btf.Func, i int) string { return fmt.Sprintf("%s_%d", stub.Name, i) }

// named makes an instruction the first of a function. The verifier asks for a
// source line at each, and shows it where something is wrong.
func named(ins asm.Instruction, fn *btf.Func, source string) asm.Instruction {
	ins = btf.WithFuncMetadata(ins.WithSymbol(fn.Name), fn)
	return ins.WithSource(asm.Comment(strings.ToValidUTF8(source, "?")))
}

// function is one filter: the argument registers into the places where bodies
// expect them, then the body for the kind of frame.
func (f *Filter) function(name string) (asm.Instructions, error) {
	ethernet, err := f.ethernet.translate(name + ".ethernet")
	if err != nil {
		return nil, err
	}
	rawIP, err := f.rawIP.translate(name + ".raw")
	if err != nil {
		return nil, err
	}
	out := asm.Instructions{
		asm.Mov.Reg(regContext, asm.R1),
		asm.Mov.Reg32(regOffset, asm.R2),
		asm.Mov.Reg32(regLength, asm.R3),
		asm.JEq.Imm32(asm.R4, 0, name+".ethernet"),
		asm.Ja.Label(name + ".raw"),
	}
	out = append(append(out, ethernet...), rawIP...)
	if len(out) > maxFunction {
		return nil, fmt.Errorf("it takes %d instructions, the limit is %d: shorten it", len(out), maxFunction)
	}
	return out, nil
}

// dispatcher calls the filter of a number, found by halves.
func dispatcher(stub *btf.Func, count int) asm.Instructions {
	out := asm.Instructions{asm.Mov.Reg32(asm.R2, asm.R2)}
	out = append(out, choose(stub, 0, count, "")...)
	out[0] = named(out[0], stub, stub.Name)
	return out
}

func choose(stub *btf.Func, first, count int, label string) asm.Instructions {
	var out asm.Instructions
	if count == 1 {
		out = asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.R3),
			asm.Mov.Reg(asm.R3, asm.R4),
			asm.Mov.Reg(asm.R4, asm.R5),
			asm.Call.Label(nameOf(stub, first)),
			asm.Return(),
		}
	} else {
		middle := first + count/2
		upper := fmt.Sprintf("%s.from%d", stub.Name, middle)
		out = append(out, asm.JGE.Imm(asm.R2, int32(middle), upper))
		out = append(out, choose(stub, first, count/2, "")...)
		out = append(out, choose(stub, middle, count-count/2, upper)...)
	}
	if label != "" {
		out[0] = out[0].WithSymbol(label)
	}
	return out
}

// Splice puts filters in place of the function stub of a program, in its order:
// number i of the stub's second argument is filters[i]. Without filters the
// program stays as it is. insns is not changed.
func Splice(insns asm.Instructions, stub string, filters []*Filter) (asm.Instructions, error) {
	if len(filters) == 0 {
		return insns, nil
	}
	begin := -1
	for i := range insns {
		if insns[i].Symbol() == stub {
			begin = i
		}
	}
	if begin < 0 {
		return nil, fmt.Errorf("splicing filters: the program has no function %s", stub)
	}
	end := begin + 1
	for end < len(insns) && btf.FuncMetadata(&insns[end]) == nil {
		end++
	}
	fn := btf.FuncMetadata(&insns[begin])
	if fn == nil {
		return nil, fmt.Errorf("splicing filters: function %s has no type information", stub)
	}
	code, err := functions(fn, filters)
	if err != nil {
		return nil, fmt.Errorf("splicing filters: %w", err)
	}
	out := append(asm.Instructions{}, insns[:begin]...)
	out = append(out, code...)
	return append(out, insns[end:]...), nil
}
