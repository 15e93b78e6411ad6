package flow_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// fragments cuts a frame into fragments of eight bytes each behind the IP header.
func fragments(frame []byte, id uint16) [][]byte {
	if binary.BigEndian.Uint16(frame[12:]) == 0x86dd {
		return fragments6(frame, id)
	}
	header, payload := frame[:34], frame[34:]
	var all [][]byte
	for at := 0; at < len(payload); at += 8 {
		piece := payload[at:min(at+8, len(payload))]
		f := append(append([]byte(nil), header...), piece...)
		binary.BigEndian.PutUint16(f[16:], uint16(20+len(piece)))
		binary.BigEndian.PutUint16(f[18:], id)
		field := uint16(at / 8)
		if at+8 < len(payload) {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(f[20:], field)
		all = append(all, f)
	}
	return all
}

func fragments6(frame []byte, id uint16) [][]byte {
	header, payload := frame[:54], frame[54:]
	var all [][]byte
	for at := 0; at < len(payload); at += 8 {
		piece := payload[at:min(at+8, len(payload))]
		f := append([]byte(nil), header...)
		field := uint16(at)
		if at+8 < len(payload) {
			field |= 1
		}
		f = append(f, header[20], 0, byte(field>>8), byte(field), 0, 0, byte(id>>8), byte(id))
		f = append(f, piece...)
		f[20] = 44
		binary.BigEndian.PutUint16(f[18:], uint16(8+len(piece)))
		all = append(all, f)
	}
	return all
}

func TestFragments(t *testing.T) {
	tcp := func() []byte { s := segment{flags: "A", seq: 100, ack: 1, data: 20}; return s.frame() }()
	four, six := fragments(udp4(), 7), fragments(udp6(), 7)
	tcps := fragments(tcp, 7)
	type packet struct {
		at    time.Duration
		frame []byte
		feed  uint32
	}
	type facts struct {
		port    [2]uint16
		packets uint64
		first   time.Duration
	}
	dns, none := [2]uint16{40000, 53}, [2]uint16{}
	for _, test := range []struct {
		name    string
		packets []packet
		want    []facts
		orphans uint64
	}{
		{"in order", []packet{{0, four[0], 1}, {1, four[1], 1}}, []facts{{dns, 2, 0}}, 0},
		{"the first comes last", []packet{{0, four[1], 1}, {ms, four[0], 1}}, []facts{{dns, 2, 0}}, 0},
		{"IPv6 in order", []packet{{0, six[0], 1}, {1, six[1], 1}}, []facts{{dns, 2, 0}}, 0},
		{"IPv6, the first comes last", []packet{{0, six[1], 1}, {ms, six[0], 1}}, []facts{{dns, 2, 0}}, 0},
		{"the first never comes", []packet{{0, four[1], 1}, {ms, four[1], 1}}, []facts{{none, 2, 0}}, 2},
		{"the first comes too late", []packet{{0, four[1], 1}, {40 * time.Second, four[0], 1}}, []facts{{none, 1, 0}, {dns, 1, 40 * time.Second}}, 1},
		{"the second comes too late", []packet{{0, four[0], 1}, {40 * time.Second, four[1], 1}}, []facts{{dns, 1, 0}, {none, 1, 40 * time.Second}}, 1},
		{"another identification", []packet{{0, four[0], 1}, {1, fragments(udp4(), 8)[1], 1}}, []facts{{dns, 1, 0}, {none, 1, 1}}, 1},
		{"another protocol", []packet{{0, four[0], 1}, {1, set(four[1], 23, 132), 1}}, []facts{{dns, 1, 0}, {none, 1, 1}}, 1},
		{"another feed", []packet{{0, four[0], 1}, {1, four[1], 2}}, []facts{{dns, 1, 0}, {none, 1, 1}}, 1},
		{"another VLAN", []packet{{0, four[0], 1}, {1, shim(four[1], 0x8100, 0, 9), 1}}, []facts{{dns, 1, 0}, {none, 1, 1}}, 1},
		{"identification used again", []packet{{0, four[0], 1}, {1, set(four[0], 36, 0, 99), 1}, {2, four[1], 1}},
			[]facts{{dns, 1, 0}, {[2]uint16{40000, 99}, 2, 1}}, 0},
		{"ports beyond the first fragment", []packet{{0, four[0][:36], 1}, {1, four[1], 1}}, []facts{{none, 2, 0}}, 0},
		{"TCP, six pieces, the next segment in order", append(func() (p []packet) {
			for i, f := range tcps {
				p = append(p, packet{time.Duration(i), f, 1})
			}
			return p
		}(), packet{ms, (&segment{flags: "A", seq: 120, ack: 1, data: 20}).frame(), 1}), []facts{{[2]uint16{40000, 443}, 6, 0}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := patient()
			table := newTable(t, c)
			bytes := uint64(0)
			for _, p := range test.packets {
				table.Observe(&bpf.Record{Feed: p.feed}, p.frame, len(p.frame), start+uint64(p.at))
				bytes += uint64(len(p.frame))
			}
			flows, counters := drain(table)
			if len(flows) != len(test.want) {
				t.Fatalf("%d flows, want %d: %+v", len(flows), len(test.want), flows)
			}
			for _, f := range flows {
				bytes -= f.Bytes[0]
				found := false
				for _, w := range test.want {
					found = found || w == facts{f.Port, f.Packets[0], time.Duration(f.First - start)}
				}
				if !found {
					t.Errorf("flow with ports %d, %d packets, first %v", f.Port, f.Packets[0], time.Duration(f.First-start))
				}
				if f.Gaps != [2]uint32{} || f.Retransmissions != [2]uint32{} || f.OutOfOrder != [2]uint32{} {
					t.Errorf("gaps %d, retransmissions %d, out of order %d", f.Gaps, f.Retransmissions, f.OutOfOrder)
				}
			}
			if bytes != 0 {
				t.Errorf("%d bytes lost", bytes)
			}
			if counters[flow.Orphans] != test.orphans || counters[flow.Tracked] != uint64(len(test.packets)) {
				t.Errorf("%v", counters)
			}
		})
	}
}

// TestFragmentFlood: more datagrams than are remembered. No packet is lost, and
// no memory is taken.
func TestFragmentFlood(t *testing.T) {
	c := patient()
	c.Flows, c.Datagrams = 1<<10, 16
	table := newTable(t, c)
	for id := range uint16(5000) {
		f := fragments(udp4(), id)[1]
		table.Observe(&bpf.Record{Feed: 1}, f, len(f), start+uint64(id)*1000)
	}
	flows, counters := drain(table)
	if len(flows) != 1 || flows[0].Packets != [2]uint64{5000, 0} || flows[0].Port != [2]uint16{} {
		t.Errorf("%d flows: %+v", len(flows), flows)
	}
	if counters[flow.Orphans] != 5000 {
		t.Errorf("%v", counters)
	}
}

// TestHeldFragmentsAreReleased after a while though nothing replaces them.
func TestHeldFragmentsAreReleased(t *testing.T) {
	c := patient()
	c.Datagrams = 4
	table := newTable(t, c)
	f := fragments(udp4(), 1)[1]
	table.Observe(&bpf.Record{Feed: 1}, f, len(f), start)
	table.Tick(start + 29e9)
	if got := table.Counters(); got[flow.Orphans] != 0 || got[flow.Created] != 0 {
		t.Errorf("released early: %v", got)
	}
	table.Tick(start + 31e9)
	table.Tick(start + 32e9)
	if got := table.Counters(); got[flow.Orphans] != 1 || got[flow.Created] != 1 {
		t.Errorf("not released: %v", got)
	}
}
