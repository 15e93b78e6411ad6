package main

import (
	"fmt"
	"slices"
)

// sample is what one thing measured in several rounds.
type sample []float64

// median is the middle value, or the mean of the two in the middle; 0 of none.
func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// over divides round by round: what two things measured one right after the
// other have in common, such as a busy neighbour, goes out of the quotient.
// Rounds that lack either are left out.
func (s sample) over(base sample) sample {
	var quotients sample
	for i := range min(len(s), len(base)) {
		if base[i] > 0 {
			quotients = append(quotients, s[i]/base[i])
		}
	}
	return quotients
}

// spread is lowest to highest, in the format of one value.
func (s sample) spread(format string) string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" to "+format, slices.Min(s), slices.Max(s))
}
