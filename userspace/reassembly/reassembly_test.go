package reassembly_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	. "github.com/unspan/unspan/userspace/reassembly"
)

func mustNew(tb testing.TB, config Config) *Reassembler {
	tb.Helper()
	r, err := New(config)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// checkLedger asserts that every fragment is in exactly one box.
func checkLedger(tb testing.TB, r *Reassembler) Stats {
	tb.Helper()
	s := r.Stats()
	if s.Fragments != s.Held+s.Reassembled+s.Lost() {
		tb.Fatalf("%d fragments, but %d held + %d reassembled + %d given up: %+v",
			s.Fragments, s.Held, s.Reassembled, s.Lost(), s)
	}
	return s
}

// givenUp is the boxes that are not empty.
func givenUp(s Stats) map[Reason]uint64 {
	boxes := map[Reason]uint64{}
	for reason, n := range s.GivenUp {
		if n != 0 {
			boxes[Reason(reason)] = n
		}
	}
	return boxes
}

func sameBoxes(a, b map[Reason]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for reason, n := range a {
		if b[reason] != n {
			return false
		}
	}
	return true
}

// eth puts IPv4 packets into Ethernet frames.
func eth(packets ...[]byte) []Fragment {
	var fragments []Fragment
	for _, p := range packets {
		fragments = append(fragments, Fragment{Data: join(ethernet(ipv4), p)})
	}
	return fragments
}

func eth6(packets ...[]byte) []Fragment {
	var fragments []Fragment
	for _, p := range packets {
		fragments = append(fragments, Fragment{Data: join(ethernet(ipv6), p)})
	}
	return fragments
}

// with changes one byte.
func with(packet []byte, at int, value byte) []byte {
	changed := bytes.Clone(packet)
	changed[at] = value
	return changed
}

func TestAdd(t *testing.T) {
	all := pattern(100)
	first, middle, last := all[:40], all[40:80], all[80:]
	whole := [][]byte{join(ethernet(ipv4), ip4Whole(9, all))}
	whole6 := [][]byte{join(ethernet(ipv6), ip6Whole(all))}
	options := []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0} // record route, and end of options
	hopByHop := extension{0, []byte{0, 0, 1, 4, 0, 0, 0, 0}}
	destination := extension{60, []byte{0, 0, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	longest := make([]byte, 264)

	tests := []struct {
		name    string
		in      []Fragment
		want    [][]byte
		givenUp map[Reason]uint64
		held    uint64
	}{
		{"in order", eth(ip4(9, 0, true, first), ip4(9, 40, true, middle), ip4(9, 80, false, last)), whole, nil, 0},
		{"last first", eth(ip4(9, 80, false, last), ip4(9, 40, true, middle), ip4(9, 0, true, first)), whole, nil, 0},
		{"middle last", eth(ip4(9, 80, false, last), ip4(9, 0, true, first), ip4(9, 40, true, middle)), whole, nil, 0},
		{"options of the first", eth(ip4(9, 40, false, all[40:]), ip4(9, 0, true, first, options...)),
			[][]byte{join(ethernet(ipv4), ip4Whole(9, all, options...))}, nil, 0},
		{"padding behind the IP length", []Fragment{
			{Data: join(ethernet(ipv4), ip4(9, 0, true, first), pattern(7))},
			{Data: join(ethernet(ipv4), ip4(9, 40, false, all[40:]), make([]byte, 46))},
		}, whole, nil, 0},
		{"VLAN tags of the first", []Fragment{
			{Data: join(ethernet(ipv4, 0x6005, 7), ip4(9, 40, false, all[40:]))},
			{Data: join(ethernet(ipv4, 5, 7), ip4(9, 0, true, first))},
		}, [][]byte{join(ethernet(ipv4, 5, 7), ip4Whole(9, all))}, nil, 0},
		{"priority tag is no VLAN", []Fragment{
			{Data: join(ethernet(ipv4, 0xa000), ip4(9, 40, false, all[40:]))},
			{Data: join(ethernet(ipv4), ip4(9, 0, true, first))},
		}, whole, nil, 0},
		{"nor is a second one", []Fragment{
			{Data: join(ethernet(ipv4, 5, 0xa000), ip4(9, 40, false, all[40:]))},
			{Data: join(ethernet(ipv4, 5), ip4(9, 0, true, first))},
		}, [][]byte{join(ethernet(ipv4, 5), ip4Whole(9, all))}, nil, 0},
		{"two VLANs do not mix", []Fragment{
			{Data: join(ethernet(ipv4, 5), ip4(9, 0, true, first))},
			{Data: join(ethernet(ipv4, 6), ip4(9, 40, false, all[40:]))},
		}, nil, nil, 2},
		{"two depths do not mix", []Fragment{
			{Data: join(ethernet(ipv4), ip4(9, 0, true, first))},
			{Data: join(ethernet(ipv4), ip4(9, 40, false, all[40:])), Depth: 1},
		}, nil, nil, 2},
		{"raw IP", []Fragment{
			{Data: ip4(9, 0, true, first), RawIP: true},
			{Data: ip4(9, 40, false, all[40:]), RawIP: true},
		}, [][]byte{ip4Whole(9, all)}, nil, 0},
		{"raw and framed do not mix", []Fragment{
			{Data: ip4(9, 0, true, first), RawIP: true},
			{Data: join(ethernet(ipv4), ip4(9, 40, false, all[40:]))},
		}, nil, nil, 2},
		{"two datagrams, interleaved", eth(
			ip4(9, 0, true, first), ip4(10, 40, false, all[40:]),
			ip4(9, 40, false, all[40:]), ip4(10, 0, true, first)),
			[][]byte{join(ethernet(ipv4), ip4Whole(9, all)), join(ethernet(ipv4), ip4Whole(10, all))}, nil, 0},
		{"protocol tells IPv4 datagrams apart", eth(
			ip4(9, 0, true, first), with(ip4(9, 40, false, all[40:]), 9, 17)), nil, nil, 2},
		{"don't fragment is kept", eth(
			with(ip4(9, 0, true, first), 6, 0x60), with(ip4(9, 40, false, all[40:]), 6, 0x40)),
			[][]byte{join(ethernet(ipv4), with(with(ip4Whole(9, all), 6, 0x40), 10, ip4Whole(9, all)[10]-0x40))}, nil, 0},

		{"duplicate of a middle one", eth(ip4(9, 0, true, first), ip4(9, 40, true, middle), ip4(9, 40, true, middle),
			ip4(9, 80, false, last)), whole, map[Reason]uint64{Duplicate: 1}, 0},
		{"duplicate of the last, of odd length", eth(ip4(9, 80, false, last[:19]), ip4(9, 80, false, last[:19]),
			ip4(9, 0, true, all[:80])), [][]byte{join(ethernet(ipv4), ip4Whole(9, all[:99]))}, map[Reason]uint64{Duplicate: 1}, 0},
		{"late duplicate waits in vain", eth(ip4(9, 0, true, first), ip4(9, 40, false, all[40:]), ip4(9, 0, true, first)),
			whole, nil, 1},
		{"same place, other bytes", eth(ip4(9, 0, true, first), ip4(9, 0, true, middle)),
			nil, map[Reason]uint64{Overlap: 2}, 0},
		{"same place, longer", eth(ip4(9, 0, true, first), ip4(9, 0, true, all[:48])),
			nil, map[Reason]uint64{Overlap: 2}, 0},
		{"inside another", eth(ip4(9, 0, true, all[:80]), ip4(9, 40, true, middle)),
			nil, map[Reason]uint64{Overlap: 2}, 0},
		{"two at once", eth(ip4(9, 0, true, first), ip4(9, 40, true, middle), ip4(9, 0, true, all[:80])),
			nil, map[Reason]uint64{Overlap: 3}, 0},
		{"behind the start of one and to the end of the next", eth(ip4(9, 0, true, first), ip4(9, 40, true, middle), ip4(9, 8, true, all[8:80])),
			nil, map[Reason]uint64{Overlap: 3}, 0},
		{"overlap kills what comes later", eth(ip4(9, 0, true, first), ip4(9, 32, true, middle),
			ip4(9, 40, true, middle), ip4(9, 80, false, last)), nil, map[Reason]uint64{Overlap: 4}, 0},
		{"two ends", eth(ip4(9, 40, false, all[40:]), ip4(9, 80, false, last[:8])),
			nil, map[Reason]uint64{Inconsistent: 2}, 0},
		{"end before what is here", eth(ip4(9, 80, true, last[:16]), ip4(9, 40, false, middle)),
			nil, map[Reason]uint64{Inconsistent: 2}, 0},
		{"more behind the end", eth(ip4(9, 40, false, middle), ip4(9, 80, true, last[:16])),
			nil, map[Reason]uint64{Inconsistent: 2}, 0},
		{"last says more, too", eth(ip4(9, 40, false, middle), ip4(9, 40, true, middle)),
			nil, map[Reason]uint64{Inconsistent: 2}, 0},
		{"not a multiple of eight", eth(ip4(9, 0, true, first[:39])), nil, map[Reason]uint64{Misaligned: 1}, 0},
		{"beyond 65,535", eth(ip4(9, 65528, false, all[:8])), nil, map[Reason]uint64{TooBig: 1}, 0},
		{"not a fragment", eth(ip4Whole(9, all)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"empty", eth(ip4(9, 40, true, nil)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"cut", eth(ip4(9, 40, true, middle)[:59]), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"header length 4", eth(with(ip4(9, 0, true, first), 0, 0x44)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"header longer than the packet", eth(with(ip4(9, 0, true, first[:8]), 0, 0x4f)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"version 5", eth(with(ip4(9, 0, true, first), 0, 0x55)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"version 6 behind EtherType of 4", eth(ip6(9, 0, true, first)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"ARP", []Fragment{{Data: join(ethernet(0x0806), pattern(46))}}, nil, map[Reason]uint64{Malformed: 1}, 0},
		{"three VLANs", []Fragment{{Data: join(ethernet(ipv4, 1, 2, 3), ip4(9, 0, true, first))}}, nil, map[Reason]uint64{Malformed: 1}, 0},
		{"nothing", []Fragment{{}, {RawIP: true}}, nil, map[Reason]uint64{Malformed: 2}, 0},

		{"IPv6", eth6(ip6(9, 40, true, middle), ip6(9, 80, false, last), ip6(9, 0, true, first)), whole6, nil, 0},
		{"IPv6 raw", []Fragment{{Data: ip6(9, 0, true, first), RawIP: true}, {Data: ip6(9, 40, false, all[40:]), RawIP: true}},
			[][]byte{ip6Whole(all)}, nil, 0},
		{"IPv6 extension headers of the first", eth6(ip6(9, 40, false, all[40:]), ip6(9, 0, true, first, hopByHop, destination)),
			[][]byte{join(ethernet(ipv6), ip6Whole(all, hopByHop, destination))}, nil, 0},
		{"IPv6 next header of the first alone counts", eth6(ip6(9, 0, true, first), with(ip6(9, 40, false, all[40:]), 40, 17)),
			whole6, nil, 0},
		{"IPv6 padding", []Fragment{
			{Data: join(ethernet(ipv6), ip6(9, 0, true, first), pattern(9))},
			{Data: join(ethernet(ipv6), ip6(9, 40, false, all[40:]))}}, whole6, nil, 0},
		{"IPv6 ids of 32 bits", eth6(ip6(9, 0, true, first), ip6(9+1<<16, 40, false, all[40:])), nil, nil, 2},
		{"IPv6 atomic fragment", eth6(ip6(9, 0, true, first), ip6(9, 0, false, all)), whole6, nil, 1},
		{"IPv6 duplicate", eth6(ip6(9, 0, true, first), ip6(9, 0, true, first), ip6(9, 40, false, all[40:])),
			whole6, map[Reason]uint64{Duplicate: 1}, 0},
		{"IPv6 overlap", eth6(ip6(9, 0, true, first), ip6(9, 32, true, middle), ip6(9, 72, false, last)),
			nil, map[Reason]uint64{Overlap: 3}, 0},
		{"IPv6 not a multiple of eight", eth6(ip6(9, 0, true, first[:39])), nil, map[Reason]uint64{Misaligned: 1}, 0},
		{"IPv6 beyond 65,535", eth6(ip6(9, 65528, false, all[:8])), nil, map[Reason]uint64{TooBig: 1}, 0},
		{"IPv6 beyond 65,535 with its extension header", eth6(ip6(9, 65520, false, all[:8], hopByHop)), nil, map[Reason]uint64{TooBig: 1}, 0},
		{"IPv6 beyond 65,535 with the first's extension header", eth6(ip6(9, 65520, false, all[:15]), ip6(9, 0, true, first, hopByHop)),
			nil, map[Reason]uint64{TooBig: 2}, 0},
		{"IPv6 beyond 65,535 with the last one's end", eth6(ip6(9, 0, true, first, hopByHop), ip6(9, 65520, false, all[:15])),
			nil, map[Reason]uint64{TooBig: 2}, 0},
		{"IPv6 not a fragment", eth6(ip6Whole(all)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 empty", eth6(ip6(9, 40, true, nil)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 cut", eth6(ip6(9, 0, true, first)[:87]), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 ends in an extension header", eth6(ip6Chain(nil, hopByHop)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 extension header beyond the end", eth6(with(ip6(9, 0, true, first, hopByHop), 41, 200)), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 headers longer than the room for them", eth6(ip6(9, 0, true, first, extension{60, longest})), nil, map[Reason]uint64{Malformed: 1}, 0},
		{"IPv6 jumbogram cannot be a fragment", eth6(with(with(ip6(9, 0, true, first), 4, 0), 5, 0)), nil, map[Reason]uint64{Malformed: 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Default())
			var got [][]byte
			for _, f := range tt.in {
				if d, ok := r.Add(f); ok {
					got = append(got, bytes.Clone(d.Frame))
				}
				checkLedger(t, r)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d datagrams, want %d", len(got), len(tt.want))
			}
			for i := range got {
				if !bytes.Equal(got[i], tt.want[i]) {
					t.Errorf("datagram %d\n got %x\nwant %x", i, got[i], tt.want[i])
				}
			}
			s := r.Stats()
			if boxes := givenUp(s); !sameBoxes(boxes, tt.givenUp) {
				t.Errorf("given up %v, want %v", boxes, tt.givenUp)
			}
			if s.Held != tt.held {
				t.Errorf("%d held, want %d", s.Held, tt.held)
			}
			if s.Datagrams != uint64(len(tt.want)) {
				t.Errorf("%d datagrams counted, want %d", s.Datagrams, len(tt.want))
			}
		})
	}
}

func TestDatagram(t *testing.T) {
	r := mustNew(t, Default())
	all := pattern(3000)
	if _, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(9, 1480, false, all[1480:])), Time: 5,
		Record: bpf.Record{Sequence: 1}}); ok {
		t.Fatal("complete with the last fragment alone")
	}
	got, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(9, 0, true, all[:1480])), Time: 7,
		Record: bpf.Record{Sequence: 2, Feed: 3, Flags: bpf.RecordFragment | bpf.RecordSequence}})
	if !ok {
		t.Fatal("not complete")
	}
	want := bpf.Record{Sequence: 2, Feed: 3, Flags: bpf.RecordFragment | bpf.RecordSequence}
	if got.Record != want || got.Time != 7 || got.Fragments != 2 {
		t.Errorf("record %+v, time %d, %d fragments; want the first fragment's %+v, the completing one's 7, 2",
			got.Record, got.Time, got.Fragments, want)
	}
}

// The longest IPv4 payload does not fit the total length field together with its
// header.
func TestLongest(t *testing.T) {
	all := pattern(MaxPayload)
	for _, tt := range []struct {
		name    string
		payload []byte
		length  uint16
	}{
		{"total fits", all[:65515], 65535},
		{"total one too long", all[:65516], 0},
		{"payload of 65,535", all, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Default())
			for offset := 0; ; offset += 1480 {
				end := min(offset+1480, len(tt.payload))
				d, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(9, offset, end < len(tt.payload), tt.payload[offset:end]))})
				if end < len(tt.payload) {
					if ok {
						t.Fatalf("complete at %d", end)
					}
					continue
				}
				if !ok {
					t.Fatal("not complete")
				}
				if got := binary.BigEndian.Uint16(d.Frame[16:]); got != tt.length {
					t.Errorf("total length %d, want %d", got, tt.length)
				}
				if !bytes.Equal(d.Frame[34:], tt.payload) {
					t.Error("payload differs")
				}
				break
			}
			checkLedger(t, r)
		})
	}
}

