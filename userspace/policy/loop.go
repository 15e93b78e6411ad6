package policy

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
)

// IsLoop reports whether an inner frame is itself a mirror's packet on its way to
// the collector: a mirror that mirrors its own feed, or a switch that wraps twice.
// It is one when its destination is the collector's, the one that its feed goes to
// or one of the list, and what it carries is an encapsulation that config accepts.
// A later fragment of GRE counts as what its first would be; one of UDP does not say.
func IsLoop(config *bpf.Config, collectors []netip.Addr, key *bpf.FeedKey, rawIP bool, frame []byte) bool {
	packet, ethertype := frame, uint16(0)
	if rawIP {
		ethertype = ipType(packet)
	} else {
		packet, ethertype = untagged(frame)
	}
	destination, protocol, first, payload := outerIP(packet, ethertype)
	if !destination.IsValid() ||
		destination != netip.AddrFrom16(key.Collector).Unmap() && !slices.Contains(collectors, destination) {
		return false
	}
	switch protocol {
	case unix.IPPROTO_GRE:
		return !first || mirrorsGRE(config, payload)
	case unix.IPPROTO_UDP:
		return first && mirrorsUDP(config, payload)
	}
	return false
}

// untagged is what follows the Ethernet header and up to two tags.
func untagged(frame []byte) (packet []byte, ethertype uint16) {
	const header, tag = 14, 4
	if len(frame) < header {
		return nil, 0
	}
	ethertype, packet = binary.BigEndian.Uint16(frame[12:]), frame[header:]
	for i := 0; i < 2 && isTag(ethertype) && len(packet) >= tag; i++ {
		ethertype, packet = binary.BigEndian.Uint16(packet[2:]), packet[tag:]
	}
	return packet, ethertype
}

// outerIP reads the IP header of a packet; the address is invalid when there is none.
// IPv6 extension headers are not followed: no mirror sends them.
func outerIP(packet []byte, ethertype uint16) (to netip.Addr, protocol byte, first bool, payload []byte) {
	switch {
	case ethertype == etherIP4 && len(packet) >= headerIP4 && packet[0]>>4 == 4:
		header := int(packet[0]&0xf) * 4
		if header < headerIP4 || header > len(packet) {
			return to, 0, false, nil
		}
		const offset = 0x1fff
		first = binary.BigEndian.Uint16(packet[6:])&offset == 0
		return netip.AddrFrom4([4]byte(packet[16:20])), packet[9], first, packet[header:]
	case ethertype == etherIP6 && len(packet) >= headerIP6 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40])), packet[6], true, packet[headerIP6:]
	}
	return to, 0, false, nil
}

func accepts(config *bpf.Config, encaps ...bpf.Encap) bool {
	for _, e := range encaps {
		if config.Accept>>e&1 == 1 {
			return true
		}
	}
	return false
}

// mirrorsGRE reports whether a GRE header announces a mirror's frame that is accepted.
func mirrorsGRE(config *bpf.Config, header []byte) bool {
	const version, sequence = 0x0007, 0x1000
	if len(header) < 4 || binary.BigEndian.Uint16(header)&version != 0 {
		return false
	}
	erspan := bpf.EncapERSPAN1 // the S bit alone tells I from II: draft-foschiano-erspan-03 4.1
	if binary.BigEndian.Uint16(header)&sequence != 0 {
		erspan = bpf.EncapERSPAN2
	}
	switch protocol := binary.BigEndian.Uint16(header[2:]); protocol {
	case 0x88be:
		return accepts(config, erspan)
	case 0x22eb:
		return accepts(config, bpf.EncapERSPAN3)
	case 0x6558:
		return accepts(config, bpf.EncapGRE)
	case etherIP4, etherIP6:
		return accepts(config, bpf.EncapGREIP)
	default:
		for _, extra := range config.GreProtocols {
			if extra.Protocol != 0 && extra.Protocol == protocol {
				encap := bpf.Encap(extra.Encap)
				if encap == bpf.EncapERSPAN2 {
					encap = erspan
				}
				return accepts(config, encap)
			}
		}
	}
	return false
}

func mirrorsUDP(config *bpf.Config, header []byte) bool {
	if len(header) < 8 {
		return false
	}
	port := binary.BigEndian.Uint16(header[2:])
	return port != 0 &&
		(accepts(config, bpf.EncapVXLAN) && slices.Contains(config.VxlanPorts[:], port) ||
			accepts(config, bpf.EncapGeneve) && slices.Contains(config.GenevePorts[:], port))
}
