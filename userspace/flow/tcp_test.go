package flow_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// segment is a TCP segment of a dialogue between a client and a server.
type segment struct {
	at     time.Duration
	server bool   // else the client sent it
	flags  string // SAFR, and Z for a window of 0
	seq    uint32
	ack    uint32
	data   int
	feed   uint32 // 0: 1
	number uint32 // the feed's sequence number, 0: it has none
	gap    uint32 // numbers the mirror lost just before
	weight uint32
}

func (s *segment) frame() []byte {
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: s.seq, Ack: s.ack, Window: 1000}
	for _, f := range s.flags {
		switch f {
		case 'S':
			tcp.SYN = true
		case 'A':
			tcp.ACK = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		case 'Z':
			tcp.Window = 0
		}
	}
	ip := ip4(layers.IPProtocolTCP)
	eth := ethernet(layers.EthernetTypeIPv4)
	if s.server {
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		eth.SrcMAC, eth.DstMAC = eth.DstMAC, eth.SrcMAC
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	return serialize(eth, ip, tcp, gopacket.Payload(make([]byte, s.data)))
}

// start is when the dialogues begin.
const start = uint64(1_700_000_000_000_000_000)

func (s *segment) observe(table *flow.Table) {
	record := bpf.Record{Feed: max(s.feed, 1), Weight: s.weight, Gap: s.gap, Sequence: s.number}
	if s.number != 0 {
		record.Flags |= bpf.RecordSequence
	}
	frame := s.frame()
	table.Observe(&record, frame, len(frame), start+uint64(s.at))
}

const ms = time.Millisecond

// handshake is 3 ms to the server and back, 1 ms to the client and back.
var handshake = []segment{
	{at: 0, flags: "S", seq: 99},
	{at: 3 * ms, server: true, flags: "SA", seq: 999, ack: 100},
	{at: 4 * ms, flags: "A", seq: 100, ack: 1000},
}

func after(first []segment, then ...segment) []segment {
	return append(append([]segment(nil), first...), then...)
}

// tcpFacts is what is compared of a flow.
type tcpFacts struct {
	state           flow.State
	certain         bool
	server, client  time.Duration
	handshake       time.Duration
	firstByte       time.Duration
	packets         [2]uint64
	flags           [2]uint8
	retransmissions [2]uint32
	outOfOrder      [2]uint32
	gaps            [2]uint32
	zeroWindows     [2]uint32
	resets          [2]uint16
	mirrorReordered [2]uint32
	mirrorGaps      [2]uint32
	copies          [2]uint32
}

func facts(f *flow.Flow) tcpFacts {
	return tcpFacts{
		state: f.TCPState, certain: f.Certain,
		server: time.Duration(f.ServerRTT), client: time.Duration(f.ClientRTT),
		handshake: time.Duration(f.Handshake), firstByte: time.Duration(f.FirstByte),
		packets: f.Packets, flags: f.TCPFlags,
		retransmissions: f.Retransmissions, outOfOrder: f.OutOfOrder, gaps: f.Gaps,
		zeroWindows: f.ZeroWindows, resets: f.Resets,
		mirrorReordered: f.MirrorReordered, mirrorGaps: f.MirrorGaps, copies: f.Copies,
	}
}

// opened is what a handshake alone gives; change says what is different.
func opened(change func(*tcpFacts)) []tcpFacts {
	f := tcpFacts{state: flow.StateEstablished, certain: true, server: 3 * ms, client: ms, handshake: 4 * ms, packets: [2]uint64{2, 1}, flags: [2]uint8{0x12, 0x12}}
	change(&f)
	return []tcpFacts{f}
}