func TestAge(t *testing.T) {
	second := uint64(time.Second)
	first := Fragment{Data: join(ethernet(ipv4), ip4(9, 0, true, pattern(8)))}
	rest := Fragment{Data: join(ethernet(ipv4), ip4(9, 8, false, pattern(8)))}
	for _, tt := range []struct {
		name     string
		at       [2]uint64
		complete bool
		boxes    map[Reason]uint64
	}{
		{"within", [2]uint64{100 * second, 105 * second}, true, nil},
		{"too late", [2]uint64{100 * second, 105*second + 1}, false, map[Reason]uint64{Timeout: 1}},
		{"time runs back a little", [2]uint64{100 * second, 99 * second}, true, nil},
		{"time jumps back", [2]uint64{100 * second, 10 * second}, false, map[Reason]uint64{Timeout: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Default())
			first.Time, rest.Time = tt.at[0], tt.at[1]
			if _, ok := r.Add(first); ok {
				t.Fatal("complete with one of two")
			}
			if _, ok := r.Add(rest); ok != tt.complete {
				t.Errorf("complete: %v, want %v", ok, tt.complete)
			}
			s := checkLedger(t, r)
			if boxes := givenUp(s); !sameBoxes(boxes, tt.boxes) {
				t.Errorf("given up %v, want %v", boxes, tt.boxes)
			}
		})
	}
}

