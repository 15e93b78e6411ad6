package filter_test

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/unspan/unspan/userspace/filter"
)

// skip ends a test that this machine cannot run; where nothing may be left out, it fails.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "loading eBPF programs needs root: run sudo go test")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
}

func needTcpdump(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		skip(t, "tcpdump compiles filters and is not installed: apt install tcpdump")
	}
}

func mustCompile(t testing.TB, expression string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(t.Context(), expression)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// spliced is the harness's collection with filters in place.
func spliced(t testing.TB, filters ...*filter.Filter) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := loadHarness()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range spec.Programs {
		if program.Name == harnessProgEntry {
			continue
		}
		if program.Instructions, err = filter.Splice(program.Instructions, "filter", filters); err != nil {
			t.Fatal(err)
		}
	}
	return spec
}

// mustLoad loads the harness with filters. The verifier's whole word is in the
// failure: a filter that it refuses is a bug of the translation.
func mustLoad(t testing.TB, filters ...*filter.Filter) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(spliced(t, filters...).Programs[harnessProgHarness])
	if err != nil {
		var refusal *ebpf.VerifierError
		if errors.As(err, &refusal) {
			t.Fatalf("%+v", refusal)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

const questionSize = 16

// asked is a packet of the harness: the question, then the frame at an offset.
func asked(number, offset int, frame []byte, rawIP bool) []byte {
	packet := make([]byte, offset, offset+len(frame))
	raw := uint32(0)
	if rawIP {
		raw = 1
	}
	for i, v := range [4]uint32{uint32(number), uint32(offset), uint32(len(frame)), raw} {
		binary.NativeEndian.PutUint32(packet[4*i:], v)
	}
	return append(packet, frame...)
}

// matches asks the kernel.
func matches(t testing.TB, program *ebpf.Program, packet []byte) bool {
	t.Helper()
	result, err := program.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		t.Fatal(err)
	}
	if result > 1 {
		t.Fatalf("the program returned %d, want 0 or 1", int32(result))
	}
	return result == 1
}
