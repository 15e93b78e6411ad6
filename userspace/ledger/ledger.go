// Package ledger accounts for every packet.
//
// What happens to a packet is counted in several places by several owners: the
// XDP program, the AF_XDP socket, the worker, the file writer. The ledger puts
// their counters side by side as lines, each a sum:
//
//	wire        expected by sequence  = in order + reordered + strays + lost
//	XDP         frames seen           = passed, by reason + dropped, by reason + redirected
//	AF_XDP      redirected            = received + receive ring full + fill ring empty + other
//	worker      received              = inner frames + fragments, by fate + malformed records
//	reassembly  datagrams completed   = by verdict, like the XDP line
//	output      inner frames kept     = written + lost to backlog + refused + not wanted
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
	"github.com/unspan/unspan/userspace/feed"
)

// Snapshot holds the counters of one run at one moment.
//
// A pipeline at work moves packets while it is being read. Fill a live snapshot
// from the output backwards to XDP, and Fragments.Joined and GivenUp before
// Held: then what is on its way shows as a positive balance, and a negative one
// still means that something was counted twice. After the last packet was
// drained, set Final: then every line must add up to the packet.
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
	Sockets []Socket // of a live run
	Workers []Worker
	Output  Output
}

// Feed is one mirror stream and what is known of it.
type Feed struct {
	Key   bpf.FeedKey
	State bpf.FeedState
}

// Name is the feed's name everywhere: 192.0.2.7/erspan2/1000.
func (f *Feed) Name() string { return feed.Name(&f.Key) }

// Expected is how many packets the sender sent by its own numbering, from the
// first one seen to the newest. Zero for a feed without sequence numbers.
func (f *Feed) Expected() uint64 {
	s := &f.State.Sequence
	return s.Received - s.Duplicates + s.Lost
}

// Sequenced reports whether the feed numbers its packets. If not, no receiver
// can tell what was lost on the way.
func (f *Feed) Sequenced() bool {
	return f.State.Sequence.Flags&bpf.SequenceSeen != 0
}

// Socket is one AF_XDP socket: what its worker took from the receive ring, and
// the kernel's XDP_STATISTICS.
type Socket struct {
	Queue    uint32 // receive queue of the interface
	Worker   int    // index of the worker that owns the socket
	ZeroCopy bool

	Received uint64 // frames taken from the receive ring
	RingFull uint64 // rx_ring_full: the worker was too slow
	Dropped  uint64 // rx_dropped: too long for a chunk; in copy mode also no chunk to copy to

	// FillEmpty is rx_fill_ring_empty_descs. It belongs to the buffer pool of
	// the queue: sockets that share a queue all report the same number. In copy
	// mode it counts frames, all of them in rx_dropped of some socket too
	// (xsk_rcv → xsk_buff_alloc). In zero-copy mode it counts attempts of the
	// driver to refill its ring, and no frame was lost here.
	FillEmpty uint64
}

// Worker holds the counters of one worker.
type Worker struct {
	Inner     uint64 // frames that arrived as record and inner frame
	Malformed uint64 // frames whose record makes no sense
	Fragments Fragments

	// Datagrams completed by reassembly, and what the decapsulation said of them.
	Datagrams uint64
	Verdicts  [bpf.VerdictCount]bpf.Tally
}

// Fragments holds the fate of the outer IP fragments a worker received.
type Fragments struct {
	Held    uint64 // waiting for the rest of their datagram
	Joined  uint64 // became part of a completed datagram
	GivenUp []Reason
}

// Reason is one named cause with its count. Name is stable, lower case with
// underscores: it becomes a JSON key and a label value.
type Reason struct {
	Name    string
	Kind    Kind
	Packets uint64
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
