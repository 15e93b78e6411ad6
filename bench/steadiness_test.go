package main

import (
	"runtime"
	"testing"
)

func TestSteadiness(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Fatal("two CPUs are needed, as for the harness")
	}
	var s steadiness
	for range 3 {
		if err := s.probe(); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.apart) != 3 || len(s.pace) != 3 {
		t.Fatalf("%d and %d figures of 3 probes", len(s.apart), len(s.pace))
	}
	for i := range s.apart {
		// Faster than one access to the first cache, or one addition a picosecond, is no measurement.
		if s.apart[i] < 1 || s.pace[i] < additions/1000 {
			t.Errorf("probe %d: %v ns there and back, %v ns of additions", i, s.apart[i], s.pace[i])
		}
	}
	if rows := s.table().Rows; len(rows) != 2 {
		t.Errorf("%d rows, want 2", len(rows))
	}
	if rows := new(steadiness).table().Rows; len(rows) != 0 {
		t.Errorf("%d rows of no probe, want none", len(rows))
	}
}
