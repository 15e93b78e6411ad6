package policy_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/filter"
	"github.com/unspan/unspan/userspace/policy"
)

// dice makes random policies and frames. Its values come from small pools, so that
// rules overlap and frames meet them.
type dice struct {
	*rand.Rand
	filters []*filter.Filter
}

func (d *dice) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d *dice, from []T) T { return from[d.IntN(len(from))] }

func some[T any](d *dice, one func() T) []T {
	list := make([]T, 1+d.IntN(4))
	for i := range list {
		list[i] = one()
	}
	return list
}

var prefixPool = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("192.0.2.7/32"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.100.128/25"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8::7/128"), netip.MustParsePrefix("2001:db8:1::/48"),
}

var addressPool = []netip.Addr{
	netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.200"),
	netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.129"), netip.MustParseAddr("203.0.113.9"),
	netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:ffff::1"),
}

// ranges are sorted and apart, as Read leaves them.
func (d *dice) ranges(numbers []uint32) []policy.Range {
	var out []policy.Range
	at := 0
	for range 1 + d.IntN(3) {
		at += d.IntN(len(numbers) / 3)
		last := min(at+d.IntN(3), len(numbers)-1)
		if n := len(out); at >= len(numbers) || n > 0 && numbers[at] <= out[n-1].Last+1 {
			break
		}
		out = append(out, policy.Range{First: numbers[at], Last: numbers[last]})
		at = last + 1
	}
	if out == nil {
		return []policy.Range{{First: numbers[0], Last: numbers[0]}}
	}
	return out
}

var (
	sessionPool = []uint32{0, 1, 2, 5, 6, 7, 100, 101, 500, 1000, 1023}
	keyPool     = []uint32{0, 1, 9, 10, 0x2000000, 0x2000001, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff}
	vniPool     = []uint32{0, 1, 9, 5000, 5001, 5100, 0xfffffe, 0xffffff}
	vlanPool    = []uint32{0, 1, 2, 10, 11, 12, 100, 300, 4000, 4094}
)

func (d *dice) action() policy.Action {
	if d.chance(25) {
		return policy.Action{Drop: true, OneIn: 1}
	}
	a := policy.Action{OneIn: 1}
	if d.chance(30) {
		a.OneIn, a.ByFlow = uint32(2+d.IntN(9)), d.chance(50)
	}
	if d.chance(20) {
		a.Snap = uint32(14 + d.IntN(100))
	}
	return a
}

