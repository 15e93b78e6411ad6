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
			if got := l.late(1, s); got != test.want[i] {
				t.Errorf("%s: %d late is %v", test.name, s, got)
			}
		}
	}
}

// A slot is taken over by another feed, of another generation: its order begins
// anew, and the domain is the slot's until it is set again.
func TestSlots(t *testing.T) {
	var l lane
	for _, step := range []struct {
		feed, sequence uint32
		want           bool
	}{{0x10003, 7, false}, {0x10003, 7, true}, {0x20003, 7, false}, {0x20003, 6, true}} {
		if got := l.late(step.feed, step.sequence); got != step.want {
			t.Errorf("feed %#x, %d: late is %v", step.feed, step.sequence, got)
		}
	}
	f := NewFeeds(4)
	f.SetDomain(0x10003, 7)
	f.SetDomain(0x10004, 7) // no such slot
	for feed, want := range map[uint32]uint32{3: 7, 0x10003: 7, 0x20003: 7, 0x10004: 0, 4: 0} {
		if got := f.Domain(feed); got != want {
			t.Errorf("domain of feed %#x is %d, want %d", feed, got, want)
		}
	}
}
