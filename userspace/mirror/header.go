package mirror

import (
	"encoding/binary"

	"github.com/unspan/unspan/bpf"
)

// be is the byte order of every header here.
var be = binary.BigEndian

// putEthernet writes the outer Ethernet header and its tags.
func (w *Wrapper) putEthernet() {
	s := &w.session
	w.header = append(w.header, s.DestinationMAC...)
	w.header = append(w.header, s.SourceMAC...)
	for i, tci := range s.OuterVLANs {
		etherType := uint16(etherTypeVLAN)
		if i == 0 && len(s.OuterVLANs) == 2 {
			etherType = etherTypeQinQ
		}
		w.header = be.AppendUint16(w.header, etherType)
		w.header = be.AppendUint16(w.header, tci)
	}
	etherType := uint16(etherTypeIPv6)
	if s.Source.Is4() {
		etherType = etherTypeIPv4
	}
	w.header = be.AppendUint16(w.header, etherType)
}

// putIP writes the outer IP header. Lengths, identification and checksum are
// for stampIP.
func (w *Wrapper) putIP() {
	s := &w.session
	w.ip = len(w.header)
	protocol := byte(ipProtocolGRE)
	if s.carriedByUDP() {
		protocol = ipProtocolUDP
	}
	if s.Source.Is4() {
		header := make([]byte, ipv4HeaderLen)
		header[0] = 4<<4 | byte((ipv4HeaderLen+len(s.IPOptions))/4)
		header[1] = s.DSCP << 2
		if s.DontFragment {
			header[6] = 0x40
		}
		header[8] = s.TTL
		header[9] = protocol
		copy(header[12:], s.Source.AsSlice())
		copy(header[16:], s.Destination.AsSlice())
		w.header = append(append(w.header, header...), s.IPOptions...)
		return
	}
	header := make([]byte, ipv6HeaderLen)
	be.PutUint32(header, 6<<28|uint32(s.DSCP)<<22)
	header[6] = protocol
	header[7] = s.TTL
	copy(header[8:], s.Source.AsSlice())
	copy(header[24:], s.Destination.AsSlice())
	if s.EncapsulationLimit != 0 {
		// RFC 2473, 4.1.1: option 4 with one byte; then PadN of 3 bytes.
		header[6] = ipProtocolDestination
		header = append(header, protocol, 0, 4, 1, s.EncapsulationLimit, 1, 1, 0)
	}
	w.header = append(w.header, header...)
}

// stampIP completes the outer IP header of a packet.
func (w *Wrapper) stampIP(packet []byte, stamp Stamp) {
	ip := packet[w.ip:]
	if w.session.Source.Is4() {
		be.PutUint16(ip[2:], uint16(len(ip)))
		be.PutUint16(ip[4:], uint16(stamp.Number))
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^fold(sum(ip[:int(ip[0]&0xf)*4])))
		return
	}
	be.PutUint16(ip[4:], uint16(len(ip)-ipv6HeaderLen))
}

// putUDP writes the UDP header and VXLAN's or Geneve's after it. The checksum
// stays 0, as RFC 7348 wants it and RFC 6935 allows it over IPv6.
func (w *Wrapper) putUDP() {
	s := &w.session
	w.udp = len(w.header)
	port := s.UDPPort
	if port == 0 {
		port = portVXLAN
		if s.Encap == bpf.EncapGeneve {
			port = portGeneve
		}
	}
	w.header = be.AppendUint16(w.header, 0)
	w.header = be.AppendUint16(w.header, port)
	w.header = be.AppendUint32(w.header, 0)
	if s.Encap == bpf.EncapVXLAN {
		w.header = be.AppendUint32(w.header, 0x08<<24) // I: the VNI is valid
		w.header = be.AppendUint32(w.header, s.Key<<8)
		return
	}
	flags := byte(0)
	if criticalOption(s.GeneveOptions) {
		flags = 0x40 // C, RFC 8926, 3.4
	}
	w.header = append(w.header, byte(len(s.GeneveOptions)/4), flags)
	w.header = be.AppendUint16(w.header, etherTypeTEB)
	w.header = be.AppendUint32(w.header, s.Key<<8)
	w.header = append(w.header, s.GeneveOptions...)
}

// criticalOption reports whether a Geneve option has its C bit set (RFC 8926, 3.5).
func criticalOption(options []byte) bool {
	for len(options) >= 4 {
		if options[2]&0x80 != 0 {
			return true
		}
		options = options[min(4+int(options[3]&0x1f)*4, len(options)):]
	}
	return false
}

// putGRE writes the GRE header: the words come in the order C, K, S (RFC 2890).
func (w *Wrapper) putGRE() {
	s := &w.session
	w.gre = len(w.header)
	sequenced := s.Sequenced && s.Encap != bpf.EncapERSPAN1 || s.Encap == bpf.EncapERSPAN2
	flags := uint16(0)
	if s.Checksum {
		flags |= greChecksum
	}
	if s.Keyed {
		flags |= greKey
	}
	if sequenced {
		flags |= greSequence
	}
	w.header = be.AppendUint16(w.header, flags)
	protocol := s.Protocol
	if protocol == 0 {
		switch s.Encap {
		case bpf.EncapERSPAN1, bpf.EncapERSPAN2:
			protocol = protocolERSPAN
		case bpf.EncapERSPAN3:
			protocol = protocolIII
		case bpf.EncapGRE:
			protocol = etherTypeTEB
		case bpf.EncapGREIP:
			w.protocol = len(w.header)
		}
	}
	w.header = be.AppendUint16(w.header, protocol)
	if s.Checksum {
		w.checksum = len(w.header)
		w.header = be.AppendUint32(w.header, 0)
	}
	if s.Keyed {
		w.header = be.AppendUint32(w.header, s.Key)
	}
	if sequenced {
		w.sequence = len(w.header)
		w.header = be.AppendUint32(w.header, 0)
	}
}

