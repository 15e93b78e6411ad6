package decap

import "github.com/unspan/unspan/bpf"

// ERSPAN, draft-foschiano-erspan-03: type II in 4.2, type III in 4.3. Both begin
// with Ver 4, VLAN 12 and COS 3, En (III: BSO) 2, T 1, session id 10.
const (
	erspan2Size     = 8
	erspan3Size     = 12
	erspan3Platform = 8

	erspan2Version = 1
	erspan3Version = 2

	erspanVLAN      = 0x0fff
	erspanCOS       = 0xe000
	erspanTruncated = 0x0400 // T
	erspanSession   = 0x03ff

	erspan2TagRemoved = 2 // En 10: an 802.1Q tag that the header now holds
	erspan2TagKept    = 3 // En 11: the tag is in the frame, the VLAN field says nothing

	erspan3Egress    = 0x0008 // D
	erspan3Subheader = 0x0001 // O
	erspan3Ethernet  = 0      // FT
	erspan3IP        = 2
)

// erspan2 takes a type II header.
func (p *packet) erspan2() bpf.Verdict {
	header := p.take(erspan2Size)
	if header == nil {
		return bpf.DropERSPANShort
	}
	if header[0]>>4 != erspan2Version {
		return bpf.DropERSPANVersion
	}
	// En is no guide to whether the frame was tagged: 00 and 01 (ISL) come
	// with a VLAN and a plain frame behind it. Only 11 says that VLAN means nothing.
	switch p.erspanTag(header) {
	case erspan2TagKept:
	case erspan2TagRemoved:
		p.record.Flags |= bpf.RecordVLAN | bpf.RecordTagRemoved
	default:
		p.record.Flags |= bpf.RecordVLAN
	}
	return bpf.VerdictNone
}

// erspan3 takes a type III header and its platform subheader.
func (e *Engine) erspan3(p *packet) bpf.Verdict {
	header := p.take(erspan3Size)
	if header == nil {
		return bpf.DropERSPANShort
	}
	if header[0]>>4 != erspan3Version {
		return bpf.DropERSPANVersion
	}
	flags := be16(header[10:]) // P 1, FT 5, HwID 6, D 1, Gra 2, O 1
	p.record.SourceTime = uint64(be32(header[4:]))
	p.record.Granularity = uint8(flags >> 1 & 0x3)
	p.record.Flags |= bpf.RecordVLAN | bpf.RecordSourceTime | bpf.RecordDirection
	// BSO 01, 10 and 11 are three flags of the record, in a row.
	if bso := p.erspanTag(header); bso != 0 {
		p.record.Flags |= bpf.RecordShort << (bso - 1)
	}
	if flags&erspan3Egress != 0 {
		p.record.Flags |= bpf.RecordEgress
	}
	if flags&erspan3Subheader != 0 {
		// Platform id 6, info 26; then 32 bits that most platforms fill
		// with the upper half of the timestamp, or its seconds.
		platform := p.take(erspan3Platform)
		if platform == nil {
			return bpf.DropERSPANShort
		}
		p.record.Platform = platform[0] >> 2
		p.record.SourceTime |= uint64(be32(platform[4:])) << 32
	}

	// P is unreliable, and Gra does not predict O: FT decides alone.
	switch frameType := flags >> 10 & 0x1f; {
	case frameType == erspan3Ethernet:
	case frameType == erspan3IP && e.accepts(bpf.EncapGREIP):
		p.record.Flags |= bpf.RecordRawIP
	default:
		return bpf.DropFrameType
	}
	return bpf.VerdictNone
}

// erspanTag reads what both types begin with, and returns the two bits between
// COS and T: En in type II, BSO in type III.
func (p *packet) erspanTag(header []byte) uint16 {
	tag, session := be16(header), be16(header[2:])
	p.record.Tci = session&erspanCOS | tag&erspanVLAN
	p.key.Session = session & erspanSession
	if session&erspanTruncated != 0 {
		p.record.Flags |= bpf.RecordTruncated
	}
	return session >> 11 & 0x3
}
