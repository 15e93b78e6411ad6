package filter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/bpf"
)

const (
	maxExpression   = 4096            // bytes
	maxInstructions = 4096            // BPF_MAXINSNS, linux/bpf_common.h
	compileTime     = 5 * time.Second // a name in an expression may ask a name server
	dltEthernet     = "EN10MB"
	dltRawIP        = "RAW"
)

// Compile translates an expression in the language of pcap-filter(7). It runs
// tcpdump, which opens no device for this and needs no privileges.
func Compile(ctx context.Context, expression string) (*Filter, error) {
	switch {
	case strings.TrimSpace(expression) == "":
		return nil, errors.New("the expression is empty: leave the key out to match everything")
	case len(expression) > maxExpression:
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxExpression)
	case strings.ContainsRune(expression, 0):
		return nil, errors.New("the expression contains a zero byte")
	}
	f := &Filter{Expression: expression}
	raw, err := classic(ctx, dltEthernet, expression)
	if err == nil {
		f.ethernet, err = newProgram(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", expression, err)
	}
	var refused *refusal
	raw, err = classic(ctx, dltRawIP, expression)
	if err == nil {
		f.rawIP, err = newProgram(raw)
	}
	if err != nil && !errors.As(err, &refused) { // refused: about Ethernet, ARP, VLANs, which no bare IP packet has
		return nil, fmt.Errorf("%q: %w", expression, err)
	}
	if err := f.measure(); err != nil {
		return nil, err
	}
	return f, nil
}

// refusal is libpcap's own word about an expression.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// classic asks libpcap for the program of an expression.
func classic(ctx context.Context, linkType, expression string) ([]bpf.RawInstruction, error) {
	path, err := exec.LookPath("tcpdump")
	if err != nil {
		return nil, errors.New("tcpdump is not installed, and its libpcap compiles filters: apt install tcpdump")
	}
	ctx, cancel := context.WithTimeout(ctx, compileTime)
	defer cancel()
	// Behind -- nothing is an option, whatever an expression begins with.
	cmd := exec.CommandContext(ctx, path, "-ddd", "-y", linkType, "--", expression)
	cmd.Env = []string{"LC_ALL=C"}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("tcpdump gave no answer within %v: use addresses instead of names", compileTime)
	case errors.As(err, &exit) && exit.ExitCode() == 1 && complaint.Len() > 0: // tcpdump's own error(), not a signal nor the loader
		return nil, &refusal{reason(complaint.String())}
	case err != nil:
		return nil, fmt.Errorf("running %s: %w: %s", path, err, strings.TrimSpace(complaint.String()))
	}
	program, err := parse(string(out))
	if err != nil {
		return nil, fmt.Errorf("reading the program of %s: %w", path, err)
	}
	return program, nil
}

// reason is the last line of what tcpdump wrote, without its name: earlier ones are warnings.
func reason(complaint string) string {
	lines := strings.Split(strings.TrimSpace(complaint), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")
}

// parse reads what tcpdump -ddd prints: the number of instructions, then one in
// each line as four decimal numbers.
func parse(text string) ([]bpf.RawInstruction, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	count, err := strconv.Atoi(lines[0])
	if err != nil || count != len(lines)-1 || count == 0 || count > maxInstructions {
		return nil, fmt.Errorf("%q does not count the %d lines that follow", lines[0], len(lines)-1)
	}
	program := make([]bpf.RawInstruction, 0, count)
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			return nil, fmt.Errorf("%q is not an instruction", line)
		}
		var numbers [4]uint64
		for i, bits := range [4]int{16, 8, 8, 32} {
			if numbers[i], err = strconv.ParseUint(fields[i], 10, bits); err != nil {
				return nil, fmt.Errorf("%q is not an instruction: %w", line, err)
			}
		}
		program = append(program, bpf.RawInstruction{
			Op: uint16(numbers[0]), Jt: uint8(numbers[1]), Jf: uint8(numbers[2]), K: uint32(numbers[3]),
		})
	}
	return program, nil
}
