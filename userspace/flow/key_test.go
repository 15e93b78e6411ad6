package flow

import "testing"

func TestKeyOrder(t *testing.T) {
	build := func(a, b [2]uint64, source, destination uint16) key {
		k := key{a[0], a[1], b[0], b[1]}
		k.setTransport(source, destination, protocolTCP, 0, etherTypeIPv6)
		return k
	}
	low, high := [2]uint64{1, 9}, [2]uint64{2, 3}
	for _, test := range []struct {
		name   string
		a, b   [2]uint64
		pa, pb uint16
	}{
		{"first word", low, high, 50000, 80},
		{"second word", [2]uint64{1, 1}, [2]uint64{1, 2}, 1, 2},
		{"ports", low, low, 80, 50000},
	} {
		there, back := build(test.a, test.b, test.pa, test.pb), build(test.b, test.a, test.pb, test.pa)
		if side := there.order(); side != 0 {
			t.Errorf("%s: sent by side %d, want 0", test.name, side)
		}
		if side := back.order(); side != 1 {
			t.Errorf("%s: answered by side %d, want 1", test.name, side)
		}
		if there != back {
			t.Errorf("%s: two keys of one flow: %x, %x", test.name, there, back)
		}
		if there.port(0) != test.pa || there.port(1) != test.pb {
			t.Errorf("%s: ports %d, %d", test.name, there.port(0), there.port(1))
		}
	}
}
