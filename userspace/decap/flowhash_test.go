package decap_test

import (
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
)

// flowHash is the hash of a frame's flow, as a tap's frame has it.
func flowHash(t *testing.T, frame []byte) uint32 {
	t.Helper()
	s := everything()
	only(bpf.EncapNative)(&s)
	rec, _, v := s.engine().Decap(slices.Clone(frame), now)
	if v != bpf.RedirectInner {
		t.Fatalf("verdict %s", bpf.VerdictName(v))
	}
	return rec.FlowHash
}

// swap exchanges two fields of n bytes.
func swap(frame []byte, a, b, n int) []byte {
	return with(with(frame, a, frame[b:b+n]...), b, frame[a:a+n]...)
}

// TestFlowHash: which frames belong together.
func TestFlowHash(t *testing.T) {
	four := inside
	six := eth(0x86dd, insideIP6)
	mac := with(inside, 12, 0x88, 0xcc)
	back4 := swap(swap(swap(four, 0, 6, 6), l3+12, l3+16, 4), l4, l4+2, 2)
	back6 := swap(swap(swap(six, 0, 6, 6), l3+8, l3+24, 16), l3+40, l3+42, 2)
	options := join(with(four, l3, 0x46)[:l4], []byte{1, 1, 1, 1}, four[l4:])
	rows := []struct {
		name       string
		one, other []byte
		same       bool
	}{
		{"ip4, the way back", four, back4, true},
		{"ip6, the way back", six, back6, true},
		{"not ip, the way back", mac, swap(mac, 0, 6, 6), true},
		{"one tag", four, tagged(four, 7), true},
		{"two tags", four, tagged(tagged(four, 7), 8), true},
		{"other MACs", four, with(four, 5, 9), true},
		{"ip4 options", four, options, true},
		{"longer", four, join(four, make([]byte, 100)), true},
		{"first fragment and a later one", fragment4(four, 0, true), with(fragment4(four, 1480, false), l4, 1, 2, 3, 4), true},
		{"ip6 fragment and another protocol", with(six, l3+6, 44), with(six, l3+6, 60), true},
		{"other source", four, with(four, l3+15, 9), false},
		{"other destination", four, with(four, l3+19, 9), false},
		{"other source port", four, with(four, l4+1, 9), false},
		{"other destination port", four, with(four, l4+3, 9), false},
		{"ports of the ends exchanged", four, swap(four, l4, l4+2, 2), false},
		{"tcp and udp", four, with(four, l3+9, 6), false},
		{"sctp has ports", with(four, l3+9, 132), with(four, l3+9, 132, 0, 0, four[l3+12], four[l3+13], four[l3+14], four[l3+15], four[l3+16], four[l3+17], four[l3+18], four[l3+19], 9, 9), false},
		{"icmp has none", with(four, l3+9, 1), with(with(four, l3+9, 1), l4, 9, 9), true},
		{"ip6 other port", six, with(six, l3+40, 9), false},
		{"ip6 other source", six, with(six, l3+8, 0x30), false},
		{"ip6 other interface", six, with(six, l3+23, 9), false},
		{"other ethertype", mac, with(mac, 13, 0xcd), false},
		{"other MAC", mac, with(mac, 5, 9), false},
		{"three tags: the addresses", tagged(tagged(tagged(four, 7), 8), 9), four, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if one, other := flowHash(t, row.one), flowHash(t, row.other); one == other != row.same {
				t.Errorf("%#x and %#x, want the same: %v", one, other, row.same)
			}
		})
	}
	for name, frame := range map[string][]byte{
		"ip4 cut":               four[:l3+19],
		"ip4 header length 16":  with(four, l3, 0x44),
		"ip6 cut":               six[:l3+39],
		"ip6 ends at the ports": six[:l3+43],
		"tag cut":               eth(0x8100, []byte{0, 7, 8}),
	} {
		t.Run(name, func(t *testing.T) {
			zero := name != "ip6 ends at the ports" && name != "tag cut"
			if h := flowHash(t, frame); (h == 0) != zero {
				t.Errorf("hash %#x", h)
			}
		})
	}
}

// TestFlowHashSpreads: 16 workers get about as many of the flows of a network
// where addresses and ports count up, as they do.
func TestFlowHashSpreads(t *testing.T) {
	const flows, workers = 1 << 14, 16
	var share [workers]int
	s := everything()
	only(bpf.EncapNative)(&s)
	e := s.engine()
	frame := slices.Clone(inside)
	for i := range flows {
		frame[l3+15], frame[l3+18], frame[l4+1] = byte(i), byte(i>>8), byte(i>>4)
		rec, _, _ := e.Decap(frame, now)
		share[uint64(rec.FlowHash)*workers>>32]++
	}
	for worker, n := range share {
		if n < flows/workers*3/4 || n > flows/workers*5/4 {
			t.Errorf("worker %d gets %d of %d flows", worker, n, flows)
		}
	}
}
