package flow

import "testing"

func TestLate(t *testing.T) {
	for _, test := range []struct {
		name      string
		sequences []uint32
		want      []bool
	}{
		{"in order", []uint32{7, 8, 10}, []bool{false, false, false}},
		{"overtaken", []uint32{7, 9, 8, 10}, []bool{false, false, true, false}},
		{"twice", []uint32{7, 7}, []bool{false, true}},
		{"wrap of 32 bits", []uint32{^uint32(0), 0, ^uint32(0)}, []bool{false, false, true}},
		{"wrap of 30 bits", []uint32{1<<30 - 1, 0, 1}, []bool{false, false, false}},
		{"sender began anew", []uint32{1 << 20, 1, 2}, []bool{false, false, false}},
	} {
		var l lane
		for i, s := range test.sequences {
			if got := l.late(s); got != test.want[i] {
				t.Errorf("%s: %d late is %v", test.name, s, got)
			}
		}
	}
}
