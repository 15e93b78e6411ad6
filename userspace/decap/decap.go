// Package decap takes the wrapping off mirror feeds: GRE, ERSPAN, VXLAN and
// Geneve, in Go. It is the kernel half (bpf/decap.bpf.c) once more: the same
// stages, the same verdicts, the same record, to the bit. Capture files and
// reassembled datagrams go through it, and it is the oracle of the kernel half:
// agree_test.go gives both the same frames and demands the same answer.
//
//	frame      [ Ethernet | IP | GRE | ERSPAN | inner frame ]
//	classify   whose packet, which tunnel       not ours: PASS, untouched
//	admit      exporter, feed                   not wanted: DROP
//	meet       policy                [ inner frame ]  beside a record
//	finish     one verdict, counted
//
// What of the kernel's outcomes cannot happen here: there is always somebody
// who listens (PassNoSocket), frames lie in one piece (DropTooBig), and room for
// a record is never missing (DropStrip).
//
// An Engine belongs to one goroutine. The inner frame it returns is a part of the
// frame it was given: nothing is copied, nothing is allocated per packet.
package decap

import (
	"net/netip"
	"slices"

	"github.com/unspan/unspan/bpf"
)

// Feeds keeps the books of the mirror streams.
type Feeds interface {
	// Find finds or makes the feed of key, and returns its id; 0: there is no
	// room for it. key is the caller's again when it returns.
	Find(key *bpf.FeedKey) uint32
	// Observe counts the packet of rec in feed rec.Feed, and sets rec.Gap. v is
	// what becomes of the packet. rec is the caller's again when it returns.
	Observe(rec *bpf.Record, v bpf.Verdict)
}

// Decide says what becomes of an inner frame: VerdictNone, it goes on, perhaps
// with a smaller rec.Length; or the verdict that drops it. key, rec and frame are
// the caller's again when it returns.
type Decide func(key *bpf.FeedKey, rec *bpf.Record, frame []byte) bpf.Verdict

// MaxDatagrams is the number of fragmented datagrams whose kind is remembered,
// the size of the kernel's map.
const MaxDatagrams = 16384

// Engine decapsulates packets. It owns its tallies and its memory of datagrams.
type Engine struct {
	config     bpf.Config
	collectors [][16]byte
	exporters  prefixes
	feeds      Feeds
	decide     Decide // nil: every inner frame goes on
	kinds      *kinds
	frames     Tallies
	datagrams  Tallies
	packet     packet // the one at work; here, so that it needs no allocation
}

// Tallies says what became of packets, by verdict; bytes are those of the outer packet.
type Tallies = [bpf.VerdictCount]bpf.Tally

// New makes an Engine that does what the kernel half does under config. Only
// packets to collectors are ours (all, when config.AnyDestination); IPv4 addresses
// may be mapped or not. Until SetPolicy says otherwise, everyone may send and all
// that is inside goes on.
func New(config bpf.Config, collectors []netip.Addr, feeds Feeds) *Engine {
	e := &Engine{config: config, feeds: feeds, kinds: newKinds(MaxDatagrams)}
	e.SetPolicy(nil, false, nil)
	for _, a := range collectors {
		e.collectors = append(e.collectors, a.As16())
	}
	return e
}

// SetPolicy says who may send, nil: everyone; whether the packets of others are
// dropped or passed; and what becomes of inner frames, nil: they all go on. It may be
// called between any two packets.
func (e *Engine) SetPolicy(exporters []netip.Prefix, dropStrangers bool, decide Decide) {
	e.exporters, e.decide = newPrefixes(exporters), decide
	e.config.ListExporters, e.config.DropStrangers = 0, 0
	if exporters != nil {
		e.config.ListExporters = 1
	}
	if dropStrangers {
		e.config.DropStrangers = 1
	}
}

// Frames is what became of the frames given to Decap and Captured: the ledger's
// XDP line.
func (e *Engine) Frames() Tallies { return e.frames }

// Datagrams is what became of the datagrams given to Datagram: the ledger's
// reassembly line.
func (e *Engine) Datagrams() Tallies { return e.datagrams }

// Decap takes one Ethernet frame, received at now (ns), and returns what the
// kernel half would put into an AF_XDP ring. For RedirectInner that is the inner
// frame, for RedirectFragment the frame whole, for reassembly; for every other
// verdict inner is nil and the record means nothing.
//
// inner is a part of frame. frame is left as it was, but for RSPAN: there the 12
// bytes of the two MAC addresses move 4 bytes inward, over the mirror's tag, and
// inner is frame[4:].
func (e *Engine) Decap(frame []byte, now uint64) (rec bpf.Record, inner []byte, v bpf.Verdict) {
	return e.Captured(Ethernet, frame, len(frame), now)
}

// Captured takes one packet of a capture file that begins with the header of
// link and was wire bytes long before the capture cut it. What the cut took away
// is in the record: WireLength beyond Length.
//
// A fragment without an Ethernet header in front is handed on from its IP header
// on, with RecordRawIP beside RecordFragment.
func (e *Engine) Captured(link LinkType, frame []byte, wire int, now uint64) (rec bpf.Record, inner []byte, v bpf.Verdict) {
	p := e.begin(link, frame, wire, now)
	return e.run(p, &e.frames)
}

