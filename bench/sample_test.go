package main

import (
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name string
		in   sample
		want float64
	}{
		{"none", nil, 0},
		{"one", sample{3}, 3},
		{"odd", sample{9, 1, 5}, 5},
		{"even", sample{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(c.in)
		if got := c.in.median(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if !slices.Equal(c.in, before) {
			t.Errorf("%s: the order of the rounds was changed to %v", c.name, c.in)
		}
	}
}

func TestOver(t *testing.T) {
	for _, c := range []struct {
		name       string
		of, base   sample
		want       sample
		wantSpread string
	}{
		{"round by round", sample{2, 9}, sample{4, 3}, sample{0.5, 3}, "0.5 to 3.0"},
		{"a round of nothing", sample{2, 9}, sample{0, 3}, sample{3}, "3.0 to 3.0"},
		{"a round too few", sample{2}, sample{4, 3}, sample{0.5}, "0.5 to 0.5"},
		{"no base", sample{2}, nil, nil, "-"},
	} {
		got := c.of.over(c.base)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if s := got.spread("%.1f"); s != c.wantSpread {
			t.Errorf("%s: spread %q, want %q", c.name, s, c.wantSpread)
		}
	}
}
