package policy

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/unspan/unspan/bpf"
)

// Engine applies a policy in Go: rule after rule, where the kernel has sets. It says
// the same of every frame: bpf/policy.h, held together by a test. It has counters
// and a memory, and is for one goroutine; States and Pairs are for any.
type Engine struct {
	policy     *Policy
	config     *bpf.Config
	collectors []netip.Addr
	states     []ruleBooks // one for each rule, the default last
	sightings  *Sightings
}

// ruleBooks is what a rule has met, as one goroutine counts and others read it.
type ruleBooks struct {
	packets, bytes, kept atomic.Uint64
	position, chosen     uint32 // of a rule that samples by packet
}

// add counts without the price of an atomic addition: there is one writer.
func add(to *atomic.Uint64, n uint64) { to.Store(to.Load() + n) }

// NewEngine makes an engine that has seen nothing yet, for a collector with these
// settings and addresses.
func NewEngine(p *Policy, config *bpf.Config, collectors []netip.Addr) *Engine {
	e := &Engine{policy: p, config: config, collectors: collectors, states: make([]ruleBooks, len(p.Rules)+1)}
	if p.Duplicates.Window > 0 {
		e.sightings = NewSightings(p.Duplicates, NewDigestKey())
	}
	return e
}

// Policy is what the engine applies.
func (e *Engine) Policy() *Policy { return e.policy }

// States is what each rule has met, in the order of the file, the default last.
func (e *Engine) States() []RuleState {
	states := make([]RuleState, len(e.states))
	for i := range e.states {
		s := &e.states[i]
		states[i] = RuleState{Packets: s.packets.Load(), Bytes: s.bytes.Load(), Kept: s.kept.Load()}
	}
	return states
}

// Pairs says how many frames of each pair of feeds were duplicates; nil when the
// policy does not look for them.
func (e *Engine) Pairs() map[Pair]uint64 {
	if e.sightings == nil {
		return nil
	}
	return e.sightings.Pairs()
}

// Apply says what becomes of an inner frame: VerdictNone, it goes on, perhaps
// shortened; or the verdict that drops it. rec says time, feed, flow hash, length and
// flags; it is told the rule met, the weight, and the length that is left of the
// frame. A loop that shall be unwrapped goes on as it is, with RecordNested: the
// rules meet what is in it.
func (e *Engine) Apply(key *bpf.FeedKey, rec *bpf.Record, frame []byte) bpf.Verdict {
	rawIP := rec.Flags&bpf.RecordRawIP != 0
	if e.policy.Loops != LoopKeep && IsLoop(e.config, e.collectors, key, rawIP, frame) {
		if e.policy.Loops == LoopDrop {
			return bpf.DropLoop
		}
		rec.Flags |= bpf.RecordNested
		return bpf.VerdictNone
	}
	v := e.Decide(key, rec, frame)
	if v == bpf.VerdictNone && e.sightings != nil && e.sightings.Again(rec.Feed, rec.Time, frame, rawIP) {
		return bpf.DropDuplicate
	}
	return v
}

// Decide is Apply without loops and duplicates: what the rules say.
func (e *Engine) Decide(key *bpf.FeedKey, rec *bpf.Record, frame []byte) bpf.Verdict {
	if len(e.policy.Rules) == 0 && e.policy.Default == (Action{OneIn: 1}) {
		return bpf.VerdictNone
	}
	index := e.meet(key, rec, frame)
	action, number := e.policy.Default, bpf.NoRule
	if index < len(e.policy.Rules) {
		action, number = e.policy.Rules[index].Action, uint16(index)
	}
	rec.Rule = number
	state := &e.states[index]
	kept := !action.Drop && (action.OneIn <= 1 || sampled(action, state, uint32(index), rec.FlowHash))
	add(&state.packets, 1)
	add(&state.bytes, uint64(rec.Length))
	switch {
	case action.Drop:
		return bpf.DropPolicy
	case !kept:
		return bpf.DropSampled
	}
	add(&state.kept, 1)
	rec.Weight = max(action.OneIn, 1)
	if action.Snap != 0 && action.Snap < rec.Length {
		rec.Length = action.Snap
		rec.Flags |= bpf.RecordCut
	}
	return bpf.VerdictNone
}