func (d *dice) policy(rules int) *policy.Policy {
	p := policy.Default()
	p.Default = d.action()
	for range rules {
		r := policy.Rule{Action: d.action()}
		if d.chance(30) {
			r.Exporters = some(d, func() netip.Prefix { return pick(d, prefixPool) })
		}
		if d.chance(20) {
			r.Collectors = some(d, func() netip.Prefix { return pick(d, prefixPool) })
		}
		if d.chance(30) {
			r.Encaps = some(d, func() bpf.Encap { return 1 + bpf.Encap(d.IntN(int(bpf.EncapCount)-1)) })
		}
		if d.chance(20) {
			r.Sessions = d.ranges(sessionPool)
		}
		if d.chance(15) {
			r.Keys = d.ranges(keyPool)
		}
		if d.chance(10) {
			r.VNIs = d.ranges(vniPool)
		}
		if d.chance(35) {
			r.VLANs = d.ranges(vlanPool)
		}
		if d.chance(15) {
			r.Direction = pick(d, []policy.Direction{policy.Ingress, policy.Egress})
		}
		if d.chance(25) && d.filters != nil {
			r.Filter = pick(d, d.filters)
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

// feed is one of so many feeds and its id; few of them, so that the memo is asked again.
func (d *dice) feed(count int) (bpf.FeedKey, uint32) {
	id := d.IntN(count)
	own := &dice{Rand: rand.New(rand.NewPCG(uint64(id), 9))}
	key := bpf.FeedKey{
		Exporter:  pick(own, addressPool).As16(),
		Collector: pick(own, addressPool).As16(),
		Encap:     uint8(1 + own.IntN(int(bpf.EncapCount)-1)),
	}
	switch bpf.Encap(key.Encap) {
	case bpf.EncapRSPAN, bpf.EncapNative:
		key.Exporter, key.Collector = [16]byte{}, [16]byte{}
	case bpf.EncapVXLAN, bpf.EncapGeneve:
		key.Keyed, key.Key = 1, pick(own, vniPool)
	case bpf.EncapERSPAN2, bpf.EncapERSPAN3:
		key.Session = uint16(pick(own, sessionPool))
		fallthrough
	default:
		if own.chance(50) {
			key.Keyed, key.Key = 1, pick(own, keyPool)
		}
	}
	if id == 0 {
		return key, 0 // the feed table was full
	}
	// Ids that differ in few bits anywhere: the memo must not take one for another.
	return key, uint32(id) << pick(own, []int{0, 9, 13, 26})
}

// frame is an IP packet over Ethernet, tagged or not, or bare; sometimes cut anywhere.
func (d *dice) frame(rawIP bool) []byte {
	var frame []byte
	if !rawIP {
		frame = append(frame, 0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 2)
		for d.chance(40) && len(frame) < 24 {
			vlan := pick(d, vlanPool)
			frame = append(frame, pick(d, []byte{0x81, 0x88, 0x91}))
			frame = append(frame, map[byte]byte{0x81: 0, 0x88: 0xa8, 0x91: 0}[frame[len(frame)-1]], byte(vlan>>8)|0x20, byte(vlan))
		}
		frame = append(frame, 8, 0)
	}
	frame = append(frame, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, pick(d, []byte{1, 6, 17}), 0, 0,
		10, 0, 0, byte(d.IntN(3)), 10, 0, 0, byte(d.IntN(3)), 0, pick(d, []byte{53, 80}), 1, 187)
	frame = append(frame, make([]byte, d.IntN(100))...)
	if d.chance(10) {
		frame = frame[:d.IntN(len(frame))]
	}
	return frame
}

func (d *dice) record(frame []byte, rawIP bool, feed uint32) bpf.Record {
	rec := bpf.Record{
		Feed: feed, FlowHash: d.Uint32(), Length: uint32(len(frame)), WireLength: uint32(len(frame)),
		Weight: 1, Rule: bpf.NoRule, Version: bpf.RecordVersion,
	}
	if rawIP {
		rec.Flags |= bpf.RecordRawIP
	}
	if d.chance(40) {
		rec.Flags |= bpf.RecordVLAN
		rec.Tci = uint16(pick(d, vlanPool) | 0x6000)
	}
	if d.chance(40) {
		rec.Flags |= bpf.RecordDirection
		if d.chance(50) {
			rec.Flags |= bpf.RecordEgress
		}
	}
	return rec
}

// rounds is the number of rounds of a test that could go on for ever.
func rounds(t testing.TB, usual int) int {
	t.Helper()
	text := os.Getenv("UNSPAN_FUZZ_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("UNSPAN_FUZZ_ROUNDS is %q, want a number of rounds", text)
	}
	return n
}

// agree gives both engines one frame.
func agree(t *testing.T, k *kernel, e *policy.Engine, key *bpf.FeedKey, rec bpf.Record, frame []byte) bpf.Verdict {
	t.Helper()
	want := rec
	verdict := e.Apply(key, &want, frame)
	got, left := k.decide(t, key, rec, frame)
	if got != verdict {
		t.Errorf("the kernel says %s, Go %s, of %+v, record %+v, frame % x", bpf.VerdictName(got), bpf.VerdictName(verdict), *key, rec, frame)
	}
	if left != want {
		t.Errorf("the kernel left %+v\nGo left         %+v", left, want)
	}
	return verdict
}

// Random policies say the same in the kernel and in Go of random frames, and
// count the same for every rule.
func TestKernelAgreesWithGo(t *testing.T) {
	needRoot(t)
	needTcpdump(t)
	var filters []*filter.Filter
	for _, e := range []string{"tcp", "udp port 53", "host 10.0.0.1", "vlan and ip", "ether[15] = 0", "arp", "len > 90"} {
		f, err := filter.Compile(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		filters = append(filters, f)
	}
	pin(t)
	const frames = 400
	verdicts := map[bpf.Verdict]int{}
	total := rounds(t, 20)
	for round := range total {
		d := &dice{Rand: rand.New(rand.NewPCG(44, uint64(round))), filters: filters}
		p := d.policy([]int{0, 1, 3, 20, 64, 65, 200, 1024}[round%8])
		k, e := load(t, p), policy.NewEngine(p, &bpf.Config{}, nil)
		for range frames {
			key, feed := d.feed(40)
			rawIP := d.chance(15)
			frame := d.frame(rawIP)
			verdicts[agree(t, k, e, &key, d.record(frame, rawIP, feed), frame)]++
		}
		for i, got := range k.states(t) {
			want := e.States()[i]
			if got.Packets != want.Packets || got.Bytes != want.Bytes || got.Kept != want.Kept {
				t.Errorf("round %d: rule %d met %+v in the kernel, %+v in Go", round, i, got, want)
			}
		}
		if t.Failed() {
			return
		}
	}
	for _, v := range []bpf.Verdict{bpf.VerdictNone, bpf.DropPolicy, bpf.DropSampled} {
		if verdicts[v] < total*frames/50 {
			t.Errorf("%s only %d times: too rare to show anything", bpf.VerdictName(v), verdicts[v])
		}
	}
	t.Logf("%d policies, %d frames, no disagreement: %v", total, total*frames, verdicts)
}
