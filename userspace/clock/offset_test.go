package clock

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The offset brings a monotonic time between two readings of the wall clock.
func TestOffsetIsUTC(t *testing.T) {
	o, err := NewOffset()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Refresh(); err != nil {
		t.Fatal(err)
	}
	var ts unix.Timespec
	before := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	got := time.Unix(0, ts.Nano()+o.ns.Load())
	// Half the bracket of the reading is what the offset may be off by.
	slack := time.Duration(o.width)
	if got.Before(before.Add(-slack)) || got.After(after.Add(slack)) {
		t.Errorf("%v, want between %v and %v", got, before, after)
	}
}

func TestRefresh(t *testing.T) {
	type reading struct{ offset, width int64 }
	const far = 1_000_000
	for _, tt := range []struct {
		name     string
		readings [][]reading // of each refresh, again and again
		want     int64
	}{
		{"the tightest of several", [][]reading{{{50, 400}, {10, 20}, {70, 300}}}, 10},
		{"a difference within the brackets is none", [][]reading{{{100, 20}}, {{130, 20}}}, 100},
		{"a step forward", [][]reading{{{100, 20}}, {{far, 20}}}, far},
		{"a step back", [][]reading{{{far, 20}}, {{-far, 30}}}, -far},
		{"an interrupted reading steps nothing", [][]reading{{{100, 20}}, {{far, 2 * far}}}, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refresh, n := 0, 0
			o, err := newOffset(func() (int64, int64, error) {
				r := tt.readings[refresh][n%len(tt.readings[refresh])]
				n++
				return r.offset, r.width, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for refresh = 1; refresh < len(tt.readings); refresh++ {
				if err := o.Refresh(); err != nil {
					t.Fatal(err)
				}
			}
			if got := o.ns.Load(); got != tt.want {
				t.Errorf("offset %d, want %d", got, tt.want)
			}
		})
	}
}

func TestRefreshFails(t *testing.T) {
	o, err := NewOffset()
	if err != nil {
		t.Fatal(err)
	}
	before := o.ns.Load()
	cause := errors.New("no clock")
	o.read = func() (int64, int64, error) { return 0, 0, cause }
	if err := o.Refresh(); !errors.Is(err, cause) || !strings.Contains(err.Error(), "reading the clocks") {
		t.Errorf("error %v", err)
	}
	if o.ns.Load() != before {
		t.Error("the offset changed")
	}
	if _, err := newOffset(o.read); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
}