func TestExpire(t *testing.T) {
	r := mustNew(t, Config{Memory: 1 << 20, Datagrams: 10, Age: time.Second})
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(1, 0, true, pattern(8))), Time: 10})
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(1, 0, true, pattern(16))), Time: 11}) // overlap: remembered
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(2, 0, true, pattern(8))), Time: 20})
	if s := r.Stats(); s.Waiting != 2 || s.Held != 1 {
		t.Fatalf("%d waiting, %d held, want 2 and 1", s.Waiting, s.Held)
	}
	r.Expire(10 + uint64(time.Second) + 1)
	if s := r.Stats(); s.Waiting != 1 || s.Held != 1 {
		t.Errorf("%d waiting, %d held, want 1 and 1", s.Waiting, s.Held)
	}
	r.Expire(20 + uint64(time.Second) + 1)
	s := checkLedger(t, r)
	want := map[Reason]uint64{Overlap: 2, Timeout: 1}
	if boxes := givenUp(s); s.Waiting != 0 || !sameBoxes(boxes, want) {
		t.Errorf("%d waiting, given up %v, want 0 and %v", s.Waiting, boxes, want)
	}
}

func TestDatagramsLimit(t *testing.T) {
	r := mustNew(t, Config{Memory: 64 << 20, Datagrams: 10, Age: time.Second})
	for id := range uint16(25) {
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 0, true, pattern(8)))})
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 16, true, pattern(8)))})
	}
	s := checkLedger(t, r)
	want := map[Reason]uint64{EvictedDatagrams: 30}
	if boxes := givenUp(s); s.Waiting != 10 || s.Held != 20 || !sameBoxes(boxes, want) {
		t.Errorf("%d waiting, %d held, given up %v; want 10, 20, %v", s.Waiting, s.Held, boxes, want)
	}
	// The newest are there.
	for id := uint16(15); id < 25; id++ {
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 8, true, pattern(8)))})
		if _, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 24, false, pattern(8)))}); !ok {
			t.Errorf("datagram %d is gone", id)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	const limit = 256 << 10
	r := mustNew(t, Config{Memory: limit, Datagrams: 1000, Age: time.Second})
	for id := range uint16(500) {
		// Small ones and, every third, one that claims the whole 64 KiB.
		offset := 0
		if id%3 == 0 {
			offset = 65000
		}
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, offset, true, pattern(8)))})
		if s := checkLedger(t, r); s.Memory > limit {
			t.Fatalf("%d bytes in use, limit %d", s.Memory, limit)
		}
	}
	s := r.Stats()
	want := map[Reason]uint64{EvictedMemory: 500 - s.Held}
	if boxes := givenUp(s); s.Held == 0 || !sameBoxes(boxes, want) {
		t.Errorf("%d held, given up %v, want %v", s.Held, boxes, want)
	}

	// Small buffers make place for large ones.
	r = mustNew(t, Config{Memory: limit, Datagrams: 1000, Age: time.Second})
	for id := range uint16(50) {
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 0, true, pattern(8)))})
	}
	r.Expire(uint64(2 * time.Second))
	for id := range uint16(3) {
		r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, 65000, true, pattern(8))), Time: uint64(2 * time.Second)})
	}
	s = checkLedger(t, r)
	if want := (map[Reason]uint64{Timeout: 50}); s.Held != 3 || !sameBoxes(givenUp(s), want) {
		t.Errorf("%d held, given up %v; want 3, %v", s.Held, givenUp(s), want)
	}

	// One that grows does not make place for itself by going.
	r = mustNew(t, Config{Memory: 128 << 10, Datagrams: 1000, Age: time.Second})
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(1, 0, true, pattern(64)))})
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(2, 65000, true, pattern(64)))})
	r.Add(Fragment{Data: join(ethernet(ipv4), ip4(1, 65000, true, pattern(64)))})
	s = checkLedger(t, r)
	if want := (map[Reason]uint64{EvictedMemory: 1}); s.Held != 2 || s.Waiting != 1 || !sameBoxes(givenUp(s), want) {
		t.Errorf("%d held of %d, given up %v; want 2 of 1, %v", s.Held, s.Waiting, givenUp(s), want)
	}

	// One datagram that grows through all sizes fits the smallest limit.
	r = mustNew(t, Config{Memory: 128 << 10, Datagrams: 1000, Age: time.Second})
	all := pattern(65528)
	for offset := 0; offset < len(all); offset += 8 {
		d, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(7, offset, offset+8 < len(all), all[offset:offset+8]))})
		if ok != (offset+8 == len(all)) {
			t.Fatalf("complete: %v at %d", ok, offset)
		}
		if ok && !bytes.Equal(d.Frame[34:], all) {
			t.Error("payload differs")
		}
	}
}

