package decap

import "github.com/unspan/unspan/bpf"

// Flags and version in the first 16 bits of GRE, RFC 2784 2.1, RFC 2890 2. The
// reserved bits are not looked at: SONiC lets operators set them.
const (
	greChecksum = 0x8000
	greRouting  = 0x4000 // RFC 1701; RFC 2784 2.3 says to discard it
	greKey      = 0x2000
	greSequence = 0x1000
	greVersion  = 0x0007
)

// Protocol types that carry mirror feeds.
const (
	greERSPAN2  = 0x88be // types I and II; the S bit tells them apart
	greERSPAN3  = 0x22eb
	greBridging = 0x6558 // transparent Ethernet bridging
)

const (
	greSize = 4
	greWord = 4
)

// gre takes a GRE header, RFC 2784 2, and its optional words.
func (e *Engine) gre(p *packet) bpf.Verdict {
	header := p.take(greSize)
	if header == nil {
		return bpf.DropGREShort
	}
	flags := be16(header)
	if flags&greVersion != 0 {
		return bpf.PassGREVersion
	}
	encap := e.greEncap(be16(header[2:]), flags)
	if encap == bpf.EncapNone {
		return bpf.PassGREProtocol
	}
	if !e.accepts(encap) {
		return bpf.PassNotAccepted
	}
	if flags&greRouting != 0 {
		return bpf.DropGRERouting
	}
	p.key.Encap = uint8(encap)
	if encap == bpf.EncapGREIP {
		p.record.Flags |= bpf.RecordRawIP
	}
	return p.greWords(flags)
}

// greEncap is what a protocol type says of the mirror session, EncapNone when it
// carries none.
func (e *Engine) greEncap(protocol, flags uint16) bpf.Encap {
	encap := bpf.EncapNone
	switch protocol {
	case greERSPAN2:
		encap = bpf.EncapERSPAN2
	case greERSPAN3:
		return bpf.EncapERSPAN3
	case greBridging:
		return bpf.EncapGRE
	case etherIPv4, etherIPv6:
		return bpf.EncapGREIP
	default:
		for i := range e.config.GreProtocols {
			if extra := &e.config.GreProtocols[i]; extra.Protocol == protocol && protocol != 0 {
				encap = bpf.Encap(extra.Encap)
			}
		}
	}
	// Only type II numbers its packets, draft-foschiano-erspan-03 4.1.
	if encap == bpf.EncapERSPAN2 && flags&greSequence == 0 {
		return bpf.EncapERSPAN1
	}
	return encap
}

// greWords takes the optional words in their order: checksum, key, sequence
// number (RFC 2890 2). The checksum is not verified: it covers the inner frame,
// which is delivered as it came.
func (p *packet) greWords(flags uint16) bpf.Verdict {
	if flags&greChecksum != 0 && !p.skip(greWord) {
		return bpf.DropGREShort
	}
	if flags&greKey != 0 {
		key := p.take(greWord)
		if key == nil {
			return bpf.DropGREShort
		}
		p.key.Key = be32(key)
		p.key.Keyed = 1
	}
	if flags&greSequence != 0 {
		sequence := p.take(greWord)
		if sequence == nil {
			return bpf.DropGREShort
		}
		p.record.Sequence = be32(sequence)
		p.record.Flags |= bpf.RecordSequence
	}
	return bpf.VerdictNone
}
