package policy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
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

// kernel is a policy loaded into the harness.
type kernel struct {
	collection *ebpf.Collection
	program    *ebpf.Program
}

func mustCompile(t testing.TB, p *policy.Policy) *policy.Compiled {
	t.Helper()
	c, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load loads a policy, of a collector that accepts nothing: there are no loops.
func load(t testing.TB, p *policy.Policy) *kernel {
	t.Helper()
	return loadKnown(t, p, digestKey, &bpf.Config{}, nil)
}

// loadKnown loads a policy with a known key of digests, for a known collector.
func loadKnown(t testing.TB, p *policy.Policy, key *policy.DigestKey, config *bpf.Config, collectors []netip.Addr) *kernel {
	t.Helper()
	spec, err := policy.LoadHarness()
	if err != nil {
		t.Fatal(err)
	}
	if err := mustCompile(t, p).Fill(spec); err != nil {
		t.Fatal(err)
	}
	var addresses [][16]byte
	for _, c := range collectors {
		addresses = append(addresses, c.As16())
	}
	if err := policy.Known(spec, key, config, addresses); err != nil {
		t.Fatal(err)
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		var refusal *ebpf.VerifierError
		if errors.As(err, &refusal) {
			t.Fatalf("%+v", refusal)
		}
		t.Fatal(err)
	}
	t.Cleanup(collection.Close)
	return &kernel{collection, collection.Programs[policy.HarnessProgram]}
}

// pin keeps the test on one CPU until it ends: what a rule has met is counted by CPU.
func pin(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A thread that stays pinned stays locked, and ends with its goroutine.
		if err := unix.SchedSetaffinity(0, &all); err == nil {
			runtime.UnlockOSThread()
		}
	})
}

// question is the harness's packet: struct question of harness.bpf.c, then the frame.
func question(t testing.TB, key *bpf.FeedKey, rec *bpf.Record, frame []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, v := range []any{key, rec, frame} {
		if err := binary.Write(&b, binary.NativeEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

const recordAt = 40

// decide asks the kernel, and gives the record as it left it.
func (k *kernel) decide(t testing.TB, key *bpf.FeedKey, rec bpf.Record, frame []byte) (bpf.Verdict, bpf.Record) {
	t.Helper()
	packet := question(t, key, &rec, frame)
	out := make([]byte, len(packet)+256)
	result, err := k.program.Run(&ebpf.RunOptions{Data: packet, DataOut: out})
	if err != nil {
		t.Fatal(err)
	}
	var left bpf.Record
	if err := binary.Read(bytes.NewReader(out[recordAt:]), binary.NativeEndian, &left); err != nil {
		t.Fatal(err)
	}
	return bpf.Verdict(result), left
}

func (k *kernel) states(t testing.TB) []policy.RuleState {
	t.Helper()
	states, err := policy.ReadStates(k.collection.Maps["rule_states"])
	if err != nil {
		t.Fatal(err)
	}
	return states
}
