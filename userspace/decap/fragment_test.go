package decap_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
)

// Hashes of the datagrams here.
const (
	datagram4GRE = 0x14ee16b9
	datagram4UDP = 0x194a3251
	datagram6GRE = 0x678bda7e
)

// fragment4 makes an IPv4 frame a fragment: offset in bytes.
func fragment4(frame []byte, offset uint16, more bool) []byte {
	bits := offset / 8
	if more {
		bits |= 0x2000
	}
	return with(frame, l3+6, u16(bits)...)
}

var (
	head4 = fragment4(type2, 0, true)
	tail4 = fragment4(eth(0x0800, ip4(47, make([]byte, 40))), 1480, false)
	head6 = eth(0x86dd, ip6(44, fragment6(47, 0, true), gre(0x1000, 0x88be, 77), erspan2(0, 0), inside))
	tail6 = eth(0x86dd, ip6(44, fragment6(47, 1448, false), make([]byte, 40)))
)

// step is one frame of several, in order.
type step struct {
	frame  []byte
	want   bpf.Verdict
	record *bpf.Record
}

func TestFragments(t *testing.T) {
	udpTail := with(tail4, l3+9, 17)
	rows := []struct {
		name  string
		setup func(*setup)
		steps []step
	}{
		{name: "ip4", steps: []step{
			{head4, bpf.RedirectFragment, fragmentOf(head4, datagram4GRE, tag, sequence(77), feed1(bpf.EncapERSPAN2))},
			{tail4, bpf.RedirectFragment, fragmentOf(tail4, datagram4GRE)},
		}},
		{name: "ip6", steps: []step{
			{head6, bpf.RedirectFragment, fragmentOf(head6, datagram6GRE, tag, sequence(77), feed1(bpf.EncapERSPAN2))},
			{tail6, bpf.RedirectFragment, fragmentOf(tail6, datagram6GRE)},
		}},
		{name: "frames with padding come whole", steps: []step{
			{join(tail4, make([]byte, 6)), bpf.RedirectFragment, fragmentOf(join(tail4, make([]byte, 6)), datagram4GRE)},
		}},
		{name: "tail first, GRE", steps: []step{
			{tail4, bpf.RedirectFragment, fragmentOf(tail4, datagram4GRE)},
			{head4, bpf.RedirectFragment, fragmentOf(head4, datagram4GRE, tag, sequence(77), feed1(bpf.EncapERSPAN2))},
		}},
		{name: "tail first, UDP", steps: []step{
			{udpTail, bpf.PassFragment, nil},
			{fragment4(overlay, 0, true), bpf.RedirectFragment, fragmentOf(overlay, datagram4UDP, feed1(bpf.EncapVXLAN))},
			{udpTail, bpf.RedirectFragment, fragmentOf(udpTail, datagram4UDP)},
		}},
		{name: "not a tunnel", steps: []step{
			{fragment4(with(overlay, l4+2, 0, 53), 0, true), bpf.PassNotTunnel, nil},
			{udpTail, bpf.PassFragment, nil},
		}},
		{name: "GRE that is not ours", steps: []step{
			{fragment4(with(type2, l4+1, 1), 0, true), bpf.PassGREVersion, nil},
			{tail4, bpf.PassFragment, nil},
		}},
		{name: "broken tunnel", steps: []step{
			{with(head4, l5, 0x20), bpf.DropERSPANVersion, nil},
			{tail4, bpf.PassFragment, nil},
		}},
		{name: "headers go on in the next fragment", steps: []step{
			{fragment4(eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0)[:4])), 0, true), bpf.RedirectFragment,
				fragmentOf(type2[:l5+4], datagram4GRE, sequence(77))},
			{tail4, bpf.RedirectFragment, fragmentOf(tail4, datagram4GRE)},
		}},
		{name: "IP inside, fragment begins with Ethernet", steps: []step{
			{fragment4(routed, 0, true), bpf.RedirectFragment, fragmentOf(routed, datagram4GRE, feed1(bpf.EncapGREIP))},
		}},
		{name: "neither GRE nor UDP", steps: []step{
			{with(tail4, l3+9, 6), bpf.PassFragment, nil},
		}},
		{name: "to somebody else", steps: []step{
			{with(tail4, l3+19, 10), bpf.PassNotCollector, nil},
		}},
		{name: "strangers", setup: exporters(true, "203.0.113.0/24"), steps: []step{
			{head4, bpf.DropStranger, nil},
			{tail4, bpf.DropStranger, nil},
		}},
		{name: "native takes what is not a tunnel", setup: also(bpf.EncapNative), steps: []step{
			{fragment4(inside, 0, true), bpf.RedirectInner, of(bpf.EncapNative, inside, hash(insideFragmentHash))},
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			if row.setup != nil {
				row.setup(&s)
			}
			e := s.engine()
			for i, step := range row.steps {
				frame := slices.Clone(step.frame)
				rec, inner, v := e.Decap(frame, now)
				if v != step.want {
					t.Fatalf("step %d: verdict %s, want %s", i, bpf.VerdictName(v), bpf.VerdictName(step.want))
				}
				if step.record == nil {
					continue
				}
				if rec != *step.record {
					t.Errorf("step %d: record %+v\nwant   %+v", i, rec, *step.record)
				}
				if !bytes.Equal(inner, step.frame) {
					t.Errorf("step %d: inner % x\nwant  % x", i, inner, step.frame)
				}
			}
		})
	}
}