var dialogues = []struct {
	name     string
	segments []segment
	want     []tcpFacts
}{
	{"handshake", handshake, opened(func(*tcpFacts) {})},
	{"request and answer", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
		segment{at: 25 * ms, server: true, flags: "A", seq: 1000, ack: 150, data: 500},
		segment{at: 26 * ms, flags: "A", seq: 150, ack: 1500, data: 50},
		segment{at: 46 * ms, server: true, flags: "A", seq: 1500, ack: 200, data: 500},
	), opened(func(f *tcpFacts) { f.packets, f.firstByte = [2]uint64{4, 3}, 20*ms })},
	{"the server speaks first", after(handshake,
		segment{at: 14 * ms, server: true, flags: "A", seq: 1000, ack: 100, data: 20},
	), opened(func(f *tcpFacts) { f.packets, f.firstByte = [2]uint64{2, 2}, 10*ms })},
	{"closed by both", after(handshake,
		segment{at: 5 * ms, flags: "FA", seq: 100, ack: 1000},
		segment{at: 6 * ms, server: true, flags: "FA", seq: 1000, ack: 101},
		segment{at: 7 * ms, flags: "A", seq: 101, ack: 1001},
	), opened(func(f *tcpFacts) {
		f.packets, f.flags, f.state = [2]uint64{4, 2}, [2]uint8{0x13, 0x13}, flow.StateClosed
	})},
	{"closed by one", after(handshake,
		segment{at: 5 * ms, flags: "FA", seq: 100, ack: 1000},
	), opened(func(f *tcpFacts) {
		f.packets, f.flags, f.state = [2]uint64{3, 1}, [2]uint8{0x13, 0x12}, flow.StateClosing
	})},
	{"FIN sent twice", after(handshake,
		segment{at: 5 * ms, flags: "FA", seq: 100, ack: 1000},
		segment{at: 505 * ms, flags: "FA", seq: 100, ack: 1000},
	), opened(func(f *tcpFacts) {
		f.packets, f.flags, f.state, f.retransmissions = [2]uint64{4, 1}, [2]uint8{0x13, 0x12}, flow.StateClosing, [2]uint32{1, 0}
	})},
	{"reset", after(handshake,
		segment{at: 5 * ms, server: true, flags: "R", seq: 1000},
	), opened(func(f *tcpFacts) {
		f.packets, f.flags, f.state, f.resets = [2]uint64{2, 2}, [2]uint8{0x12, 0x16}, flow.StateReset, [2]uint16{0, 1}
	})},
	{"refused", []segment{
		{flags: "S", seq: 99},
		{at: 2 * ms, server: true, flags: "RA", seq: 0, ack: 100},
	}, []tcpFacts{{state: flow.StateReset, certain: true, server: 2 * ms, packets: [2]uint64{1, 1}, flags: [2]uint8{2, 0x14}, resets: [2]uint16{0, 1}}}},
	{"SYN unanswered, sent again", []segment{
		{flags: "S", seq: 99},
		{at: 1000 * ms, flags: "S", seq: 99},
		{at: 1003 * ms, server: true, flags: "SA", seq: 999, ack: 100},
		{at: 1004 * ms, flags: "A", seq: 100, ack: 1000},
	}, opened(func(f *tcpFacts) { f.packets, f.retransmissions = [2]uint64{3, 1}, [2]uint32{1, 0} })},
	{"SYN+ACK sent again", []segment{
		handshake[0], handshake[1],
		{at: 3500 * time.Microsecond, server: true, flags: "SA", seq: 999, ack: 100},
		handshake[2],
	}, opened(func(f *tcpFacts) { f.packets, f.retransmissions = [2]uint64{2, 2}, [2]uint32{0, 1} })},
	{"only the client is mirrored", []segment{
		handshake[0], handshake[2],
		{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
	}, []tcpFacts{{state: flow.StateEstablished, certain: true, handshake: 4 * ms, packets: [2]uint64{3, 0}, flags: [2]uint8{0x12, 0}}}},
	{"only the server is mirrored", []segment{
		handshake[1],
		{at: 5 * ms, server: true, flags: "A", seq: 1000, ack: 150, data: 50},
	}, []tcpFacts{{state: flow.StateSynReceived, certain: true, firstByte: 2 * ms, packets: [2]uint64{0, 2}, flags: [2]uint8{0, 0x12}}}},
	{"SYN after SYN+ACK: the mirror changed their order", []segment{
		{at: 3 * ms, server: true, flags: "SA", seq: 999, ack: 100, number: 2},
		{at: 3 * ms, flags: "S", seq: 99, number: 1},
		{at: 4 * ms, flags: "A", seq: 100, ack: 1000, number: 3},
	}, opened(func(f *tcpFacts) { f.server, f.handshake = 0, ms })},
	{"picked up midway", []segment{
		{server: true, flags: "A", seq: 5000, ack: 700, data: 100},
		{at: ms, flags: "A", seq: 700, ack: 5100},
	}, []tcpFacts{{state: flow.StateMidstream, packets: [2]uint64{1, 1}, flags: [2]uint8{0x10, 0x10}}}},

	{"same ports again after FIN", after(handshake,
		segment{at: 5 * ms, flags: "FA", seq: 100, ack: 1000},
		segment{at: 9 * ms, flags: "S", seq: 7777},
	), []tcpFacts{
		{state: flow.StateClosing, certain: true, server: 3 * ms, client: ms, handshake: 4 * ms, packets: [2]uint64{3, 1}, flags: [2]uint8{0x13, 0x12}},
		{state: flow.StateSynSent, certain: true, packets: [2]uint64{1, 0}, flags: [2]uint8{2, 0}},
	}},
	{"same ports again, the end not seen", after(handshake,
		segment{at: 9 * ms, flags: "S", seq: 7777},
	), []tcpFacts{
		opened(func(*tcpFacts) {})[0],
		{state: flow.StateSynSent, certain: true, packets: [2]uint64{1, 0}, flags: [2]uint8{2, 0}},
	}},
	{"same ports again, picked up midway", []segment{
		{flags: "A", seq: 100, ack: 1000, data: 10},
		{at: 9 * ms, flags: "S", seq: 7777},
	}, []tcpFacts{
		{state: flow.StateMidstream, packets: [2]uint64{1, 0}, flags: [2]uint8{0x10, 0}},
		{state: flow.StateSynSent, certain: true, packets: [2]uint64{1, 0}, flags: [2]uint8{2, 0}},
	}},
	{"same number again after RST is the same attempt", []segment{
		{flags: "S", seq: 99},
		{at: 2 * ms, server: true, flags: "RA", ack: 100},
		{at: 500 * ms, flags: "S", seq: 99},
	}, []tcpFacts{{state: flow.StateSynSent, certain: true, server: 2 * ms, packets: [2]uint64{2, 1}, flags: [2]uint8{2, 0x14},
		retransmissions: [2]uint32{1, 0}, resets: [2]uint16{0, 1}}}},

	{"retransmission", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
		segment{at: 205 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
	), opened(func(f *tcpFacts) { f.packets, f.retransmissions = [2]uint64{4, 1}, [2]uint32{1, 0} })},
	{"retransmission with new bytes", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
		segment{at: 205 * ms, flags: "A", seq: 100, ack: 1000, data: 90},
		segment{at: 206 * ms, flags: "A", seq: 190, ack: 1000, data: 10},
	), opened(func(f *tcpFacts) { f.packets, f.retransmissions = [2]uint64{5, 1}, [2]uint32{1, 0} })},
	{"keep-alive", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
		segment{at: 5000 * ms, flags: "A", seq: 149, ack: 1000, data: 1},
		segment{at: 5001 * ms, flags: "A", seq: 149, ack: 1000},
	), opened(func(f *tcpFacts) { f.packets = [2]uint64{5, 1} })},
	{"overtaken", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50},
		segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
		segment{at: 7 * ms, flags: "A", seq: 200, ack: 1000, data: 50},
	), opened(func(f *tcpFacts) { f.packets, f.gaps, f.outOfOrder = [2]uint64{5, 1}, [2]uint32{1, 0}, [2]uint32{1, 0} })},
	{"overtaken, no handshake seen", []segment{
		{flags: "A", seq: 50, ack: 1, data: 50},
		{at: 5 * ms, flags: "A", seq: 150, ack: 1, data: 50},
		{at: 6 * ms, flags: "A", seq: 100, ack: 1, data: 50},
	}, []tcpFacts{{state: flow.StateMidstream, packets: [2]uint64{3, 0}, flags: [2]uint8{0x10, 0}, gaps: [2]uint32{1, 0}, outOfOrder: [2]uint32{1, 0}}}},
	{"sent again, no handshake seen", []segment{
		{flags: "A", seq: 50, ack: 1, data: 50},
		{at: 5 * ms, flags: "A", seq: 150, ack: 1, data: 50},
		{at: 9 * ms, flags: "A", seq: 100, ack: 1, data: 50},
	}, []tcpFacts{{state: flow.StateMidstream, packets: [2]uint64{3, 0}, flags: [2]uint8{0x10, 0}, gaps: [2]uint32{1, 0}, retransmissions: [2]uint32{1, 0}}}},
	{"lost before the mirror, sent again", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50},
		segment{at: 205 * ms, flags: "A", seq: 100, ack: 1000, data: 50},
	), opened(func(f *tcpFacts) {
		f.packets, f.gaps, f.retransmissions = [2]uint64{4, 1}, [2]uint32{1, 0}, [2]uint32{1, 0}
	})},
	{"a hole filled from the middle, both ends", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 400, ack: 1000, data: 50},
		segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 100},
		segment{at: 6 * ms, flags: "A", seq: 300, ack: 1000, data: 100},
		segment{at: 6 * ms, flags: "A", seq: 200, ack: 1000, data: 100},
		segment{at: 6 * ms, flags: "A", seq: 200, ack: 1000, data: 100},
	), opened(func(f *tcpFacts) {
		f.packets, f.gaps, f.outOfOrder, f.retransmissions = [2]uint64{7, 1}, [2]uint32{1, 0}, [2]uint32{3, 0}, [2]uint32{1, 0}
	})},
	{"three holes, the oldest forgotten", after(handshake,
		segment{at: 5 * ms, flags: "A", seq: 200, ack: 1000, data: 50},
		segment{at: 5 * ms, flags: "A", seq: 300, ack: 1000, data: 50},
		segment{at: 5 * ms, flags: "A", seq: 400, ack: 1000, data: 50},
		segment{at: 6 * ms, flags: "A", seq: 250, ack: 1000, data: 50},
		segment{at: 6 * ms, flags: "A", seq: 350, ack: 1000, data: 50},
		segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 100},
	), opened(func(f *tcpFacts) {
		f.packets, f.gaps, f.outOfOrder, f.retransmissions = [2]uint64{8, 1}, [2]uint32{3, 0}, [2]uint32{2, 0}, [2]uint32{1, 0}
	})},
	{"sequence numbers wrap", []segment{
		{flags: "A", seq: 0xffffffd8, ack: 1, data: 50},
		{at: ms, flags: "A", seq: 10, ack: 1, data: 50},
		{at: 2 * ms, flags: "A", seq: 0xffffffd8, ack: 1, data: 50},
	}, []tcpFacts{{state: flow.StateMidstream, packets: [2]uint64{3, 0}, flags: [2]uint8{0x10, 0}, retransmissions: [2]uint32{1, 0}}}},
	{"zero window, and open again", after(handshake,
		segment{at: 5 * ms, flags: "AZ", seq: 100, ack: 1000},
		segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000},
	), opened(func(f *tcpFacts) { f.packets, f.zeroWindows = [2]uint64{4, 1}, [2]uint32{1, 0} })},
	{"a reset's zero window says nothing", after(handshake,
		segment{at: 5 * ms, flags: "RZ", seq: 100},
	), opened(func(f *tcpFacts) {
		f.packets, f.flags, f.state, f.resets = [2]uint64{3, 1}, [2]uint8{0x16, 0x12}, flow.StateReset, [2]uint16{1, 0}
	})},
}