// Datagram takes an outer datagram that was put together from its fragments,
// the last of which was received at now. first is the record of its first
// fragment: when that one said whose feed it is, it stood for the datagram in the
// feed's books, and feed and gap are taken from it.
//
// The datagram begins where its fragments did: with the Ethernet header, or with
// the IP header when first has RecordRawIP.
func (e *Engine) Datagram(frame []byte, first *bpf.Record, now uint64) (rec bpf.Record, inner []byte, v bpf.Verdict) {
	link := Ethernet
	if first.Flags&bpf.RecordRawIP != 0 {
		link = Raw
	}
	p := e.begin(link, frame, len(frame), now)
	p.counted = first.Encap != uint8(bpf.EncapNone)
	p.record.Feed, p.record.Gap = first.Feed, first.Gap
	p.record.Flags = first.Flags & bpf.RecordNICTime
	return e.run(p, &e.datagrams)
}

func (e *Engine) begin(link LinkType, frame []byte, wire int, now uint64) *packet {
	e.packet = packet{
		cursor: cursor{frame: frame, left: len(frame), cut: max(0, wire-len(frame))},
		link:   link,
		wire:   max(wire, len(frame)),
	}
	e.packet.blank(now)
	return &e.packet
}

// run is the way of a packet.
func (e *Engine) run(p *packet, tallies *Tallies) (rec bpf.Record, inner []byte, v bpf.Verdict) {
	v = e.classify(p)
	if redirects(v) {
		v = e.admit(p, v)
	}
	if redirects(v) {
		inner, v = e.meet(p, v)
	}
	if p.listed {
		e.feeds.Observe(&p.record, v)
	}
	return p.finish(tallies, inner, v)
}

// classify says whose packet it is and which tunnel. It reads only: what is not
// ours leaves as it came.
func (e *Engine) classify(p *packet) bpf.Verdict {
	v := e.open(p)
	if passes(v) && e.accepts(bpf.EncapNative) {
		v = p.native(v)
	}
	if v == bpf.RedirectFragment {
		p.measureFragment()
	}
	p.record.Encap = p.key.Encap
	return v
}

// open finds the tunnel and the frame in it, on which the cursor stands afterwards.
func (e *Engine) open(p *packet) bpf.Verdict {
	v := e.linkLayer(p)
	if v != bpf.VerdictNone {
		return v
	}
	if p.key.Encap == uint8(bpf.EncapRSPAN) {
		return p.measureRSPAN()
	}
	v = e.ip(p)
	if v != bpf.VerdictNone {
		return v
	}
	if p.position == later {
		return e.laterFragment(p)
	}
	v = e.tunnel(p)
	if v == bpf.VerdictNone {
		v = p.measureInner()
	}
	if p.position == first {
		return e.firstFragment(p, v)
	}
	return v
}

// tunnel takes the headers between the outer IP header and the inner frame.
func (e *Engine) tunnel(p *packet) bpf.Verdict {
	if p.protocol == protocolUDP {
		return e.udp(p)
	}
	v := e.gre(p)
	if v != bpf.VerdictNone {
		return v
	}
	switch bpf.Encap(p.key.Encap) {
	case bpf.EncapERSPAN2:
		return p.erspan2()
	case bpf.EncapERSPAN3:
		return e.erspan3(p)
	}
	return bpf.VerdictNone
}

// admit asks whether the exporter may send, and whose feed it is.
func (e *Engine) admit(p *packet, v bpf.Verdict) bpf.Verdict {
	if e.stranger(p) {
		if e.config.DropStrangers != 0 {
			return bpf.DropStranger
		}
		return bpf.PassStranger
	}
	// A fragment that does not say whose it is counts in no feed: the first
	// one stands for all, or else the datagram does when it is whole.
	if p.key.Encap != uint8(bpf.EncapNone) && !p.counted {
		p.record.Feed, p.listed = e.feeds.Find(&p.key), true
	}
	return v
}

// meet strips, and asks what the policy says of an inner frame. A fragment meets
// it when its datagram is whole.
func (e *Engine) meet(p *packet, v bpf.Verdict) ([]byte, bpf.Verdict) {
	inner := p.strip()
	if v != bpf.RedirectInner || e.decide == nil {
		return inner, v
	}
	if said := e.decide(&p.key, &p.record, inner); said != bpf.VerdictNone {
		return nil, said
	}
	return inner[:p.record.Length], v
}

// stranger reports whether an exporter list is kept and the sender is not on it.
// RSPAN and native feeds have no exporter address.
func (e *Engine) stranger(p *packet) bool {
	encap := bpf.Encap(p.key.Encap)
	if e.config.ListExporters == 0 || encap == bpf.EncapRSPAN || encap == bpf.EncapNative {
		return false
	}
	return !e.exporters.contain(&p.key.Exporter)
}

// ours reports whether address is one of the collector's.
func (e *Engine) ours(address *[16]byte) bool {
	return e.config.AnyDestination != 0 || slices.Contains(e.collectors, *address)
}

func (e *Engine) accepts(encap bpf.Encap) bool { return e.config.Accept&(1<<encap) != 0 }

// strip is the inner frame alone; for RSPAN it is put together where the tag was.
func (p *packet) strip() []byte {
	if p.key.Encap == uint8(bpf.EncapRSPAN) {
		copy(p.frame[vlanSize:], p.frame[:addressesSize])
	}
	end := p.inner + int(p.record.Length)
	return p.frame[p.inner:end:end]
}

// finish is the one exit: it counts the verdict.
func (p *packet) finish(tallies *Tallies, inner []byte, v bpf.Verdict) (bpf.Record, []byte, bpf.Verdict) {
	tallies[v].Packets++
	tallies[v].Bytes += uint64(p.wire)
	return p.record, inner, v
}

func passes(v bpf.Verdict) bool { return v >= bpf.PassNotIP && v <= bpf.PassNoSocket }

func redirects(v bpf.Verdict) bool { return v >= bpf.RedirectFragment }
