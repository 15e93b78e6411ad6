package collector

import "testing"

// Names are kept for the feeds that have a slot, and for no others: a flood of
// feeds takes no more memory than there are slots.
func TestNamesOfFeedsAreBounded(t *testing.T) {
	f := &flows{met: make([]known, 3), ids: map[string]uint32{}}
	for generation := range uint32(100) {
		for slot := range uint32(5) {
			f.learn(generation<<16|slot, string(rune('a'+generation%7))+string(rune('0'+slot)))
		}
	}
	f.learn(200<<16|1, "b2") // the feed of slot 2 came back under another id
	for id, want := range map[uint32]string{99 << 16: "b0", 200<<16 | 1: "b2", 99<<16 | 1: "", 99<<16 | 2: "b2", 98<<16 | 2: "", 99<<16 | 3: ""} {
		if got := f.feedName(id); got != want {
			t.Errorf("feed %#x is %q, want %q", id, got, want)
		}
	}
	if len(f.ids) != 2 || f.ids["b2"] != 200<<16|1 {
		t.Errorf("ids by name: %v", f.ids)
	}
}
