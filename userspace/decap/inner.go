package decap

import "github.com/unspan/unspan/bpf"

// measureInner checks that the cursor stands on a frame, and fills in what the
// record says of it.
func (p *packet) measureInner() bpf.Verdict {
	p.measure(p.at, p.left)
	if p.record.Flags&bpf.RecordRawIP != 0 {
		return p.measureIP()
	}
	look := p.cursor
	header := look.take(ethernetSize)
	if header == nil {
		return bpf.DropInnerShort
	}
	p.record.FlowHash = look.hashEthernet(header, be16(header[addressesSize:]))
	return bpf.RedirectInner
}

func (p *packet) measureIP() bpf.Verdict {
	first := p.peek(1)
	switch {
	case first == nil:
		return bpf.DropInnerShort
	case first[0]>>4 == 4 && p.left >= ip4Size:
		p.record.FlowHash = p.hashIP4()
	case first[0]>>4 == 6 && p.left >= ip6Size:
		p.record.FlowHash = p.hashIP6()
	default:
		return bpf.DropInnerShort
	}
	return bpf.RedirectInner
}

// measureRSPAN does the same for a frame in two parts: the addresses, and what
// follows the mirror's tag, where the cursor stands.
func (p *packet) measureRSPAN() bpf.Verdict {
	p.measure(vlanSize, ethernetSize+p.left)
	p.record.FlowHash = p.hashEthernet(p.frame[:addressesSize], p.ethertype)
	return bpf.RedirectInner
}

// measureFragment lets an outer fragment follow its record whole: from its
// Ethernet header on, or from its IP header where the capture has no Ethernet.
func (p *packet) measureFragment() {
	start := 0
	p.record.Flags &^= bpf.RecordRawIP
	p.record.Flags |= bpf.RecordFragment
	if p.link != Ethernet {
		start = p.network
		p.record.Flags |= bpf.RecordRawIP
	}
	p.cut = p.wire - len(p.frame)
	p.measure(start, len(p.frame)-start)
	p.record.FlowHash = p.datagram.hash()
}

// native takes the frame of a tap: it is its own inner frame, whatever it looked
// like on the way here. What can be none stays as it was, with verdict v.
func (p *packet) native(v bpf.Verdict) bpf.Verdict {
	start := 0
	p.blank(p.record.Time)
	if p.link != Ethernet {
		if !isIP(p.ethertype) {
			return v
		}
		start = p.network
		p.record.Flags = bpf.RecordRawIP
	}
	p.cursor = cursor{frame: p.frame, at: start, left: len(p.frame) - start, cut: p.wire - len(p.frame)}
	if p.measureInner() != bpf.RedirectInner {
		return v
	}
	p.key = bpf.FeedKey{Encap: uint8(bpf.EncapNative)}
	return bpf.RedirectInner
}

// measure says that length bytes from start on are what strip hands on.
func (p *packet) measure(start, length int) {
	p.inner = start
	p.record.Length = uint32(length)
	p.record.WireLength = uint32(length + p.cut)
}