func TestTCP(t *testing.T) {
	for _, test := range dialogues {
		t.Run(test.name, func(t *testing.T) { talk(t, test.segments, test.want) })
	}
}

// talk gives the segments to a table and compares all flows that come of it.
func talk(t *testing.T, segments []segment, want []tcpFacts) {
	t.Helper()
	c := patient()
	c.Feeds = flow.NewFeeds(8)
	for feed := range uint32(8) {
		c.Feeds.SetDomain(feed, 1)
	}
	table := newTable(t, c)
	for i := range segments {
		segments[i].observe(table)
	}
	flows, counters := drain(table)
	if len(flows) != len(want) {
		t.Fatalf("%d flows, want %d", len(flows), len(want))
	}
	for i := range flows {
		if got := facts(&flows[i]); got != want[i] {
			t.Errorf("flow %d\n got %+v\nwant %+v", i, got, want[i])
		}
		if flows[i].Addr(0) != client4 {
			t.Errorf("flow %d began at %v", i, flows[i].Addr(0))
		}
	}
	if reused := uint64(len(want) - 1); counters[flow.EndedReused] != reused {
		t.Errorf("%d flows ended by reuse, want %d", counters[flow.EndedReused], reused)
	}
}

// TestMirrorDisorder: what the feed's own sequence numbers explain is not the
// network's doing.
func TestMirrorDisorder(t *testing.T) {
	for _, test := range []struct {
		name     string
		segments []segment
		want     []tcpFacts
	}{
		{"the mirror changed the order", after(handshake,
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 12},
			segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 50, number: 11},
		), opened(func(f *tcpFacts) {
			f.packets, f.gaps, f.mirrorReordered = [2]uint64{4, 1}, [2]uint32{1, 0}, [2]uint32{1, 0}
		})},
		{"the network did", after(handshake,
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 11},
			segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 50, number: 12},
		), opened(func(f *tcpFacts) { f.packets, f.gaps, f.outOfOrder = [2]uint64{4, 1}, [2]uint32{1, 0}, [2]uint32{1, 0} })},
		{"the mirror lost one, which comes late after all", after(handshake,
			segment{at: 4 * ms, flags: "A", seq: 100, ack: 1000, number: 10},
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 12, gap: 1},
			segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 50, number: 11},
		), opened(func(f *tcpFacts) {
			f.packets, f.gaps, f.mirrorReordered = [2]uint64{5, 1}, [2]uint32{1, 0}, [2]uint32{1, 0}
		})},
		{"the mirror lost one", after(handshake,
			segment{at: 4 * ms, flags: "A", seq: 100, ack: 1000, number: 10},
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 12, gap: 1},
		), opened(func(f *tcpFacts) { f.packets, f.gaps, f.mirrorGaps = [2]uint64{4, 1}, [2]uint32{1, 0}, [2]uint32{1, 0} })},
		{"the network lost one", after(handshake,
			segment{at: 4 * ms, flags: "A", seq: 100, ack: 1000, number: 10},
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 11},
		), opened(func(f *tcpFacts) { f.packets, f.gaps = [2]uint64{4, 1}, [2]uint32{1, 0} })},
		{"the mirror lost one between packets of the other side", after(handshake,
			segment{at: 4 * ms, flags: "A", seq: 100, ack: 1000, number: 10},
			segment{at: 5 * ms, server: true, flags: "A", seq: 1000, ack: 100, number: 12, gap: 1},
			segment{at: 5 * ms, flags: "A", seq: 150, ack: 1000, data: 50, number: 13},
		), opened(func(f *tcpFacts) { f.packets, f.gaps, f.mirrorGaps = [2]uint64{4, 2}, [2]uint32{1, 0}, [2]uint32{1, 0} })},
		{"the mirror sent one twice", after(handshake,
			segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50, number: 11},
			segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50, number: 11},
		), opened(func(f *tcpFacts) { f.packets, f.mirrorReordered = [2]uint64{4, 1}, [2]uint32{1, 0} })},
		{"seen at two mirrors", after(handshake,
			segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50, feed: 1},
			segment{at: 5 * ms, flags: "A", seq: 100, ack: 1000, data: 50, feed: 2},
		), opened(func(f *tcpFacts) { f.packets, f.copies = [2]uint64{4, 1}, [2]uint32{1, 0} })},
		{"sampled: gaps tell nothing", after(handshake,
			segment{at: 5 * ms, flags: "A", seq: 5000, ack: 1000, data: 50, weight: 10},
			segment{at: 6 * ms, flags: "A", seq: 100, ack: 1000, data: 50, weight: 10},
		), opened(func(f *tcpFacts) { f.packets = [2]uint64{22, 1} })},
	} {
		t.Run(test.name, func(t *testing.T) { talk(t, test.segments, test.want) })
	}
}

// TestDialoguesAreTsharks writes the dialogues to a capture each and compares
// with tshark, so that the expectations above are not only ours.
func TestDialoguesAreTsharks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialogues.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriterNanos(file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for n, test := range dialogues {
		for i := range test.segments {
			s := &test.segments[i]
			frame := s.frame()
			// A dialogue has addresses of its own in the one file.
			own := netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}).As4()
			at := 26
			if s.server {
				at = 30
			}
			copy(frame[at:], own[:])
			binary.BigEndian.PutUint16(frame[24:], 0)
			time := start + uint64(n)*1e12 + uint64(s.at)
			err := w.WritePacket(gopacket.CaptureInfo{Timestamp: unixNano(time), CaptureLength: len(frame), Length: len(frame)}, frame)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	compare(t, path, dissect(t, path, "frame"), "tcp", "ip")
}

func unixNano(ns uint64) time.Time { return time.Unix(int64(ns/1e9), int64(ns%1e9)) }
