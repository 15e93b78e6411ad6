package policy_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

// datagram6 is UDP over IPv6, neighbour what ICMPv6 is for, association SCTP over IPv4.
func datagram6() []byte { return both(set(18, 0, 16), set(20, 17))(segment6()) }
func neighbour() []byte { return set(20, 58)(segment6()) }
func association() []byte {
	return set(23, 132)(segment())
}

var repeated = []func() []byte{
	segment, segment6, arp, mirrored, mirrored6, vxlan, datagram6, neighbour, association,
	func() []byte { return set(20, 0x20, 0x10)(segment()) }, // a later fragment
	func() []byte { return set(16, 0, 0)(segment()) },       // length 0
	func() []byte { return set(14, 0x4f)(segment()) },       // as many options as can be
	func() []byte { return set(14, 0x41)(segment()) },       // a header too short
	func() []byte { return set(18, 0, 0)(segment()) },       // no number
	func() []byte { return append(segment(), make([]byte, 200)...) },
	func() []byte { return set(16, 1, 0x18)(append(segment(), make([]byte, 200)...)) },
}

// travelled is a frame as another mirror may see it: a router was on its way, or
// something else was, or it is another frame after all.
func (d *dice) travelled(frame []byte) []byte {
	at := func(i int, change func(byte) byte) {
		if i < len(frame) {
			frame[i] = change(frame[i])
		}
	}
	for range d.IntN(3) {
		switch d.IntN(10) {
		case 0:
			at(22, func(b byte) byte { return b - 1 })
			at(24, func(b byte) byte { return b + 1 })
		case 1:
			at(21, func(b byte) byte { return b - 1 })
		case 2:
			frame = set(0, 2, 2, 2, 2, 2, byte(d.IntN(3)))(frame)
		case 3:
			if len(frame) > 12 {
				frame = tagged(uint16(d.IntN(3)))(frame)
			}
		case 4:
			frame = append(frame, make([]byte, d.IntN(8))...)
		case 5:
			frame = frame[:d.IntN(len(frame)+1)]
		case 6:
			at(15, func(b byte) byte { return b + 4 })
		case 7:
			at(33, func(byte) byte { return 9 })
		case 8:
			for _, i := range []int{50, 51, 40, 41, 36, 37, 70, 71, 60, 61} {
				at(i, func(b byte) byte { return b ^ byte(d.IntN(2)) })
			}
		default:
			if len(frame) > 0 {
				at(d.IntN(len(frame)), func(b byte) byte { return b ^ 1<<d.IntN(8) })
			}
		}
	}
	return frame
}

// Loops and duplicates are the same in the kernel and in Go, over histories of
// frames that are alike.
func TestKernelAgreesOnRepeats(t *testing.T) {
	needRoot(t)
	pin(t)
	collectors := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}
	const frames = 1500
	total := rounds(t, 16)
	verdicts := map[bpf.Verdict]int{}
	for round := range total {
		d := &dice{Rand: rand.New(rand.NewPCG(5, uint64(round)))}
		p := d.policy(d.IntN(3))
		p.Loops = []policy.LoopAction{policy.LoopDrop, policy.LoopKeep, policy.LoopDrop, policy.LoopUnwrap}[round%4]
		p.Duplicates = policy.Duplicates{Window: time.Duration(1 + d.IntN(400)), WithinFeed: d.chance(50), Ignore: policy.Ignored(d.IntN(32))}
		config := &bpf.Config{Accept: d.Uint32() | 1, VxlanPorts: [4]uint16{4789}, GenevePorts: [4]uint16{6081}}
		config.GreProtocols[2].Protocol, config.GreProtocols[2].Encap = 0x88bd, uint8(bpf.EncapERSPAN2)
		key := policy.NewDigestKey()
		k := loadKnown(t, p, key, config, collectors)
		e := policy.NewEngine(p, config, collectors)
		e.SetDigestKey(key)
		now := uint64(1e12)
		for range frames {
			feed, id := d.feed(5)
			if id&1 == 1 {
				feed.Collector = netip.MustParseAddr("198.51.100.9").As16()
			}
			frame := d.travelled(pick(d, repeated)())
			rawIP := d.chance(10) && len(frame) > 14
			if rawIP {
				frame = frame[14:]
			}
			rec := d.record(frame, rawIP, id)
			now += uint64(d.IntN(12))
			rec.Time = now
			want := rec
			verdict := e.Apply(&feed, &want, frame)
			got, left := k.decide(t, &feed, rec, frame)
			if got != verdict || left != want {
				t.Fatalf("round %d: the kernel says %s and leaves %+v\nGo says %s and leaves %+v\nof %+v, record %+v, frame % x",
					round, bpf.VerdictName(got), left, bpf.VerdictName(verdict), want, feed, rec, frame)
			}
			verdicts[verdict]++
		}
		k.pairs(t, e.Pairs())
	}
	for _, v := range []bpf.Verdict{bpf.VerdictNone, bpf.DropLoop, bpf.DropDuplicate} {
		if verdicts[v] < total*frames/100 {
			t.Errorf("%s only %d times: too rare to show anything", bpf.VerdictName(v), verdicts[v])
		}
	}
	t.Logf("%d histories, %d frames, no disagreement: %v", total, total*frames, verdicts)
}

// pairs asserts the whole map of pairs, both ways.
func (k *kernel) pairs(t *testing.T, want map[policy.Pair]uint64) {
	t.Helper()
	got := map[policy.Pair]uint64{}
	var pair policy.Pair
	var count uint64
	each := k.collection.Maps["duplicate_pairs"].Iterate()
	for each.Next(&pair, &count) {
		got[pair] = count
	}
	if err := each.Err(); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("the kernel knows the pairs %v, Go %v", got, want)
	}
	for pair, n := range want {
		if got[pair] != n {
			t.Errorf("pair %v: %d in the kernel, %d in Go", pair, got[pair], n)
		}
	}
}

// A frame of several buffers has its digest too.
func TestDigestOfMultiBufferFrames(t *testing.T) {
	needRoot(t)
	p := policy.Default()
	p.Duplicates.Window = time.Second
	k := loadKnown(t, p, digestKey, &bpf.Config{}, nil)
	frame := append(segment(), make([]byte, 8000)...)
	rec := record(len(frame))
	for i, want := range []bpf.Verdict{bpf.VerdictNone, bpf.DropDuplicate, bpf.DropDuplicate} {
		rec.Feed = uint32(i + 1)
		if got, _ := k.decide(t, &anyKey, rec, slices.Clone(frame)); got != want {
			t.Errorf("copy %d: %s, want %s", i+1, bpf.VerdictName(got), bpf.VerdictName(want))
		}
	}
}