// meet is the index of the first rule that fits, that of the default when none does.
func (e *Engine) meet(key *bpf.FeedKey, rec *bpf.Record, frame []byte) int {
	seen := seenFrame{
		key:       key,
		exporter:  netip.AddrFrom16(key.Exporter).Unmap(),
		collector: netip.AddrFrom16(key.Collector).Unmap(),
		vlan:      frameVLAN(rec, frame),
		direction: frameDirection(rec),
	}
	seen.hasSession, seen.hasKey, seen.hasVNI = carries(key)
	rawIP := rec.Flags&bpf.RecordRawIP != 0
	for i := range e.policy.Rules {
		rule := &e.policy.Rules[i]
		if rule.fits(&seen) && (rule.Filter == nil || rule.Filter.Match(frame, rawIP)) {
			return i
		}
	}
	return len(e.policy.Rules)
}

// seenFrame is what a rule may look at, its filter aside.
type seenFrame struct {
	key                        *bpf.FeedKey
	exporter, collector        netip.Addr
	hasSession, hasKey, hasVNI bool
	vlan                       uint32
	direction                  Direction
}

func (rule *Rule) fits(f *seenFrame) bool {
	return contain(rule.Exporters, f.exporter) &&
		contain(rule.Collectors, f.collector) &&
		(rule.Encaps == nil || slices.Contains(rule.Encaps, bpf.Encap(f.key.Encap))) &&
		(rule.Sessions == nil || f.hasSession && holds(rule.Sessions, uint32(f.key.Session))) &&
		(rule.Keys == nil || f.hasKey && holds(rule.Keys, f.key.Key)) &&
		(rule.VNIs == nil || f.hasVNI && holds(rule.VNIs, f.key.Key)) &&
		(rule.VLANs == nil || holds(rule.VLANs, f.vlan)) &&
		(rule.Direction == AnyDirection || rule.Direction == f.direction)
}

func contain(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(address) {
			return true
		}
	}
	return prefixes == nil
}

const vlanMask = 0xfff

// frameVLAN is the VLAN of the mirrored frame: its outermost tag, else what the
// mirror's header says of it, else 0.
func frameVLAN(rec *bpf.Record, frame []byte) uint32 {
	if rec.Flags&bpf.RecordRawIP == 0 && len(frame) >= 16 {
		switch binary.BigEndian.Uint16(frame[12:]) {
		case 0x8100, 0x88a8, 0x9100:
			return uint32(binary.BigEndian.Uint16(frame[14:]) & vlanMask)
		}
	}
	if rec.Flags&bpf.RecordVLAN != 0 {
		return uint32(rec.Tci & vlanMask)
	}
	return 0
}

func frameDirection(rec *bpf.Record) Direction {
	switch {
	case rec.Flags&bpf.RecordDirection == 0:
		return AnyDirection
	case rec.Flags&bpf.RecordEgress != 0:
		return Egress
	}
	return Ingress
}

const sampleFlows = 0x5bd1e995

// sampled says whether a sampling rule keeps a frame. By packet, it is one of each
// block of OneIn, its place in the block drawn anew each time; by flow, it is what
// a hash says that both directions share.
func sampled(a Action, state *ruleBooks, index, flowHash uint32) bool {
	if a.ByFlow {
		return scale(mix(flowHash^sampleFlows), a.OneIn) == 0
	}
	if state.position == 0 {
		state.chosen = scale(mix(uint32(state.packets.Load())^mix(index)), a.OneIn)
	}
	kept := state.position == state.chosen
	state.position++
	if state.position >= a.OneIn {
		state.position = 0
	}
	return kept
}

// mix is the finalizer of MurmurHash3, public domain.
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// scale is a number below n, from 32 mixed bits.
func scale(mixed, n uint32) uint32 { return uint32(uint64(mixed) * uint64(n) >> 32) }