// An IPv4 id that comes round again must not be mixed with what was left of its last
// use (RFC 4963).
func TestReuse(t *testing.T) {
	for _, tt := range []struct {
		name     string
		between  int // datagrams of two fragments
		complete bool
		boxes    map[Reason]uint64
	}{
		{"out of order", 2000, true, nil},
		{"used again", 2100, false, map[Reason]uint64{Reused: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Default())
			r.Add(Fragment{Data: join(ethernet(ipv4), ip4(0, 0, true, pattern(8)))})
			for i := range tt.between {
				r.Add(Fragment{Data: join(ethernet(ipv4), ip4(uint16(i+1), 0, true, pattern(8)))})
				if _, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(uint16(i+1), 8, false, pattern(8)))}); !ok {
					t.Fatalf("datagram %d is not complete", i+1)
				}
			}
			if _, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(0, 8, false, pattern(8)))}); ok != tt.complete {
				t.Errorf("complete: %v, want %v", ok, tt.complete)
			}
			s := checkLedger(t, r)
			if boxes := givenUp(s); !sameBoxes(boxes, tt.boxes) {
				t.Errorf("given up %v, want %v", boxes, tt.boxes)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		change func(*Config)
		want   string // "" is valid
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Memory = 128<<10 - 1 }, "memory:"},
		{func(c *Config) { c.Datagrams = 0 }, "datagrams:"},
		{func(c *Config) { c.Datagrams = 1<<20 + 1 }, "datagrams:"},
		{func(c *Config) { c.Age = 0 }, "age:"},
	} {
		config := Default()
		tt.change(&config)
		_, err := New(config)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", config, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one that says %q", config, err, tt.want)
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for reason := range ReasonCount {
		name := reason.String()
		if name == "" || strings.Contains(name, "(") || seen[name] {
			t.Errorf("reason %d is called %q", reason, name)
		}
		seen[name] = true
	}
	if got := ReasonCount.String(); got != "reason(10)" {
		t.Errorf("out of range: %q", got)
	}
}

