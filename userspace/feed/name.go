package feed

import (
	"fmt"
	"net/netip"

	"github.com/unspan/unspan/bpf"
)

// Exporter is the address the mirror's packets come from; invalid for RSPAN and
// native feeds, which have none.
func Exporter(key *bpf.FeedKey) netip.Addr { return address(key.Exporter) }

// Collector is the address the mirror's packets go to; invalid like Exporter.
func Collector(key *bpf.FeedKey) netip.Addr { return address(key.Collector) }

func address(b [16]byte) netip.Addr {
	if b == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b).Unmap()
}

// Name is how people call a feed, and the name of its pcapng interface:
// exporter, encapsulation, then what tells the sessions of one exporter apart.
//
//	192.0.2.7/erspan2/1000        ERSPAN session 1000
//	192.0.2.7/erspan2/1000/0x2a   the same with a GRE key
//	192.0.2.7/gre/0x2000000       GRE with a key; 192.0.2.7/gre without
//	192.0.2.7/vxlan/5001          VXLAN or Geneve with its VNI
//	rspan/300                     RSPAN with its VLAN
//	native                        a tap
func Name(key *bpf.FeedKey) string {
	encap := bpf.EncapName(bpf.Encap(key.Encap))
	switch bpf.Encap(key.Encap) {
	case bpf.EncapNative:
		return encap
	case bpf.EncapRSPAN:
		return fmt.Sprintf("%s/%d", encap, key.Session)
	}
	name := Exporter(key).String() + "/" + encap
	switch bpf.Encap(key.Encap) {
	case bpf.EncapVXLAN, bpf.EncapGeneve:
		return fmt.Sprintf("%s/%d", name, key.Key)
	case bpf.EncapERSPAN2, bpf.EncapERSPAN3:
		name = fmt.Sprintf("%s/%d", name, key.Session)
	}
	if key.Keyed != 0 {
		name = fmt.Sprintf("%s/%#x", name, key.Key)
	}
	return name
}

// Description says in words what Name says in short; it is the description of
// the feed's pcapng interface.
func Description(key *bpf.FeedKey) string {
	encap := bpf.Encap(key.Encap)
	switch encap {
	case bpf.EncapNative:
		return "frames of the capture interface itself, no tunnel"
	case bpf.EncapRSPAN:
		return fmt.Sprintf("RSPAN mirror on VLAN %d", key.Session)
	}
	what := ""
	switch encap {
	case bpf.EncapERSPAN1:
		what = "ERSPAN type I"
	case bpf.EncapERSPAN2:
		what = fmt.Sprintf("ERSPAN type II session %d", key.Session)
	case bpf.EncapERSPAN3:
		what = fmt.Sprintf("ERSPAN type III session %d", key.Session)
	case bpf.EncapGRE:
		what = "Ethernet over GRE"
	case bpf.EncapGREIP:
		what = "IP over GRE"
	case bpf.EncapVXLAN:
		what = fmt.Sprintf("VXLAN VNI %d", key.Key)
	case bpf.EncapGeneve:
		what = fmt.Sprintf("Geneve VNI %d", key.Key)
	}
	if key.Keyed != 0 && encap != bpf.EncapVXLAN && encap != bpf.EncapGeneve {
		what += fmt.Sprintf(" key %#x", key.Key)
	}
	return fmt.Sprintf("%s from %s to %s", what, Exporter(key), Collector(key))
}