// feed1 says that the fragment told whose it is.
func feed1(encap bpf.Encap) func(*bpf.Record) {
	return func(r *bpf.Record) { r.Feed = 1; r.Encap = uint8(encap) }
}

// TestFragmentMemory fills the memory of datagrams and looks at who was forgotten.
func TestFragmentMemory(t *testing.T) {
	e := everything().engine()
	other := fragment4(with(overlay, l4+2, 0, 53), 0, true) // UDP, not a tunnel
	tail := with(tail4, l3+9, 17)
	decapsulate := func(frame []byte, id uint32, want bpf.Verdict) {
		t.Helper()
		if _, _, v := e.Decap(numbered(frame, id), now); v != want {
			t.Fatalf("datagram %d: verdict %s, want %s", id, bpf.VerdictName(v), bpf.VerdictName(want))
		}
	}
	tunnel := fragment4(overlay, 0, true)
	decapsulate(tunnel, 0, bpf.RedirectFragment)
	for id := range uint32(decap.MaxDatagrams - 1) {
		decapsulate(other, id+1, bpf.PassNotTunnel)
	}
	decapsulate(tail, 0, bpf.RedirectFragment) // still known, and now the youngest
	decapsulate(tunnel, decap.MaxDatagrams, bpf.RedirectFragment)
	decapsulate(tail, 0, bpf.RedirectFragment)
	decapsulate(tail, decap.MaxDatagrams, bpf.RedirectFragment)
	for id := range uint32(decap.MaxDatagrams) {
		decapsulate(other, decap.MaxDatagrams+id+1, bpf.PassNotTunnel)
	}
	decapsulate(tail, 0, bpf.PassFragment)
	decapsulate(tail, decap.MaxDatagrams, bpf.PassFragment)
}

// numbered is an IPv4 frame of datagram id: the low half in the identification,
// the high half in the source address.
func numbered(frame []byte, id uint32) []byte {
	return with(with(frame, l3+4, u16(uint16(id))...), l3+14, u16(uint16(id>>16))...)
}

// TestDatagram: a datagram put together is decapsulated, and counted in its
// feed's books once: by its first fragment, or when that one was too short to
// say whose it is, as a whole.
func TestDatagram(t *testing.T) {
	const done = now + 5
	short := fragment4(eth(0x0800, ip4(47, gre(0x1000, 0x88be, 77), erspan2(0, 0)[:4])), 0, true)
	rows := []struct {
		name  string
		first []byte
		bytes uint64 // in the feed's books: of the fragment or of the inner frame
		gap   uint32
	}{
		{"the first fragment says whose", head4, uint64(len(head4)), 3},
		{"the headers go on in the next", short, uint64(len(inside)), 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := everything()
			feeds := feed.NewTable(feed.Max)
			e := s.engineWith(feeds)
			first, _, _ := e.Decap(slices.Clone(row.first), now)
			first.Flags |= bpf.RecordNICTime
			first.Gap = row.gap
			rec, inner, v := e.Datagram(slices.Clone(type2), &first, done)
			if v != bpf.RedirectInner {
				t.Fatalf("verdict %s", bpf.VerdictName(v))
			}
			want := of(bpf.EncapERSPAN2, inside, tag, sequence(77), flags(bpf.RecordNICTime),
				func(r *bpf.Record) { r.Time = done; r.Gap = row.gap })
			if rec != *want {
				t.Errorf("record %+v\nwant   %+v", rec, *want)
			}
			if !bytes.Equal(inner, inside) {
				t.Errorf("inner % x", inner)
			}
			books := 0
			for _, state := range feeds.All() {
				books++
				if state.Packets != 1 || state.Bytes != row.bytes || state.Sequence.Received != 1 {
					t.Errorf("books %+v, want 1 packet of %d bytes", state, row.bytes)
				}
			}
			if books != 1 {
				t.Errorf("%d feeds, want 1", books)
			}
			frames, datagrams := e.Frames(), e.Datagrams()
			wantFrames := decap.Tallies{bpf.RedirectFragment: {Packets: 1, Bytes: uint64(len(row.first))}}
			wantDatagrams := decap.Tallies{bpf.RedirectInner: {Packets: 1, Bytes: uint64(len(type2))}}
			if frames != wantFrames || datagrams != wantDatagrams {
				t.Errorf("frames %v, datagrams %v", frames, datagrams)
			}
		})
	}
	t.Run("without Ethernet", func(t *testing.T) {
		first := bpf.Record{Flags: bpf.RecordFragment | bpf.RecordRawIP, Encap: uint8(bpf.EncapERSPAN2), Feed: 9}
		rec, inner, v := everything().engine().Datagram(type2[l3:], &first, done)
		if v != bpf.RedirectInner || rec.Feed != 9 || !bytes.Equal(inner, inside) {
			t.Errorf("verdict %s, feed %d, inner % x", bpf.VerdictName(v), rec.Feed, inner)
		}
	})
	t.Run("not a tunnel after all", func(t *testing.T) {
		s := everything()
		e := s.engine()
		if _, inner, v := e.Datagram(with(type2, l5, 0x20), &bpf.Record{}, done); v != bpf.DropERSPANVersion || inner != nil {
			t.Errorf("verdict %s", bpf.VerdictName(v))
		}
		if frames := e.Frames(); frames != (decap.Tallies{}) {
			t.Errorf("frames %v", frames)
		}
	})
}
