// Package policy decides what becomes of an inner frame: keep it, drop it, sample
// it, cut it short.
//
// A policy file is an ordered list of rules, and the first one that fits a frame
// decides:
//
//	Read     YAML, strictly: every error has a line and says what to write instead
//	Compile  the rules as sets, so that the kernel asks "which rules fit this
//	         exporter? this VLAN?" once each and ANDs the answers, however many rules there are
//	Fill     the compiled policy into the XDP program, filters included: bpf/policy.h,
//	         loop.h, duplicate.h
//	Engine   the same decision in Go, rule by rule: the offline path, and the oracle
//	         of the kernel's
//
// A Policy and a Compiled are values that nobody changes after they are made; an
// Engine has counters and belongs to one goroutine.
package policy

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/filter"
)

// Policy is what a policy file says, checked.
type Policy struct {
	// Exporters may send; nil: everyone may.
	Exporters []netip.Prefix
	// DropStrangers drops the packets of other exporters; else the host gets them.
	DropStrangers bool
	// Loops says what to do with an inner frame that is itself on its way to the collector.
	Loops LoopAction
	// Duplicates says which frames count as the same; a window of 0: none do.
	Duplicates Duplicates
	// Rules in the order of the file; the first that fits decides.
	Rules []Rule
	// Default is for the frames that no rule fits.
	Default Action
}

// Rule is a list of conditions, all of which must hold, and what to do then. A
// condition that is nil holds for every frame.
type Rule struct {
	// Name is what the file calls it, else "rule 1" and so on from the top.
	Name string
	// Line of the file where the rule begins, from 1.
	Line int

	Exporters  []netip.Prefix
	Collectors []netip.Prefix
	Encaps     []bpf.Encap
	// Sessions are ERSPAN session ids: other encapsulations have none and do not match.
	Sessions []Range
	// Keys are GRE keys; a sender that sets none does not match.
	Keys []Range
	// VNIs are the network identifiers of VXLAN and Geneve.
	VNIs []Range
	// VLANs of the mirrored frame; 0 is an untagged one, or one with a priority tag.
	VLANs []Range
	// Direction in which the mirrored port saw the frame, where the sender says it.
	Direction Direction
	// Filter looks at the inner frame.
	Filter *filter.Filter

	Action
}

// Range holds the numbers from First to Last, both included.
type Range struct{ First, Last uint32 }

func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Direction in which a mirrored port saw a frame.
type Direction uint32

// AnyDirection is the condition that always holds.
const (
	AnyDirection = Direction(bpf.DecapRuleDirectionDIRECTION_UNKNOWN)
	Ingress      = Direction(bpf.DecapRuleDirectionDIRECTION_INGRESS)
	Egress       = Direction(bpf.DecapRuleDirectionDIRECTION_EGRESS)
)

func (d Direction) String() string {
	switch d {
	case Ingress:
		return "ingress"
	case Egress:
		return "egress"
	}
	return "any"
}

// Action is what becomes of the frames a rule decides.
type Action struct {
	// Drop loses the frame, counted.
	Drop bool
	// OneIn keeps one frame of so many; 1 keeps all.
	OneIn uint32
	// ByFlow samples whole flows, both directions, instead of single packets.
	ByFlow bool
	// Snap is the number of bytes kept of a frame; 0 keeps all.
	Snap uint32
}

func (a Action) String() string {
	if a.Drop {
		return "drop"
	}
	text := "keep"
	if a.OneIn > 1 {
		unit := "packets"
		if a.ByFlow {
			unit = "flows"
		}
		text = fmt.Sprintf("keep 1 in %d %s", a.OneIn, unit)
	}
	if a.Snap > 0 {
		text += fmt.Sprintf(", cut to %d bytes", a.Snap)
	}
	return text
}

// LoopAction is what becomes of a frame that is a mirror's own packet, mirrored again.
type LoopAction uint8

const (
	// LoopDrop drops it, counted.
	LoopDrop = LoopAction(bpf.DecapLoopActionLOOP_DROP)
	// LoopUnwrap opens it once more: switches with a broken egress mirror wrap twice.
	LoopUnwrap = LoopAction(bpf.DecapLoopActionLOOP_UNWRAP)
	// LoopKeep treats it as any other frame.
	LoopKeep = LoopAction(bpf.DecapLoopActionLOOP_KEEP)
)

func (l LoopAction) String() string {
	switch l {
	case LoopUnwrap:
		return "unwrap"
	case LoopKeep:
		return "keep"
	}
	return "drop"
}

// Duplicates says when two frames count as one packet seen by two mirrors.
type Duplicates struct {
	// Window is how much later the second may come; 0: nothing is a duplicate.
	Window time.Duration
	// WithinFeed also drops what one feed delivers twice, as a session does that
	// mirrors both the port a packet enters by and the one it leaves by.
	WithinFeed bool
	// Ignore says what may differ between the two.
	Ignore Ignored
}

// Ignored is a set of the fields that change on a packet's way.
type Ignored uint8

const (
	// IgnoreTTL is TTL and hop limit: a router counts them down.
	IgnoreTTL = Ignored(bpf.DecapIgnoredIGNORE_TTL)
	// IgnoreTOS is TOS and traffic class: a switch re-marks them.
	IgnoreTOS = Ignored(bpf.DecapIgnoredIGNORE_TOS)
	// IgnoreChecksums is those of IPv4, TCP, UDP, ICMPv6: a sender that leaves
	// them to its NIC is mirrored before they are right.
	IgnoreChecksums = Ignored(bpf.DecapIgnoredIGNORE_CHECKSUMS)
	// IgnoreVLAN is every 802.1Q tag.
	IgnoreVLAN = Ignored(bpf.DecapIgnoredIGNORE_VLAN)
	// IgnoreMAC is the Ethernet addresses of an IP packet: a router rewrites them.
	IgnoreMAC = Ignored(bpf.DecapIgnoredIGNORE_MAC)
)

// Admission writes into the settings of a program who may send. The list itself is
// in the policy: Fill puts it into the program.
func (p *Policy) Admission(settings *bpf.Config) {
	settings.ListExporters, settings.DropStrangers = 0, 0
	if p.Exporters != nil {
		settings.ListExporters = 1
	}
	if p.DropStrangers {
		settings.DropStrangers = 1
	}
}

// Default keeps every frame of every exporter and drops loops.
func Default() *Policy {
	return &Policy{
		Duplicates: Duplicates{Ignore: IgnoreTTL | IgnoreChecksums | IgnoreVLAN | IgnoreMAC},
		Default:    Action{OneIn: 1},
	}
}
