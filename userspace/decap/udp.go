package decap

import "github.com/unspan/unspan/bpf"

const (
	udpSize    = 8
	vxlanSize  = 8
	geneveSize = 8

	vxlanVNI = 0x08 // I: the VNI is valid

	geneveVersion  = 0xc0 // of byte 0
	geneveOptions  = 0x3f // of byte 0: length in 4-byte words
	geneveCritical = 0x40 // of byte 1: C, some option must be understood
)

// udp takes a UDP header, RFC 768, and finds the tunnel by its destination port:
// the source port is a hash of the inner flow (RFC 7348 5, RFC 8926 3.3).
func (e *Engine) udp(p *packet) bpf.Verdict {
	header := p.take(udpSize)
	if header == nil {
		return bpf.PassNotTunnel
	}
	port := be16(header[2:])
	vxlan := e.accepts(bpf.EncapVXLAN) && has(&e.config.VxlanPorts, port)
	geneve := e.accepts(bpf.EncapGeneve) && has(&e.config.GenevePorts, port)
	if !vxlan && !geneve {
		return bpf.PassNotTunnel
	}
	// A length of 0 is a jumbogram's (RFC 2675 4): it ends with the IP packet.
	if length := int(be16(header[4:])); length != 0 {
		if length < udpSize {
			return bpf.DropUDPShort
		}
		p.bound(length - udpSize)
	}
	if vxlan {
		return p.vxlan()
	}
	return e.geneve(p)
}

func has(ports *[4]uint16, port uint16) bool {
	for _, p := range ports {
		if p == port && p != 0 {
			return true
		}
	}
	return false
}

// vxlan takes a VXLAN header, RFC 7348 5.
func (p *packet) vxlan() bpf.Verdict {
	header := p.take(vxlanSize)
	if header == nil {
		return bpf.DropUDPShort
	}
	if header[0]&vxlanVNI == 0 {
		return bpf.DropVXLANFlags
	}
	p.key.Encap = uint8(bpf.EncapVXLAN)
	p.key.Key = be32(header[4:]) >> 8
	p.key.Keyed = 1
	return bpf.VerdictNone
}

// geneve takes a Geneve header, RFC 8926 3.4, and its options, 3.5. They say
// nothing of the frame, so none needs to be understood, critical or not: real
// senders mark theirs critical, and a mirror's frame is not ours to refuse.
func (e *Engine) geneve(p *packet) bpf.Verdict {
	header := p.take(geneveSize)
	if header == nil {
		return bpf.DropUDPShort
	}
	if header[0]&geneveVersion != 0 {
		return bpf.DropGeneveVersion
	}
	if !p.skip(int(header[0]&geneveOptions) * 4) {
		return bpf.DropUDPShort
	}
	if header[1]&geneveCritical != 0 {
		p.record.Flags |= bpf.RecordCritical
	}
	switch be16(header[2:]) {
	case greBridging:
	case etherIPv4, etherIPv6:
		if !e.accepts(bpf.EncapGREIP) {
			return bpf.DropGeneveProtocol
		}
		p.record.Flags |= bpf.RecordRawIP
	default:
		return bpf.DropGeneveProtocol
	}
	p.key.Encap = uint8(bpf.EncapGeneve)
	p.key.Key = be32(header[4:]) >> 8
	p.key.Keyed = 1
	return bpf.VerdictNone
}
