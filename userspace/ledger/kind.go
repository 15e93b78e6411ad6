package ledger

import (
	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/reassembly"
)

// Kind says what a box means to whoever answers for the capture. Four kinds are
// losses; they have different causes and cures and are never added up.
type Kind uint8

// The kinds of boxes.
const (
	Onward   Kind = iota // handed on to the next line, or safely stored
	NotOurs              // the host's own traffic
	Held                 // waiting, not decided
	Upstream             // lost by the sender or on the path, or unusable as it arrived
	Kernel               // lost on this machine before a worker had it
	Disk                 // lost at the disk
	Intended             // dropped because the configuration says so
	Export               // a flow record that a sink did not take; its packets are not lost
	kinds
)

var kindNames = [kinds]string{
	Onward:   "onward",
	NotOurs:  "not_ours",
	Held:     "held",
	Upstream: "upstream",
	Kernel:   "kernel",
	Disk:     "disk",
	Intended: "intended",
	Export:   "export",
}

// String is the kind's name in JSON and metrics.
func (k Kind) String() string { return kindNames[k] }

// losses are the kinds that mean a packet of a mirror feed was not delivered,
// or, where flow records are exported, such a record.
func (s *Snapshot) losses() []Kind {
	kinds := []Kind{Upstream, Kernel, Disk, Intended}
	if s.Flows != nil && len(s.Flows.Exports) > 0 {
		kinds = append(kinds, Export)
	}
	return kinds
}

// Meaning of a verdict to the reader of the ledger.
type meaning struct {
	kind  Kind
	title string
}

var meanings = [bpf.VerdictCount]meaning{
	bpf.PassNotIP:        {NotOurs, "passed: not IP"},
	bpf.PassBadIP:        {NotOurs, "passed: broken IP header"},
	bpf.PassNotCollector: {NotOurs, "passed: not to the collector"},
	bpf.PassNotTunnel:    {NotOurs, "passed: not a tunnel"},
	bpf.PassFragment:     {NotOurs, "passed: fragment, not of a tunnel"},
	bpf.PassGREVersion:   {NotOurs, "passed: GRE version 1 (PPTP)"},
	bpf.PassGREProtocol:  {NotOurs, "passed: GRE, not a mirror"},
	bpf.PassNotAccepted:  {NotOurs, "passed: encapsulation not accepted"},
	bpf.PassStranger:     {NotOurs, "passed: exporter not listed"},

	// A mirror feed for us, on a receive queue where no worker listens: passing
	// it to the host does not make it less lost.
	bpf.PassNoSocket: {Kernel, "passed: no worker on this queue"},

	// Unusable as it arrived: the cure is at the sender or on the path.
	bpf.DropGRERouting:     {Upstream, "dropped: GRE routing present"},
	bpf.DropGREShort:       {Upstream, "dropped: GRE header cut short"},
	bpf.DropERSPANShort:    {Upstream, "dropped: ERSPAN header cut short"},
	bpf.DropERSPANVersion:  {Upstream, "dropped: ERSPAN version misfits GRE protocol"},
	bpf.DropFrameType:      {Upstream, "dropped: ERSPAN III frame type unknown"},
	bpf.DropUDPShort:       {Upstream, "dropped: UDP tunnel header cut short"},
	bpf.DropVXLANFlags:     {Upstream, "dropped: VXLAN without a valid VNI"},
	bpf.DropGeneveVersion:  {Upstream, "dropped: Geneve version unknown"},
	bpf.DropGeneveProtocol: {Upstream, "dropped: Geneve payload not taken"},
	bpf.DropInnerShort:     {Upstream, "dropped: inner frame cut short"},

	bpf.DropTooBig: {Kernel, "dropped: too big for AF_XDP here"},
	bpf.DropStrip:  {Kernel, "dropped: stripping refused"},

	bpf.DropStranger:  {Intended, "dropped: exporter not listed"},
	bpf.DropPolicy:    {Intended, "dropped: policy"},
	bpf.DropSampled:   {Intended, "dropped: sampled out"},
	bpf.DropLoop:      {Intended, "dropped: mirror of a mirror"},
	bpf.DropDuplicate: {Intended, "dropped: duplicate of another mirror"},

	bpf.RedirectFragment: {Onward, "redirected: outer fragments"},
	bpf.RedirectInner:    {Onward, "redirected: inner frames"},
}

// Why fragments were given up. Where the rest did not come it was lost on the
// way here, or is in a loss box of an earlier line.
var givenUp = [reassembly.ReasonCount]meaning{
	reassembly.Malformed:    {Upstream, "fragments given up: malformed"},
	reassembly.Misaligned:   {Upstream, "fragments given up: length not a multiple of 8"},
	reassembly.TooBig:       {Upstream, "fragments given up: datagram too big"},
	reassembly.Overlap:      {Upstream, "fragments given up: overlap"},
	reassembly.Inconsistent: {Upstream, "fragments given up: two ends"},
	reassembly.Timeout:      {Upstream, "fragments given up: the rest never came"},
	reassembly.Reused:       {Upstream, "fragments given up: IP id used again"},

	// The first copy went on; nothing is lost with the second.
	reassembly.Duplicate: {Onward, "fragments that came twice"},

	reassembly.EvictedMemory:    {Intended, "fragments given up: memory limit"},
	reassembly.EvictedDatagrams: {Intended, "fragments given up: datagram limit"},
}