// Stats is read while the owner works; the race detector watches.
func TestStatsConcurrently(t *testing.T) {
	r := mustNew(t, Default())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			if s := r.Stats(); s.Reassembled > s.Fragments {
				t.Errorf("%d of %d fragments reassembled", s.Reassembled, s.Fragments)
			}
		}
	}()
	a := Fragment{Data: join(ethernet(ipv4), ip4(9, 0, true, pattern(1480)))}
	b := Fragment{Data: join(ethernet(ipv4), ip4(9, 1480, false, pattern(70)))}
	for range 1000 {
		r.Add(a)
		r.Add(b)
	}
	<-done
	if s := checkLedger(t, r); s.Datagrams != 1000 {
		t.Errorf("%d datagrams, want 1000", s.Datagrams)
	}
}

func TestNoGarbage(t *testing.T) {
	r := mustNew(t, Default())
	add := twoAndMany(t, r)
	add()
	if n := testing.AllocsPerRun(100, add); n != 0 {
		t.Errorf("%v allocations a round, want none", n)
	}
}

// twoAndMany returns a round of work: datagrams in two fragments and in 44, in order
// and not.
func twoAndMany(tb testing.TB, r *Reassembler) func() {
	var in []Fragment
	for id := range uint16(8) {
		size := 1534
		if id%4 == 3 {
			size = 65000
		}
		all := pattern(size)
		var out []Fragment
		for offset := 0; offset < size; offset += 1480 {
			end := min(offset+1480, size)
			out = append(out, Fragment{Data: join(ethernet(ipv4), ip4(id, offset, end < size, all[offset:end]))})
		}
		if id%2 == 1 {
			for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
				out[i], out[j] = out[j], out[i]
			}
		}
		in = append(in, out...)
	}
	return func() {
		whole := 0
		for i := range in {
			if _, ok := r.Add(in[i]); ok {
				whole++
			}
		}
		if whole != 8 {
			tb.Fatalf("%d datagrams, want 8", whole)
		}
	}
}

// BenchmarkAdd measures a fragment of a datagram of two, which is what a full frame
// becomes on a path of 1500 bytes.
func BenchmarkAdd(b *testing.B) {
	r := mustNew(b, Default())
	one := Fragment{Data: join(ethernet(ipv4), ip4(9, 0, true, pattern(1480)))}
	two := Fragment{Data: join(ethernet(ipv4), ip4(9, 1480, false, pattern(70)))}
	b.ReportAllocs()
	for b.Loop() {
		r.Add(one)
		if _, ok := r.Add(two); !ok {
			b.Fatal("not complete")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/fragment")
}
