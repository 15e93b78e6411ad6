package decap

import "github.com/unspan/unspan/bpf"

// EtherTypes, IEEE 802.3 and the assigned numbers of the IEEE.
const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100 // 802.1Q C-tag
	etherQinQ    = 0x88a8 // 802.1Q S-tag
	etherQinQOld = 0x9100 // before the standard, still sent
)

const (
	ethernetSize  = 14
	addressesSize = 12 // destination and source MAC
	vlanSize      = 4
	maxVLANs      = 2 // MAX_VLANS of the contract
)

func isIP(ethertype uint16) bool { return ethertype == etherIPv4 || ethertype == etherIPv6 }

func isVLAN(ethertype uint16) bool {
	return ethertype == etherVLAN || ethertype == etherQinQ || ethertype == etherQinQOld
}

// ethernet takes the Ethernet header (IEEE 802.3, 3.1.1) and its VLAN tags.
func (e *Engine) ethernet(p *packet) bpf.Verdict {
	header := p.take(ethernetSize)
	if header == nil {
		return bpf.PassNotIP
	}
	p.ethertype = be16(header[addressesSize:])
	return e.vlans(p)
}

// vlans skips the outer VLAN tags (IEEE 802.1Q, 9.6). They are the transport's,
// not the mirrored frame's; but the outermost one may itself be the mirror's
// only wrapping, RSPAN.
func (e *Engine) vlans(p *packet) bpf.Verdict {
	for i := 0; i < maxVLANs && isVLAN(p.ethertype); i++ {
		tag := p.take(vlanSize)
		if tag == nil {
			return bpf.PassNotIP
		}
		p.ethertype = be16(tag[2:])
		vlan := be16(tag) & 0x0fff
		if i == 0 && p.link == Ethernet && vlan == e.config.RspanVlan && e.accepts(bpf.EncapRSPAN) {
			p.key.Encap = uint8(bpf.EncapRSPAN)
			p.key.Session = vlan
			return bpf.VerdictNone
		}
	}
	return bpf.VerdictNone
}
