package main

import (
	"errors"
	"testing"
)

func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name      string
		low, high float64
		limit     float64
	}{
		{"in the middle", 0, 100, 37},
		{"nothing passes", 0, 100, -1},
		{"everything passes", 0, 100, 1000},
		{"narrow", 80, 125, 99},
	} {
		const precision = 0.01
		got, err := search(c.low, c.high, precision, func(rate float64) (bool, error) {
			if rate <= c.low || rate >= c.high {
				t.Errorf("%s: tried %v, outside of %v to %v", c.name, rate, c.low, c.high)
			}
			return rate <= c.limit, nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want := min(max(c.limit, 0), c.high)
		if got > want || want-got > precision*c.high {
			t.Errorf("%s: %v, want %v or a hundredth less", c.name, got, want)
		}
	}
}

// One failure is forgiven, two at the same rate are not.
func TestSearchSecondChance(t *testing.T) {
	tries := map[float64]int{}
	got, err := search(0, 64, 0.1, func(rate float64) (bool, error) {
		tries[rate]++
		return rate <= 32 && tries[rate] == 2, nil
	})
	if err != nil || got != 32 {
		t.Errorf("%v, %v, want 32", got, err)
	}
	for rate, n := range tries {
		if n != 2 {
			t.Errorf("rate %v was tried %d times, want 2", rate, n)
		}
	}
}

func TestSearchError(t *testing.T) {
	broken := errors.New("broken")
	tries := 0
	_, err := search(0, 64, 0.1, func(float64) (bool, error) { tries++; return false, broken })
	if !errors.Is(err, broken) || tries != 1 {
		t.Errorf("%v after %d tries, want the error after one", err, tries)
	}
}
