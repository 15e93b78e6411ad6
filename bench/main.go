// Command unspan-bench measures how fast this is, next to what the kernel can
// give at most and to what people use today, in one run on one machine.
//
//	             CPU 0                       │            CPU 1
//	generator ─► veth ─► NAPI, XDP ──────────┼──► receiver: a loop that drops, the
//	live frames, paced or as fast as it goes │    whole way, a peer
//
// Generator and cable are the same for all receivers, which take turns. Each is
// a process of its own, bound to CPU 1; what the kernel does for it happens on
// the CPU of the generator, as it does on the CPU of a NIC's queue. Figures are
// medians of several rounds.
//
// It needs root, makes namespaces of its own and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// plan is how much is measured.
type plan struct {
	loads        []load
	rounds       int
	warm, window time.Duration
	repeat       int // of a BPF test run

	// Of the search for the rate without loss.
	lossless       []load
	searches       int
	precision      float64
	trial, confirm time.Duration

	offlinePackets, offlineRounds int
	diskBytes, diskRounds         int
	growthRounds, leverRounds     int
}

func full() plan {
	return plan{
		loads:  []load{load64, load512, load1400, loadIMIX},
		rounds: 5, warm: 400 * time.Millisecond, window: 600 * time.Millisecond,
		repeat:         500_000,
		lossless:       []load{load64, load1400, loadIMIX},
		offlinePackets: 1_000_000, offlineRounds: 3, diskBytes: 2 << 30, diskRounds: 3, growthRounds: 3, leverRounds: 2,
		searches: 3, precision: 0.04, trial: 400 * time.Millisecond, confirm: 1200 * time.Millisecond,
	}
}

func quick() plan {
	p := full()
	p.loads, p.rounds, p.window = []load{load64, load1400}, 3, 300*time.Millisecond
	p.lossless, p.searches, p.precision, p.confirm = p.loads, 1, 0.06, 800*time.Millisecond
	p.offlinePackets, p.offlineRounds, p.diskBytes, p.diskRounds = 100_000, 1, 512<<20, 1
	p.repeat = 200_000
	return p
}

// bench is a run of the harness.
type bench struct {
	plan          plan
	rig           *rig
	report        *report
	diskDirectory string

	only    []string // receivers, by the beginning of their names; empty: all
	frames  int      // buffers of the whole way; 0: its default
	profile string   // file for a profile of the whole way; empty: none
}

// briefParts are those of a brief run.
var briefParts = []string{"ceilings", "lossless", "kernel", "drops", "worker", "offline"}

// briefReceivers leaves out the slowest peer and the programs that take a second
// to end.
var briefReceivers = []string{bareLoop, readingLoop, pipeline, parserPeer, newPacketPeer, dropFloor}

// parts are what can be measured, in the order in which it is.
var parts = []struct {
	name    string
	measure func(*bench, context.Context) error
}{
	{"ceilings", (*bench).ceilings},
	{"lossless", (*bench).lossless},
	{"kernel", (*bench).kernelCost},
	{"drops", (*bench).drops},
	{"worker", (*bench).workerCost},
	{"offline", (*bench).offline},
	{"disk", (*bench).disk},
	{"growth", (*bench).growth},
	{"levers", (*bench).leverage},
}

// wanted leaves the receivers that were asked for.
func (b *bench) wanted(tasks []task) []task {
	return slices.DeleteFunc(tasks, func(t task) bool {
		return len(b.only) > 0 && !slices.ContainsFunc(b.only, func(name string) bool { return strings.HasPrefix(t.Receiver, name) })
	})
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "unspan-bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) (err error) {
	f := flag.NewFlagSet("unspan-bench", flag.ContinueOnError)
	f.SetOutput(complaints)
	brief := f.Bool("quick", false, "measure the main ratios only, in under two minutes")
	only := f.String("only", "", "measure only these `parts`, of "+strings.Join(partNames(), ","))
	write := f.Bool("write", false, "write results.json, RESULTS.md and the plots into the directory of -out")
	diskDir := f.String("disk", ".", "`directory` on the disk to measure")
	dir := f.String("out", "bench", "`directory` for what is written")
	receivers := f.String("receivers", "", "only these `receivers`, by the beginning of their names")
	rounds := f.Int("rounds", 0, "`number` of rounds, instead of the plan's")
	loads := f.String("loads", "", "offer only these `loads`, of 64,512,1400,imix")
	frames := f.Int("frames", 0, "`number` of buffers of the whole way, instead of its default")
	warm := f.Duration("warm", 0, "`time` before every measurement, instead of the plan's")
	profile := f.String("profile", "", "write a CPU profile of the whole way, of its last run, to this `file`")
	decap := f.String("decap", "", "decapsulate `files`; the bench starts itself so")
	work := f.String("receive", "", "be the receiver of this `task`; the bench starts itself so")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *decap != "" {
		return decapsulate(ctx, *decap)
	}
	if *work != "" {
		return receive(*work, in, out)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("argument %q: there are only flags", f.Arg(0))
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and XDP need root: run with sudo")
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	b := &bench{plan: full(), report: newReport(strings.Join(append([]string{"unspan-bench"}, args...), " "))}
	if *brief {
		b.plan = quick()
		if *only == "" {
			chosen = briefParts
		}
		b.only = briefReceivers
	}
	if *rounds > 0 {
		b.plan.rounds, b.plan.searches, b.plan.growthRounds, b.plan.leverRounds = *rounds, *rounds, *rounds, *rounds
	}
	if *loads != "" {
		if b.plan.loads, err = chooseLoads(*loads); err != nil {
			return err
		}
		b.plan.lossless = b.plan.loads
	}
	b.profile, b.frames, b.diskDirectory = *profile, *frames, *diskDir
	if *warm > 0 {
		b.plan.warm = *warm
	}
	if *receivers != "" {
		b.only = strings.Split(*receivers, ",")
	}
	if err := b.measure(ctx, chosen, out); err != nil {
		return err
	}
	for _, t := range b.report.conclusions() {
		if err := t.text(out); err != nil {
			return err
		}
	}
	if *write {
		return b.report.write(*dir)
	}
	return nil
}

// choose reads a list of parts; all when it is empty.
func choose(list string) ([]string, error) {
	if list == "" {
		return partNames(), nil
	}
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(partNames(), name) {
			return nil, fmt.Errorf("part %q: must be of %s", name, strings.Join(partNames(), ", "))
		}
	}
	return chosen, nil
}

// measure goes through the parts and prints each one's tables as they are done.
func (b *bench) measure(ctx context.Context, chosen []string, out io.Writer) (err error) {
	directory, remove, err := scratch()
	if err != nil {
		return err
	}
	defer remove()
	if b.rig, err = openRig(directory); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rig.close()) }()
	fmt.Fprintln(out, b.report.Machine)
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		printed := len(b.report.Tables)
		start := time.Now()
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("measuring %s: %w", p.name, err)
		}
		for _, t := range b.report.Tables[printed:] {
			if err := t.text(out); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "\n  %s took %v\n", p.name, time.Since(start).Round(100*time.Millisecond))
	}
	if meanwhile := b.rig.steady.table(); len(meanwhile.Rows) > 0 {
		b.report.add(meanwhile)
		return meanwhile.text(out)
	}
	return nil
}