// putERSPAN writes the header of ERSPAN II or III (draft-foschiano-erspan-03, 4)
// but for its first word, which differs from frame to frame.
func (w *Wrapper) putERSPAN() {
	s := &w.session
	if !s.erspan() {
		return
	}
	w.erspan = len(w.header)
	w.header = be.AppendUint32(w.header, 0)
	if s.Encap == bpf.EncapERSPAN2 {
		w.header = be.AppendUint32(w.header, s.Index)
		return
	}
	w.time = len(w.header)
	w.header = be.AppendUint32(w.header, 0)
	word := uint32(s.SGT)<<16 | uint32(s.FrameType)<<10 | uint32(s.HardwareID)<<4 | uint32(s.Granularity)<<1
	if s.Egress {
		word |= 1 << 3
	}
	if s.Platform == bpf.NoPlatform {
		w.header = be.AppendUint32(w.header, word)
		return
	}
	w.header = be.AppendUint32(w.header, word|1)

	// The subheader: platform id in 6 bits, then what that platform puts there.
	word = uint32(s.Platform) << 26
	switch s.Platform {
	case 1:
		w.header = be.AppendUint32(w.header, word|uint32(s.SwitchID))
		w.header = be.AppendUint32(w.header, s.Port)
		return
	case 4:
		w.header = be.AppendUint32(w.header, word)
		w.header = be.AppendUint32(w.header, 0)
		return
	case 5, 6:
		word |= uint32(s.SwitchID)<<16 | s.Port
	case 0, 3, 7:
		word |= s.Port
	}
	w.header = be.AppendUint32(w.header, word)
	w.timeHigh = len(w.header)
	w.header = be.AppendUint32(w.header, 0)
}

// stampERSPAN completes the ERSPAN header of a packet.
func (w *Wrapper) stampERSPAN(packet []byte, tci uint16, tagged, cut bool, stamp Stamp) {
	s := &w.session
	vlan, cos, en := uint32(s.VLAN), uint32(s.COS), uint32(s.En)
	if tagged && s.Tags != TagsLiteral {
		vlan, cos = uint32(tci&0xfff), uint32(tci>>13)
		en = 3 // the tag is preserved in the frame
		if s.Tags == TagsStripped {
			en = 2
		}
	}
	version := uint32(1)
	if s.Encap == bpf.EncapERSPAN3 {
		version = 2
		en = uint32(s.BSO) // in the place of En
	}
	word := version<<28 | vlan<<16 | cos<<13 | en<<11 | uint32(s.ID)
	if cut {
		word |= 1 << 10
	}
	be.PutUint32(packet[w.erspan:], word)
	if w.time == 0 {
		return
	}
	low, high := w.clock.words(w.clock.ticks(stamp.Time))
	be.PutUint32(packet[w.time:], low)
	if w.timeHigh != 0 {
		be.PutUint32(packet[w.timeHigh:], high)
	}
}

// tag is the outermost 802.1Q tag of a frame.
func tag(frame []byte) (tci uint16, ok bool) {
	if len(frame) < ethernetLen+4 || be.Uint16(frame[12:]) != etherTypeVLAN {
		return 0, false
	}
	return be.Uint16(frame[14:]), true
}

// network finds the IP packet in a frame, behind any tags: its offset, or 0, and
// its EtherType.
func network(frame []byte) (offset int, etherType uint16) {
	for offset = ethernetLen; offset <= len(frame); offset += 4 {
		switch etherType = be.Uint16(frame[offset-2:]); etherType {
		case etherTypeIPv4, etherTypeIPv6:
			return offset, etherType
		case etherTypeVLAN, etherTypeQinQ:
		default:
			return 0, 0
		}
	}
	return 0, 0
}

// sourcePort is the UDP source port for a frame: the same for every packet of a
// flow, so that receivers may spread flows by it (RFC 7348, 5).
func sourcePort(frame []byte) uint16 {
	offset, etherType := network(frame)
	hash := uint32(2166136261) // FNV-1a
	mix := func(bytes []byte) {
		for _, b := range bytes {
			hash = (hash ^ uint32(b)) * 16777619
		}
	}
	switch {
	case etherType == etherTypeIPv4 && len(frame) >= offset+ipv4HeaderLen:
		ip := frame[offset:]
		mix(ip[9:10])
		mix(ip[12:20])
		headerLen := int(ip[0]&0xf) * 4
		if fragmented := be.Uint16(ip[6:])&0x3fff != 0; !fragmented && len(ip) >= headerLen+4 {
			mix(ip[headerLen : headerLen+4])
		}
	case etherType == etherTypeIPv6 && len(frame) >= offset+ipv6HeaderLen+4:
		ip := frame[offset:]
		mix(ip[6:7])
		mix(ip[8:44])
	default:
		mix(frame[:12])
	}
	return 0xc000 | uint16(hash^hash>>16)&0x3fff // the dynamic ports
}

// sum adds up the 16-bit words of b for an Internet checksum. It takes two at a
// time: 2^16 counts as 1 once the sum is folded (RFC 1071, 2).
func sum(b []byte) uint64 {
	var total uint64
	for len(b) >= 4 {
		total += uint64(be.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		total += uint64(be.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		total += uint64(b[0]) << 8
	}
	return total
}

// fold brings a sum down to 16 bits.
func fold(total uint64) uint16 {
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
