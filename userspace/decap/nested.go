package decap

import "github.com/unspan/unspan/bpf"

// Nested opens once more what is itself a mirror's packet: a frame that the policy
// marked with RecordNested, because some switch wraps twice. outer is its record.
//
// What is inside belongs to the packet that carried it here: it keeps that one's
// feed, sequence number, gap and times. All else, the VLAN, the direction, the
// policy's answer, is said of what is inside. A third wrapping is a loop, and
// fragments of one are not put together: DropLoop. The verdict is counted with
// those of Datagrams.
func (e *Engine) Nested(outer *bpf.Record, frame []byte) (rec bpf.Record, inner []byte, v bpf.Verdict) {
	link := Ethernet
	if outer.Flags&bpf.RecordRawIP != 0 {
		link = Raw
	}
	p := e.begin(link, frame, len(frame), outer.Time)
	p.counted = true // by the packet that carried it
	p.record.Feed = outer.Feed
	v = e.classify(p)
	if v == bpf.RedirectInner {
		v = e.admit(p, v)
	}
	if v == bpf.RedirectInner {
		inner, v = e.meet(p, v)
	}
	if v == bpf.RedirectFragment || p.record.Flags&bpf.RecordNested != 0 {
		inner, v = nil, bpf.DropLoop
	}
	const carried = bpf.RecordSequence | bpf.RecordNICTime
	p.record.Flags = p.record.Flags&^carried | outer.Flags&carried | bpf.RecordNested
	p.record.Sequence, p.record.Gap = outer.Sequence, outer.Gap
	return p.finish(&e.datagrams, inner, v)
}
