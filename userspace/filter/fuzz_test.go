package filter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"

	"github.com/unspan/unspan/userspace/filter"
)

// tape hands out the bytes of a fuzz input, and zeros behind its end.
type tape struct{ bytes []byte }

func (t *tape) next() int {
	if len(t.bytes) == 0 {
		return 0
	}
	b := t.bytes[0]
	t.bytes = t.bytes[1:]
	return int(b)
}

// number is small most of the time, and every width some of the time.
func (t *tape) number() uint32 {
	switch kind := t.next(); {
	case kind < 160:
		return uint32(t.next() % 64)
	case kind < 200:
		return uint32(t.next())
	case kind < 230:
		return uint32(t.next())<<8 | uint32(t.next())
	default:
		return uint32(t.next())<<24 | uint32(t.next())<<16 | uint32(t.next())<<8 | uint32(t.next())
	}
}

var (
	loadSizes = [...]int{1, 2, 4}
	aluOps    = [...]bpf.ALUOp{
		bpf.ALUOpAdd, bpf.ALUOpSub, bpf.ALUOpMul, bpf.ALUOpDiv, bpf.ALUOpOr, bpf.ALUOpAnd,
		bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight, bpf.ALUOpMod, bpf.ALUOpXor,
	}
	conditions = [...]bpf.JumpTest{
		bpf.JumpEqual, bpf.JumpNotEqual, bpf.JumpGreaterThan, bpf.JumpLessThan,
		bpf.JumpGreaterOrEqual, bpf.JumpLessOrEqual, bpf.JumpBitsSet, bpf.JumpBitsNotSet,
	}
)

// instruction is the i-th of count; every jump lands inside.
func (t *tape) instruction(i, count int) bpf.Instruction {
	skip := func() uint8 { return uint8(t.next() % (count - i - 1)) }
	register := func() bpf.Register { return [...]bpf.Register{bpf.RegA, bpf.RegX}[t.next()%2] }
	switch t.next() % 16 {
	case 0:
		return bpf.LoadConstant{Dst: register(), Val: t.number()}
	case 1:
		return bpf.LoadScratch{Dst: register(), N: t.next() % 16}
	case 2:
		return bpf.StoreScratch{Src: register(), N: t.next() % 16}
	case 3, 4, 5:
		return bpf.LoadAbsolute{Off: t.number(), Size: loadSizes[t.next()%3]}
	case 6, 7:
		return bpf.LoadIndirect{Off: t.number(), Size: loadSizes[t.next()%3]}
	case 8:
		return bpf.LoadMemShift{Off: t.number()}
	case 9:
		return bpf.LoadExtension{Num: bpf.ExtLen}
	case 10:
		op, val := aluOps[t.next()%len(aluOps)], t.number()
		if op == bpf.ALUOpDiv || op == bpf.ALUOpMod {
			val = max(val, 1)
		}
		return bpf.ALUOpConstant{Op: op, Val: val}
	case 11:
		return bpf.ALUOpX{Op: aluOps[t.next()%len(aluOps)]}
	case 12:
		return bpf.JumpIf{Cond: conditions[t.next()%8], Val: t.number(), SkipTrue: skip(), SkipFalse: skip()}
	case 13:
		return bpf.JumpIfX{Cond: conditions[t.next()%8], SkipTrue: skip(), SkipFalse: skip()}
	case 14:
		if t.next()%4 == 0 {
			return bpf.Jump{Skip: uint32(skip())}
		}
		return bpf.TAX{}
	default:
		switch t.next() % 6 {
		case 0:
			return bpf.RetA{}
		case 1:
			return bpf.RetConstant{Val: t.number() % 2}
		}
		return bpf.TXA{}
	}
}

// filter is a valid program made of the tape, for both kinds of frame.
func (t *tape) filter(tb testing.TB, name string) *filter.Filter {
	tb.Helper()
	count := 2 + t.next()%48
	code := make([]bpf.Instruction, count)
	for i := range count - 1 {
		code[i] = t.instruction(i, count)
	}
	code[count-1] = bpf.RetA{}
	raw, err := bpf.Assemble(code)
	if err != nil {
		tb.Fatal(err)
	}
	// Assembled and back, some conditions become others with their places swapped.
	f, err := filter.FromPrograms(name, raw, raw)
	if err != nil {
		tb.Fatalf("%v\n%v", err, code)
	}
	return f
}

// compare asks both engines about a frame.
func compare(t testing.TB, program *ebpf.Program, number int, f *filter.Filter, frame []byte) {
	t.Helper()
	for _, rawIP := range []bool{false, true} {
		want := f.Match(frame, rawIP)
		if got := matches(t, program, asked(number, questionSize+number%16, frame, rawIP)); got != want {
			t.Errorf("%s: the kernel says %v, x/net/bpf %v, of % x", f.Expression, got, want, frame)
		}
	}
}

