// Package ledger accounts for every packet.
//
// What happens to a packet is counted in several places by several owners: the
// XDP program, the AF_XDP socket, the worker, the file writer. The ledger puts
// their counters side by side as lines, each a sum:
//
//	wire        expected by sequence  = in order + reordered + strays + lost
//	XDP         frames seen           = passed, by reason + dropped, by reason + redirected
//	AF_XDP      redirected            = received + receive ring full + fill ring empty + too long
//	worker      received              = inner frames + fragments, by fate + wrapped twice + malformed records
//	reassembly  datagrams completed and frames wrapped twice = by verdict, like the XDP line
//	output      inner frames kept     = written + lost to backlog + refused + not wanted
//	flows       inner frames looked at = in flows + in none, by reason
//	export      flow records made     = taken by the sink + waiting + dropped
//
// The left side of a line is what the stage before handed on, counted there;
// the right side is counted by the stage itself. A packet that goes missing
// between two stages, or is counted twice, shows as a line that does not add up.
//
// A [Snapshot] is a value: whoever runs the pipeline fills it, this package
// computes, prints and judges, and nothing here refers back to live counters.
package ledger

import (
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/xsk"
)

// Snapshot holds the counters of one run at one moment.
//
// A pipeline at work moves packets while it is being read. Fill a live snapshot
// from the output backwards to XDP: then what is on its way shows as a positive
// balance, and a negative one still means that something was counted twice.
// After the last packet was drained, set Final: then every line must add up to
// the packet.
type Snapshot struct {
	Subject string        // what was captured, for the heading: "eth1, native"
	Start   time.Time     // beginning of the run
	Elapsed time.Duration // from Start to the reading
	Live    bool          // packets came over AF_XDP; else from a file
	Final   bool          // everything was drained before the reading

	// Frames that reached the decapsulation, counted apart from the verdicts:
	// the packets read from a file. FramesCounted is false when nobody counts
	// them apart, and the XDP line then adds up by construction.
	Frames        uint64
	FramesCounted bool

	XDP     [bpf.VerdictCount]bpf.Tally // by verdict; offline those of the Go twin
	Feeds   []Feed
	Ended   Ended   // feeds that are no longer among them
	Queues  []Queue // of a live run
	Workers []Worker
	Output  Output
	Flows   *Flows // nil: no flows are rebuilt

	Rules    []Rule    // of the policy in force, the default last; none: it has no rules
	Overlaps []Overlap // feeds that deliver the same packets
}

// Rule is one rule of the policy, and what it has met.
type Rule struct {
	Name    string `json:"name"`
	Action  string `json:"action"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Kept    uint64 `json:"kept"`
}

// Overlap is a pair of feeds: packets that came through First were dropped as
// duplicates when they came through Second.
type Overlap struct {
	First   string `json:"first"`
	Second  string `json:"second"`
	Packets uint64 `json:"packets"`
}

// Queue is one receive queue of the interface and the AF_XDP sockets on it.
type Queue struct {
	Index int
	xsk.Stats
}

// Worker holds the counters of one worker.
type Worker struct {
	Inner      uint64           // frames that arrived as record and inner frame
	Malformed  uint64           // frames whose record makes no sense
	Nested     uint64           // frames that a policy has opened once more: wrapped twice
	Reassembly reassembly.Stats // of the outer fragments

	// What the decapsulation said of the datagrams that reassembly completed, and
	// of the nested frames.
	Verdicts [bpf.VerdictCount]bpf.Tally
}

// Output holds the fate of the inner frames that the workers kept.
type Output struct {
	Written      uint64
	WrittenBytes uint64 // of the inner frames, as captured
	Backlog      uint64 // lost: the disk was too slow
	Refused      uint64 // lost: the disk was full or failed
	Surplus      uint64 // received after the asked-for number was reached
	Unasked      uint64 // no output file was asked for
}
