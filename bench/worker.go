package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// workerPackage has the Go benchmark of the worker: record, flow, pcapng buffer.
const (
	workerPackage   = "github.com/unspan/unspan/userspace/collector"
	workerBenchmark = "BenchmarkWorker/64$"
)

// workerCost runs that benchmark.
func (b *bench) workerCost(ctx context.Context) error {
	cause := ""
	text, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+workerBenchmark, "-benchmem",
		"-count", strconv.Itoa(b.plan.rounds), workerPackage).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ns, allocs := readBenchmark(string(text))
	switch {
	case err != nil:
		cause = fmt.Sprintf("go test %s: %v", workerPackage, err)
	case len(ns) == 0:
		cause = workerPackage + " has no " + workerBenchmark
	}
	if cause != "" {
		b.report.absent("worker_ns_64, worker_allocs", cause)
		return nil
	}
	t := table{Title: "The worker per frame", Columns: []string{"inner frames", "ns", "spread", "allocations"},
		Note: "Go benchmark of " + workerPackage + ": from record and frame to the buffer of the capture file."}
	t.row("64 bytes", fmt.Sprintf("%.0f", ns.median()), ns.spread("%.0f"), fmt.Sprint(allocs.median()))
	b.report.add(t)
	b.report.figure("worker_ns_64", ns.median())
	b.report.figure("worker_allocs", allocs.median())
	return nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark\S+\s+\d+\s+([0-9.]+) ns/op.*?(\d+) allocs/op`)

// readBenchmark takes the times and allocations out of what go test prints.
func readBenchmark(text string) (ns, allocs sample) {
	for _, m := range benchmarkLine.FindAllStringSubmatch(text, -1) {
		t, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			continue
		}
		a, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			continue
		}
		ns, allocs = append(ns, t), append(allocs, a)
	}
	return ns, allocs
}
