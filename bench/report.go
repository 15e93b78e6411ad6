package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run found. What was not measured is not in it.
type report struct {
	Date    time.Time          `json:"date"`
	Command string             `json:"command"`
	Machine machine            `json:"machine"`
	Mode    string             `json:"mode"`
	Figures map[string]float64 `json:"figures"`
	Goals   []judgement        `json:"goals"`
	Absent  map[string]string  `json:"absent"` // what was asked for and not measured, and why
	Tables  []table            `json:"tables"`

	charts []chart
}

// table is figures for people.
type table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Note    string     `json:"note,omitempty"`
}

func (t *table) row(cells ...string) { t.Rows = append(t.Rows, cells) }

func newReport(command string) *report {
	return &report{
		Date: time.Now().UTC().Truncate(time.Second), Command: command, Machine: thisMachine(),
		Mode:    "veth, XDP native, AF_XDP copy mode, ERSPAN II feed from BPF_PROG_TEST_RUN live frames",
		Figures: map[string]float64{}, Absent: map[string]string{},
	}
}

func (r *report) draw(c chart)                     { r.charts = append(r.charts, c) }
func (r *report) add(t table)                      { r.Tables = append(r.Tables, t) }
func (r *report) figure(name string, v float64)    { r.Figures[name] = v }
func (r *report) absent(name string, cause string) { r.Absent[name] = cause }

// text prints a table for a terminal.
func (t *table) text(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n\n", t.Title)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, strings.Join(t.Columns, "\t")+"\t")
	for _, row := range t.Rows {
		fmt.Fprintln(tw, strings.Join(row, "\t")+"\t")
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if t.Note != "" {
		fmt.Fprintf(w, "\n  %s\n", t.Note)
	}
	return nil
}

func (t *table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n| %s |\n|%s\n", t.Title, strings.Join(t.Columns, " | "), strings.Repeat(" ---: |", len(t.Columns)))
	for _, row := range t.Rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	if t.Note != "" {
		fmt.Fprintf(b, "\n%s\n", t.Note)
	}
}

// conclusions are the figures against their goals, and what is absent.
func (r *report) conclusions() []table {
	r.Goals = judge(r.Figures)
	goals := table{Title: "Goals", Columns: []string{"figure", "measured", "goal", "verdict"}}
	for _, j := range r.Goals {
		goals.row(j.Figure, fmt.Sprintf("%.4g", j.Measured), j.goalText(), j.verdict())
	}
	tables := []table{goals}
	if len(r.Absent) > 0 {
		absent := table{Title: "Not measured", Columns: []string{"what", "why"}}
		for _, name := range sortedKeys(r.Absent) {
			absent.row(name, r.Absent[name])
		}
		tables = append(tables, absent)
	}
	return tables
}

// write puts results.json and RESULTS.md into a directory.
func (r *report) write(dir string) error {
	conclusions := r.conclusions()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Results

What one run measured, on one machine. [docs/performance.md](../docs/performance.md) says what to make of it.

| | |
|---|---|
| date | %s |
| command | %s |
| machine | %d x %s, %s |
| kernel | %s |
| Go | %s |
| load before the run | %s |
| mode | %s |
`, r.Date.Format(time.RFC3339), "`"+r.Command+"`", r.Machine.CPUs, r.Machine.CPU, r.Machine.Memory, r.Machine.Kernel, r.Machine.Go, r.Machine.Load, r.Mode)
	for _, t := range append(conclusions, r.Tables...) {
		t.markdown(&b)
	}
	for _, c := range r.charts {
		fmt.Fprintf(&b, "\n![%s](%s.svg)\n", c.Title, c.Name)
		if err := os.WriteFile(filepath.Join(dir, c.Name+".svg"), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), []byte(b.String()), 0o644)
}
