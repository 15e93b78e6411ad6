// Package scripts holds the tests of the scripts beside it.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A go that lists one target and whose fuzzing ends as the test says: what the
// real one prints at its deadline cannot be had on demand.
const goStub = `#!/bin/sh
case "$*" in
*-list*) printf 'FuzzX\nok  \tpackage\t0.01s\n' ;;
*) cat "$FUZZ_OUTPUT"; exit "$FUZZ_EXIT" ;;
esac
`

// TestFuzzEnds tells the failures of scripts/fuzz from Go's own untimely end.
func TestFuzzEnds(t *testing.T) {
	const start = "fuzz: elapsed: 0s, gathering baseline coverage: 0/104 completed\n" +
		"fuzz: elapsed: 0s, gathering baseline coverage: 104/104 completed, now fuzzing with 2 workers\n" +
		"fuzz: elapsed: 3s, execs: 40304 (13431/sec), new interesting: 104 (total: 108)\n"
	const failed = "--- FAIL: FuzzX (5.20s)\n"
	const deadline = "    context deadline exceeded\n"
	const end = "FAIL\nexit status 1\nFAIL\tpackage\t5.202s\n"
	tests := []struct {
		name   string
		output string
		exit   string
		want   bool
	}{
		{"found nothing", start + "PASS\nok  \tpackage\t5.202s\n", "0", true},
		{"its time was over", start + failed + deadline + end, "1", true},
		{"an input fails", start + failed + "    --- FAIL: FuzzX (0.00s)\n        x_test.go:7: got 1, want 2\n    \n    Failing input written to testdata/fuzz/FuzzX/7f\n    To re-run:\n    go test -run=FuzzX/7f\n" + end, "1", false},
		{"its time was over while an input that fails was made smaller", start + "fuzz: minimizing 33-byte failing input file\n" + failed + deadline + end, "1", false},
		{"its time was over, minimizing is all it says", start + "fuzz: elapsed: 6s, minimizing\n" + failed + deadline + end, "1", false},
		{"a deadline of the target's own", start + failed + "    --- FAIL: FuzzX (0.00s)\n        x_test.go:7: context deadline exceeded\n" + end, "1", false},
		{"a seed fails", "failure while testing seed corpus entry: FuzzX/seed#0\n" + start + failed + deadline + end, "1", false},
		{"the process hung", start + failed + "    fuzzing process hung or terminated unexpectedly: exit status 2\n" + deadline + end, "1", false},
		{"a panic outside the fuzzing", "panic: nil map\n" + end, "1", false},
		{"another target's name", start + "--- FAIL: FuzzXY (5.20s)\n" + deadline + end, "1", false},
		{"does not build", "FAIL\tpackage [build failed]\nFAIL\n", "1", false},
		{"nothing said", "", "1", false},
	}
	stub := t.TempDir()
	if err := os.WriteFile(filepath.Join(stub, "go"), []byte(goStub), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			output := filepath.Join(t.TempDir(), "output")
			if err := os.WriteFile(output, []byte(test.output), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("bash", "./fuzz", "5s", "package")
			cmd.Env = append(os.Environ(), "PATH="+stub+":"+os.Getenv("PATH"), "FUZZ_OUTPUT="+output, "FUZZ_EXIT="+test.exit)
			said, err := cmd.CombinedOutput()
			if got := err == nil; got != test.want {
				t.Errorf("passed %v, want %v: %v", got, test.want, err)
			}
			if !strings.Contains(string(said), test.output) {
				t.Errorf("it does not show what go test said: %q", said)
			}
		})
	}
}
