package main

import (
	"fmt"
	"maps"
	"slices"
)

// goal is what a figure should be.
type goal struct {
	figure string
	value  float64
	most   bool // the figure should be at most value; else at least
}

var goals = []goal{
	{"pipeline_over_ceiling_64", 0.9, false},
	{"pipeline_over_ceiling_512", 0.9, false},
	{"pipeline_over_ceiling_1400", 0.9, false},
	{"pipeline_over_ceiling_imix", 0.9, false},
	{"mpps_lossless_64", 3, false},
	{"gbit_lossless_1400", 20, false},
	{"disk_over_direct", 0.95, false},
	{"lossless_vs_userspace_64", 2.5, false},
	{"lossless_vs_userspace_imix", 2.5, false},
	{"lossless_vs_userspace_1400", 2, false},
	{"cpu_vs_userspace_64", 0.5, true},
	{"cpu_vs_userspace_imix", 0.5, true},
	{"cpu_vs_userspace_1400", 0.5, true},
	{"lossless_vs_newpacket_64", 4, false},
	{"lossless_vs_newpacket_imix", 4, false},
	{"lossless_vs_newpacket_1400", 4, false},
	{"lossless_vs_rawsocket_64", 8, false},
	{"worker_ns_64", 200, true},
	{"worker_allocs", 0, true},
	{"kernel_drop_over_floor", 0.7, false},
	{"xdp_ns_erspan1", 60, true},
	{"xdp_ns_erspan2", 60, true},
	{"xdp_ns_erspan3", 60, true},
	{"xdp_ns_gre", 60, true},
	{"xdp_ns_drop", 60, true},
}

// judgement is a figure against its goal.
type judgement struct {
	Figure   string  `json:"figure"`
	Measured float64 `json:"measured"`
	Goal     float64 `json:"goal"`
	AtMost   bool    `json:"at_most"` // else at least
	Reached  bool    `json:"reached"`
}

// judge compares what was measured with its goals; what was not, it leaves out.
func judge(figures map[string]float64) (judgements []judgement) {
	for _, g := range goals {
		v, ok := figures[g.figure]
		if !ok {
			continue
		}
		reached := v >= g.value
		if g.most {
			reached = v <= g.value
		}
		judgements = append(judgements, judgement{g.figure, v, g.value, g.most, reached})
	}
	return judgements
}

func (j judgement) goalText() string {
	if j.AtMost {
		return fmt.Sprintf("at most %g", j.Goal)
	}
	return fmt.Sprintf("at least %g", j.Goal)
}

// verdict says by how much a goal is missed.
func (j judgement) verdict() string {
	switch {
	case j.Reached:
		return "reached"
	case j.AtMost && j.Goal == 0:
		return fmt.Sprintf("missed by %.3g", j.Measured)
	case j.AtMost:
		return fmt.Sprintf("missed: %.0f %% over", 100*(j.Measured/j.Goal-1))
	}
	return fmt.Sprintf("missed: %.0f %% short", 100*(1-j.Measured/j.Goal))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
