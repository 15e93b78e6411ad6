package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	got := judge(map[string]float64{
		"pipeline_over_ceiling_64": 0.95,
		"mpps_lossless_64":         2.4,
		"worker_ns_64":             250,
		"worker_allocs":            0,
		"no goal is of this":       1,
	})
	want := map[string]string{
		"pipeline_over_ceiling_64": "reached",
		"mpps_lossless_64":         "missed: 20 % short",
		"worker_ns_64":             "missed: 25 % over",
		"worker_allocs":            "reached",
	}
	verdicts := map[string]string{}
	for _, j := range got {
		verdicts[j.Figure] = j.verdict()
		if j.Reached != (j.verdict() == "reached") {
			t.Errorf("%s: reached is %v and the verdict %q", j.Figure, j.Reached, j.verdict())
		}
	}
	if !maps.Equal(verdicts, want) {
		t.Errorf("verdicts %v, want %v", verdicts, want)
	}
}

func TestWrite(t *testing.T) {
	r := newReport("unspan-bench -write")
	r.figure("worker_ns_64", 150.5)
	r.absent("Suricata", "suricata is not installed")
	one := table{Title: "Some", Columns: []string{"a", "b"}, Note: "So it was."}
	one.row("1", "2")
	r.add(one)
	picture := chart{Name: "rates", Title: "Rates", Unit: "Mpps"}
	picture.add("64 bytes", "one", 1)
	r.draw(picture)
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(back.Figures, r.Figures) || !maps.Equal(back.Absent, r.Absent) || len(back.Goals) != 1 || !back.Goals[0].Reached ||
		back.Machine != r.Machine || back.Command != r.Command || len(back.Tables) != 1 {
		t.Errorf("results.json says %+v, the report %+v", back, r)
	}
	if drawn, err := os.ReadFile(filepath.Join(dir, "rates.svg")); err != nil || string(drawn) != picture.svg() {
		t.Errorf("the chart is not what was drawn: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		r.Machine.CPU, r.Machine.Kernel, "`unspan-bench -write`", r.Mode,
		"| worker_ns_64 | 150.5 | at most 200 | reached |",
		"| Suricata | suricata is not installed |",
		"| a | b |\n| ---: | ---: |\n| 1 | 2 |\n\nSo it was.\n", "![Rates](rates.svg)",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("RESULTS.md lacks %q", want)
		}
	}
}

func TestReadBenchmark(t *testing.T) {
	const text = `goos: linux
BenchmarkWorker/64-2   	 8000000	       151.5 ns/op	 422.50 MB/s	       0 B/op	       0 allocs/op
BenchmarkWorker/64-2   	 8000000	       149 ns/op	       8 B/op	       1 allocs/op
PASS
`
	ns, allocs := readBenchmark(text)
	if !slices.Equal(ns, sample{151.5, 149}) || !slices.Equal(allocs, sample{0, 1}) {
		t.Errorf("ns %v, allocations %v", ns, allocs)
	}
	if ns, allocs = readBenchmark("PASS\nok  	some	0.1s [no tests to run]\n"); len(ns)+len(allocs) > 0 {
		t.Errorf("read %v, %v out of nothing", ns, allocs)
	}
}

func TestChoose(t *testing.T) {
	if got, err := choose("kernel,ceilings"); err != nil || !slices.Equal(got, []string{"kernel", "ceilings"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := choose(""); err != nil || !slices.Equal(got, partNames()) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := choose("kernel,moon"); err == nil || !strings.Contains(err.Error(), "moon") {
		t.Errorf("no complaint of a part that is none: %v", err)
	}
	for _, name := range briefParts {
		if !slices.Contains(partNames(), name) {
			t.Errorf("the brief run has a part %q that is none", name)
		}
	}
}
