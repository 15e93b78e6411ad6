package metrics

import (
	"strings"

	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
)

// flows exports what the flow tables counted, and what became of their records.
func (s *scrape) flows(f *ledger.Flows) {
	if f == nil {
		return
	}
	c := &f.Counters
	s.put(flowFrames, c[flow.Tracked], flow.Tracked.String())
	for _, reason := range []flow.Counter{flow.ShortEthernet, flow.ShortShim, flow.DeepShims, flow.ShortIP, flow.BadIP, flow.NotIP, flow.OuterFragment} {
		s.put(flowFrames, c[reason], reason.String())
	}
	s.put(flowLive, c.Live())
	s.put(flowBegun, c[flow.Created])
	for _, reason := range []flow.Counter{flow.EndedIdle, flow.EndedClosed, flow.EndedReused, flow.EndedEvicted, flow.EndedForced} {
		s.put(flowEnded, c[reason], strings.TrimPrefix(reason.String(), "ended_"))
	}
	s.put(flowRecords, c[flow.Emitted])
	for i := range f.Exports {
		e := &f.Exports[i]
		s.put(exportRecords, e.Written, e.Name, "written")
		s.put(exportRecords, e.Dropped, e.Name, "dropped")
		s.put(exportRecords, c[flow.RecordsLost], e.Name, "ring_full")
		s.put(exportWaiting, e.Waiting, e.Name)
		s.put(exportErrors, e.Errors, e.Name)
	}
}