// FuzzTranslate holds a random program in the kernel against x/net/bpf on a random frame.
func FuzzTranslate(f *testing.F) {
	f.Add([]byte{4, 3, 0, 12, 1, 12, 0, 0, 8, 0, 1}, []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x08\x00\x45\x00"))
	f.Add([]byte{20, 0, 1, 0, 9, 6, 0, 3, 1, 11, 6, 10, 6, 0, 33, 13, 0, 1, 2}, []byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte{3, 9, 11, 3}, []byte{})
	f.Fuzz(func(t *testing.T, code, frame []byte) {
		needRoot(t)
		if len(frame) > 2000 {
			frame = frame[:2000]
		}
		program := &tape{code}
		one := program.filter(t, "fuzzed")
		compare(t, mustLoad(t, one), 0, one, frame)
	})
}

// budget is the number of rounds of a test that could go on for ever.
func budget(t testing.TB, rounds int) int {
	t.Helper()
	text := os.Getenv("UNSPAN_FUZZ_ROUNDS")
	if text == "" {
		return rounds
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("UNSPAN_FUZZ_ROUNDS is %q, want a number of rounds", text)
	}
	return n
}

// A fixed budget of what FuzzTranslate does, many programs to a load.
func TestRandomProgramsAgree(t *testing.T) {
	needRoot(t)
	const programs, frames = 24, 24
	rounds := budget(t, 24)
	matched := 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(4, uint64(round)))
		var filters []*filter.Filter
		for i := range programs {
			code := make([]byte, 400)
			for j := range code {
				code[j] = byte(random.Uint32())
			}
			filters = append(filters, (&tape{code}).filter(t, fmt.Sprintf("round %d, program %d", round, i)))
		}
		program := mustLoad(t, filters...)
		for range frames {
			frame := make([]byte, random.IntN(300))
			for j := range frame {
				frame[j] = byte(random.Uint32() & random.Uint32()) // bytes of few bits: small numbers
			}
			for i, f := range filters {
				compare(t, program, i, f, frame)
				if f.Match(frame, false) {
					matched++
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	total := rounds * programs * frames
	if matched < total/20 || matched > total*19/20 {
		t.Errorf("%d of %d programs match: too one-sided to show anything", matched, total)
	}
	t.Logf("%d programs, %d comparisons, %d match, no disagreement", rounds*programs, 2*total, matched)
}

// all is the program that matches every frame.
var all = []bpf.RawInstruction{{Op: 6, K: 1}}

func TestRefusals(t *testing.T) {
	needTcpdump(t)
	for _, row := range []struct{ name, expression, want string }{
		{"empty", " ", "the expression is empty: leave the key out to match everything"},
		{"syntax", "tcp prot 80", `"tcp prot 80": can't parse filter expression: syntax error`},
		{"contradiction", "tcp and udp", `"tcp and udp": expression rejects all packets`},
		{"option", "-w /tmp/x", `"-w /tmp/x": can't parse filter expression: syntax error`},
		{"of a socket", "inbound", `"inbound": it asks the capturing socket (inbound, outbound, ifname and their like do): ` +
			"a mirrored frame has none, see the keys direction and exporter of a rule"},
		{"loop", "ip6 protochain 6", `"ip6 protochain 6": it loops (protochain does): a filter in the kernel may not`},
		{"negation", "ip[-ip[0]] = 3", `"ip[-ip[0]] = 3": a value is negated: write 0 - x instead of -x`},
		{"zero byte", "ip\x00", "the expression contains a zero byte"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, err := filter.Compile(t.Context(), row.expression)
			if err == nil {
				t.Fatalf("compiled to %v, want an error", f)
			}
			if err.Error() != row.want {
				t.Errorf("error %q\nwant  %q", err, row.want)
			}
		})
	}
}

func TestWithoutTcpdump(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := filter.Compile(t.Context(), "ip")
	const want = `"ip": tcpdump is not installed, and its libpcap compiles filters: apt install tcpdump`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %q", err, want)
	}
}

// The answers of the stub's place, for a program that has none.
func TestSpliceRefusesWhatIsNoStub(t *testing.T) {
	spec, err := loadHarness()
	if err != nil {
		t.Fatal(err)
	}
	one, err := filter.FromPrograms("all", all, nil)
	if err != nil {
		t.Fatal(err)
	}
	insns := spec.Programs[harnessProgHarness].Instructions
	if _, err := filter.Splice(insns, "filters", []*filter.Filter{one}); err == nil {
		t.Error("a program without the function was taken")
	}
	if _, err := filter.Splice(insns, harnessProgHarness, []*filter.Filter{one}); err == nil {
		t.Error("a function with other parameters was taken")
	}
	same, err := filter.Splice(insns, "filter", nil)
	if err != nil || len(same) != len(insns) {
		t.Errorf("without filters the program changed: %d instructions of %d, %v", len(same), len(insns), err)
	}
}
