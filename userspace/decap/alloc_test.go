package decap_test

import (
	"slices"
	"testing"

	"github.com/unspan/unspan/userspace/feed"
)

// TestNoAllocation: a packet costs none once its feed is known, whatever it is.
func TestNoAllocation(t *testing.T) {
	s := everything()
	rspan(&s)
	exporters(true, "192.0.2.0/24", "2001:db8::/32")(&s)
	e := s.engineWith(feed.NewTable(feed.Max))
	for _, frame := range rowFrames() {
		frame = slices.Clone(frame)
		decapsulate := func() { e.Decap(frame, now) }
		decapsulate() // its feed is new
		if n := testing.AllocsPerRun(1, decapsulate); n != 0 {
			t.Errorf("%v allocations for frame % x", n, frame)
		}
	}
}
