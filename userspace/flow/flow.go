// Package flow rebuilds conversations from the frames inside a mirror feed.
//
//	record + inner frame
//	   │ Observe: parse once, hash, ask memory for the bucket ─┐
//	   │                   eight packets later: find the slot, ask for the flow ─┐
//	   │                                           eight later: bring it up to date ─┐
//	   ▼
//	index (one line of 8 tags and slots)   hot 64 B   cold 320 B, seldom touched
//	   │
//	   ├─ idle, closed, active, evicted ──► Ring ──► exporter
//	   └─ Ask: a view's question, answered a few entries at a time
//
// A flow is both directions of one conversation: scope (the feed, or the
// capture domain it was put in), up to two VLANs, addresses, protocol, ports.
// Packets and bytes are counted as tshark's conversations count them: whole
// frames, at the length they had on the wire. What was sampled is scaled and
// marked.
//
// One goroutine owns a Table. All memory is taken when it is made; Observe and
// Flush allocate nothing, take no lock and never block. Other goroutines may
// read its Ring (one of them), its Counters, and Ask.
//
// # Who began
//
// A SYN or SYN+ACK decides. Without one, an ICMP query says who asks; else a
// port below 1024 belongs to the side that was called when the other's is not;
// else whoever is seen first began. Index 0 of a Flow is the side that began.
//
// # What the mirror did
//
// Retransmissions and reordering are told by TCP sequence numbers, but a mirror
// path reorders and loses packets of its own, and numbers them (GRE sequence).
// A segment that the feed's own numbers show to be late is counted as
// reordered by the mirror, and a jump in the TCP sequence while the feed lacks
// packets as a gap of the mirror: neither happened on the mirrored network.
package flow

import (
	"net/netip"
)

// Flow is the record of a flow, or of one active period of a long one: counts
// are since the record before. It holds no pointers and may be copied. Pairs
// are indexed by direction: 0 is what the side that began sent, 1 the answers.
type Flow struct {
	ID    uint64 // the same in all records of a flow; unique among the tables of a run
	First uint64 // time of the first packet, ns as given to Observe
	Last  uint64 // time of the last packet, ns

	Packets [2]uint64 // scaled by the sampling factor, see Weight
	Bytes   [2]uint64 // whole frames, original length; scaled likewise

	Handshake uint64 // ns between SYN and the ACK that ends the handshake, 0 when not seen
	ServerRTT uint64 // ns between SYN and SYN+ACK (or RST), 0 when not seen: mirror to server and back
	ClientRTT uint64 // ns between SYN+ACK and ACK, 0 when not seen: mirror to client and back
	FirstByte uint64 // ns from the first bytes sent to the first answered (TCP payload; other protocols: packets)

	Address [2][16]byte // network order, IPv4 as ::ffff:a.b.c.d; zero when not IP
	Domain  uint32      // capture domain, 0 when flows are kept apart by feed
	Feed    [2]uint32   // feed that brought the newest packets of each direction
	Weight  uint32      // largest sampling factor; above 1 the counts are estimates

	Retransmissions [2]uint32 // TCP segments with bytes sent before
	OutOfOrder      [2]uint32 // TCP segments that were overtaken on the network
	ZeroWindows     [2]uint32 // TCP segments that said: send no more
	Gaps            [2]uint32 // jumps in the TCP sequence: the segments in between were not seen in time
	MirrorReordered [2]uint32 // TCP segments late by the feed's own sequence
	MirrorGaps      [2]uint32 // of Gaps, those while the feed lacked packets
	Copies          [2]uint32 // TCP segments seen already through another feed of the domain
	Resets          [2]uint16 // TCP RST

	Port      [2]uint16 // 0 when the protocol has none
	VLAN      [2]uint16 // outer, inner; 0 is no tag
	EtherType uint16    // 0x0800, 0x86dd, or what the frame says; below 0x600 an LLC service access point
	MAC       [2][6]byte
	TCPFlags  [2]uint8
	Protocol  uint8 // IP protocol; 255 when not IP
	ICMPType  uint8 // a query's type stands for its answers too
	ICMPCode  uint8
	TCPState  State
	End       End
	Certain   bool // who began is known (SYN), not guessed
	Continued bool // a record of this flow was emitted before
	ICMPID    uint16
	_         [4]byte
}

// End says why a record was made; the values are those of IANA's flowEndReason
// (RFC 5102 5.11.3).
type End uint8

const (
	EndNone    End = 0 // the flow is live: a view's answer
	EndIdle    End = 1 // no packet for the idle timeout
	EndActive  End = 2 // the flow goes on; this is its part so far
	EndClosed  End = 3 // FIN from both sides, RST, or a new SYN
	EndForced  End = 4 // the table was drained
	EndEvicted End = 5 // lack of resources
)

var endNames = [...]string{"live", "idle", "active", "closed", "forced", "evicted"}

func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return "unknown"
}

// IsIP reports whether the flow is IPv4 or IPv6; else it is a pair of MAC addresses.
func (f *Flow) IsIP() bool { return f.Protocol != notIP }

// IsIPv4 reports whether the flow is IPv4.
func (f *Flow) IsIPv4() bool { return f.EtherType == etherTypeIPv4 }

// Addr returns the address of a side: 0 began, 1 answered. It is the zero Addr
// when the flow is not IP.
func (f *Flow) Addr(side int) netip.Addr {
	if !f.IsIP() {
		return netip.Addr{}
	}
	a := netip.AddrFrom16(f.Address[side])
	if f.IsIPv4() {
		return a.Unmap()
	}
	return a
}
