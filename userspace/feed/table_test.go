package feed_test

import (
	"net/netip"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/feed"
)

func key(encap bpf.Encap, exporter string, session uint16) bpf.FeedKey {
	return bpf.FeedKey{
		Exporter:  netip.MustParseAddr(exporter).As16(),
		Collector: netip.MustParseAddr("192.0.2.2").As16(),
		Encap:     uint8(encap), Session: session,
	}
}

func TestTable(t *testing.T) {
	tab := feed.NewTable(2)
	a, b, c := key(bpf.EncapERSPAN2, "192.0.2.7", 1), key(bpf.EncapERSPAN2, "192.0.2.8", 1), key(bpf.EncapERSPAN3, "192.0.2.7", 1)
	see := func(k bpf.FeedKey, sequence uint32, v bpf.Verdict) uint32 {
		rec := bpf.Record{Time: uint64(sequence) + 100, WireLength: 60, Sequence: sequence, Flags: bpf.RecordSequence, Feed: tab.Find(&k)}
		tab.Observe(&rec, v)
		return rec.Feed
	}
	for i, got := range []uint32{see(a, 1, bpf.RedirectInner), see(b, 5, bpf.DropLoop), see(a, 2, bpf.RedirectFragment), see(c, 1, bpf.RedirectInner)} {
		if want := []uint32{1, 2, 1, 0}[i]; got != want {
			t.Errorf("packet %d went to feed %d, want %d", i, got, want)
		}
	}
	want := map[bpf.FeedKey]bpf.FeedState{
		a: {First: 101, Last: 102, Packets: 2, Bytes: 120, Kept: 2, Sequence: bpf.Sequence{Received: 2, Next: 3, Span: 2, Flags: bpf.SequenceSeen}},
		b: {First: 105, Last: 105, Packets: 1, Bytes: 60, Loops: 1, Sequence: bpf.Sequence{Received: 1, Next: 6, Span: 1, Flags: bpf.SequenceSeen}},
	}
	for k, s := range tab.All() {
		if s != want[k] {
			t.Errorf("%s: %+v, want %+v", feed.Name(&k), s, want[k])
		}
		delete(want, k)
	}
	if len(want) != 0 {
		t.Errorf("missing: %+v", want)
	}
	if k, err := tab.FeedKey(2); err != nil || k != b {
		t.Errorf("FeedKey(2) = %+v, %v", k, err)
	}
	for _, id := range []uint32{0, 3} {
		if _, err := tab.FeedKey(id); err == nil {
			t.Errorf("FeedKey(%d) gave no error", id)
		}
	}
}

// What was lost before packets that a policy dropped is said by the next that is kept.
func TestGapsOfDroppedPackets(t *testing.T) {
	tab := feed.NewTable(1)
	k := key(bpf.EncapERSPAN2, "192.0.2.7", 1)
	for _, step := range []struct {
		sequence uint32
		verdict  bpf.Verdict
		want     uint32 // gap
	}{
		{1, bpf.RedirectInner, 0},
		{4, bpf.DropPolicy, 0},
		{5, bpf.DropSampled, 0},
		{7, bpf.RedirectInner, 3},
		{8, bpf.RedirectInner, 0},
	} {
		rec := bpf.Record{Feed: tab.Find(&k), Sequence: step.sequence, Flags: bpf.RecordSequence}
		tab.Observe(&rec, step.verdict)
		if rec.Gap != step.want {
			t.Errorf("sequence %d, %s: gap %d, want %d", step.sequence, bpf.VerdictName(step.verdict), rec.Gap, step.want)
		}
	}
}

func TestName(t *testing.T) {
	keyed := func(k bpf.FeedKey, key uint32) bpf.FeedKey {
		k.Key, k.Keyed = key, 1
		return k
	}
	for _, c := range []struct {
		key               bpf.FeedKey
		name, description string
	}{
		{key(bpf.EncapERSPAN1, "192.0.2.7", 0), "192.0.2.7/erspan1", "ERSPAN type I from 192.0.2.7 to 192.0.2.2"},
		{key(bpf.EncapERSPAN2, "192.0.2.7", 1000), "192.0.2.7/erspan2/1000", "ERSPAN type II session 1000 from 192.0.2.7 to 192.0.2.2"},
		{keyed(key(bpf.EncapERSPAN2, "192.0.2.7", 1000), 42), "192.0.2.7/erspan2/1000/0x2a", "ERSPAN type II session 1000 key 0x2a from 192.0.2.7 to 192.0.2.2"},
		{key(bpf.EncapERSPAN3, "2001:db8::7", 3), "2001:db8::7/erspan3/3", "ERSPAN type III session 3 from 2001:db8::7 to 192.0.2.2"},
		{key(bpf.EncapGRE, "192.0.2.7", 0), "192.0.2.7/gre", "Ethernet over GRE from 192.0.2.7 to 192.0.2.2"},
		{keyed(key(bpf.EncapGRE, "192.0.2.7", 0), 0), "192.0.2.7/gre/0x0", "Ethernet over GRE key 0x0 from 192.0.2.7 to 192.0.2.2"},
		{key(bpf.EncapGREIP, "192.0.2.7", 0), "192.0.2.7/gre-ip", "IP over GRE from 192.0.2.7 to 192.0.2.2"},
		{keyed(key(bpf.EncapVXLAN, "192.0.2.7", 0), 5001), "192.0.2.7/vxlan/5001", "VXLAN VNI 5001 from 192.0.2.7 to 192.0.2.2"},
		{keyed(key(bpf.EncapGeneve, "192.0.2.7", 0), 10), "192.0.2.7/geneve/10", "Geneve VNI 10 from 192.0.2.7 to 192.0.2.2"},
		{bpf.FeedKey{Encap: uint8(bpf.EncapRSPAN), Session: 300}, "rspan/300", "RSPAN mirror on VLAN 300"},
		{bpf.FeedKey{Encap: uint8(bpf.EncapNative)}, "native", "frames of the capture interface itself, no tunnel"},
	} {
		if got := feed.Name(&c.key); got != c.name {
			t.Errorf("Name = %q, want %q", got, c.name)
		}
		if got := feed.Description(&c.key); got != c.description {
			t.Errorf("Description = %q, want %q", got, c.description)
		}
	}
}
