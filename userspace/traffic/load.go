package traffic

import (
	"math/rand/v2"
	"net/netip"
)

// MinSize is the shortest frame of a Load: Ethernet, IPv4 and TCP without data.
const MinSize = 14 + ipv4HeaderLen + tcpHeaderLen

// Load says what a generator sends: frames of many flows, for measuring.
type Load struct {
	Seed   uint64
	Sizes  []int // of the frames in turn, bytes with the Ethernet header and without FCS
	Flows  int
	Frames int
}

// IMIX are the sizes of the Internet mix as testers use it: seven small, four
// middling and one large of every twelve; 360 bytes on average.
func IMIX() []int {
	return []int{64, 590, 64, 64, 590, 64, 1514, 64, 590, 64, 590, 64}
}

// Make makes the frames. They go through the flows in turn; of each flow both
// directions take turns, four flows of five are TCP and the fifth is UDP. Sizes
// below MinSize are raised to it.
func (l Load) Make() [][]byte {
	r := rand.New(rand.NewPCG(l.Seed, 0x6c6f6164))
	flows := make([]loadFlow, l.Flows)
	for i := range flows {
		flows[i] = newLoadFlow(i, r)
	}
	frames := make([][]byte, l.Frames)
	for i := range frames {
		frames[i] = flows[i%l.Flows].frame(max(MinSize, l.Sizes[i%len(l.Sizes)]), byte(i))
	}
	return frames
}

// loadFlow is one flow: fixed ends, and the numbers that move.
type loadFlow struct {
	ends [2]struct {
		mac     mac
		address netip.Addr
		port    uint16
		next    uint32
	}
	udp  bool
	sent int
}

// newLoadFlow makes the i-th flow; no two have the same ends.
func newLoadFlow(i int, r *rand.Rand) loadFlow {
	const hosts, ports = 250, 16384
	var f loadFlow
	f.udp = i%5 == 4
	client, server, port := i%hosts, i/hosts%hosts, i/hosts/hosts%ports
	f.ends[0].mac, f.ends[1].mac = macOf(client+2), macOf(server+2)
	f.ends[0].address = netip.AddrFrom4([4]byte{198, 51, 100, byte(client + 2)})
	f.ends[1].address = netip.AddrFrom4([4]byte{203, 0, 113, byte(server + 2)})
	f.ends[0].port, f.ends[1].port = uint16(49152+port), 443
	f.ends[0].next, f.ends[1].next = r.Uint32(), r.Uint32()
	return f
}

// frame is the next frame of the flow.
func (f *loadFlow) frame(size int, fill byte) []byte {
	from, to := &f.ends[f.sent%2], &f.ends[1-f.sent%2]
	id := uint16(f.sent)
	f.sent++
	headers := MinSize
	if f.udp {
		headers += udpHeaderLen - tcpHeaderLen
	}
	payload := make([]byte, size-headers)
	for i := range payload {
		payload[i] = fill + byte(i)
	}
	protocol := byte(protocolTCP)
	var segment []byte
	if f.udp {
		protocol = protocolUDP
		segment = udp(from.address, to.address, from.port, to.port, payload)
	} else {
		segment = tcpSegment(from.address, to.address, from.port, to.port, from.next, to.next, ack|psh, nil, payload)
		from.next += uint32(len(payload))
	}
	return ethernet(to.mac, from.mac, nil, etherTypeIPv4, ipv4(from.address, to.address, protocol, 64, id, dontFragment, segment))
}
