package flow

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/unspan/unspan/bpf"
)

func TestSizes(t *testing.T) {
	for _, size := range []struct {
		name      string
		got, want uintptr
	}{
		{"hot is one cache line", unsafe.Sizeof(hot{}), 64},
		{"cold is five", unsafe.Sizeof(cold{}), 320},
		{"bucket is one", unsafe.Sizeof(bucket{}), 64},
	} {
		if size.got != size.want {
			t.Errorf("%s: %d bytes, want %d", size.name, size.got, size.want)
		}
	}
}

// TestMillionFlowsFit keeps a million flows at once and adds up the memory that
// takes, ring and fragments included.
func TestMillionFlowsFit(t *testing.T) {
	c := Default()
	c.Flows = 1_000_000
	table, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	total := unsafe.Sizeof(*table)
	for _, m := range table.memory {
		total += uintptr(len(m))
	}
	total += uintptr(len(table.ring.records)) * unsafe.Sizeof(Flow{})
	total += uintptr(len(table.fragments.datagrams)) * unsafe.Sizeof(datagram{})
	if total > 512<<20 {
		t.Errorf("%d MiB, want at most 512", total>>20)
	}
	t.Logf("%d MiB", total>>20)

	frame := []byte{
		0, 0, 0x5e, 0, 0x53, 2, 0, 0, 0x5e, 0, 0x53, 1, 8, 0,
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 0, 192, 0, 2, 1,
		0x9c, 0x40, 0, 53, 0, 8, 0, 0,
	}
	for n := range uint32(1_000_000) {
		binary.BigEndian.PutUint32(frame[26:], 198<<24|18<<16+n)
		table.Observe(&bpf.Record{Feed: 1}, frame, 60, 1e18+uint64(n))
	}
	table.Tick(1e18 + 1e6)
	got := table.Counters()
	want := Counters{Tracked: 1_000_000, Created: 1_000_000}
	if got != want {
		t.Errorf("counters %v, want %v", got, want)
	}
}
