package policy_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

var anyKey = bpf.FeedKey{Encap: uint8(bpf.EncapERSPAN2), Session: 7}

func record(length int) bpf.Record {
	return bpf.Record{Feed: 1, Length: uint32(length), WireLength: uint32(length), Weight: 1, Rule: bpf.NoRule}
}

// One rule of each kind, one frame for each: the whole record and the whole count.
func TestDecide(t *testing.T) {
	p := mustRead(t, `rules:
- {name: dropped, vlan: 1, action: drop}
- {name: cut, vlan: 2, action: keep, snap: 64}
- {name: kept, vlan: 3, action: keep}
default: {action: keep, snap: 1000}
`)
	e := policy.NewEngine(p, &bpf.Config{}, nil)
	for _, row := range []struct {
		name    string
		tci     uint16
		length  int
		verdict bpf.Verdict
		want    func(*bpf.Record)
	}{
		{"dropped", 1, 100, bpf.DropPolicy, func(r *bpf.Record) { r.Rule = 0 }},
		{"cut", 2, 100, bpf.VerdictNone, func(r *bpf.Record) { r.Rule = 1; r.Length = 64; r.Flags |= bpf.RecordCut }},
		{"too short to cut", 2, 64, bpf.VerdictNone, func(r *bpf.Record) { r.Rule = 1 }},
		{"kept, priority 5", 3 | 5<<13, 1500, bpf.VerdictNone, func(r *bpf.Record) { r.Rule = 2 }},
		{"default", 4, 1500, bpf.VerdictNone, func(r *bpf.Record) { r.Length = 1000; r.Flags |= bpf.RecordCut }},
	} {
		rec := record(row.length)
		rec.Flags, rec.Tci = bpf.RecordVLAN, row.tci
		want := rec
		row.want(&want)
		verdict := e.Decide(&anyKey, &rec, make([]byte, row.length))
		if verdict != row.verdict || rec != want {
			t.Errorf("%s: %s, %+v\nwant %s, %+v", row.name, bpf.VerdictName(verdict), rec, bpf.VerdictName(row.verdict), want)
		}
	}
	want := []policy.RuleState{{Packets: 1, Bytes: 100}, {Packets: 2, Bytes: 164, Kept: 2}, {Packets: 1, Bytes: 1500, Kept: 1}, {Packets: 1, Bytes: 1500, Kept: 1}}
	if got := e.States(); !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v\nwant    %+v", got, want)
	}
}

// The VLAN of a frame, by what the frame and the mirror's header say.
func TestVLAN(t *testing.T) {
	e := policy.NewEngine(mustRead(t, "rules:\n- {name: frame, vlan: 100, action: keep}\n- {name: header, vlan: 200, action: keep}\n"+
		"- {name: untagged, vlan: untagged, action: keep}\n"), &bpf.Config{}, nil)
	const frame, header, untagged, other = 0, 1, 2, 0xffff
	plain := segment
	for _, row := range []struct {
		name  string
		frame []byte
		flags uint32
		want  uint16
	}{
		{"untagged", plain(), 0, untagged},
		{"removed by the sender", plain(), bpf.RecordVLAN, header},
		{"tagged, header silent", tagged(0x2064)(plain()), 0, frame},
		{"tagged, header says another", tagged(100)(plain()), bpf.RecordVLAN, frame},
		{"service tag", set(12, 0x88, 0xa8)(tagged(100)(plain())), bpf.RecordVLAN, frame},
		{"old service tag", set(12, 0x91, 0x00)(tagged(100)(plain())), 0, frame},
		{"outermost of two", both(tagged(5), tagged(100))(plain()), 0, frame},
		{"priority tag", tagged(0xe000)(plain()), bpf.RecordVLAN, untagged},
		{"another", tagged(5)(plain()), bpf.RecordVLAN, other},
		{"bare IP", plain()[14:], bpf.RecordRawIP, untagged},
		{"bare IP, header says", plain()[14:], bpf.RecordRawIP | bpf.RecordVLAN, header},
		{"bare IP that looks tagged", append([]byte{0x45, 1: 0, 12: 0x81, 13: 0, 14: 0, 15: 100}, 0), bpf.RecordRawIP, untagged},
		{"cut before its tag", tagged(100)(plain())[:15], 0, untagged},
	} {
		rec := record(len(row.frame))
		rec.Flags, rec.Tci = row.flags, 200
		e.Decide(&anyKey, &rec, row.frame)
		if rec.Rule != row.want {
			t.Errorf("%s: met rule %d, want %d", row.name, rec.Rule, row.want)
		}
	}
}

// By packet: exactly one of each block of one_in, and never in step with a period
// of the traffic.
func TestSampleByPacket(t *testing.T) {
	const oneIn, blocks = 10, 2000
	e := policy.NewEngine(mustRead(t, "rules:\n- {action: keep, sample: {one_in: 10}}\n"), &bpf.Config{}, nil)
	var places [oneIn]int
	for block := range blocks {
		kept := 0
		for place := range oneIn {
			rec := record(60)
			switch v := e.Decide(&anyKey, &rec, make([]byte, 60)); v {
			case bpf.VerdictNone:
				kept++
				places[place]++
				if rec.Weight != oneIn {
					t.Fatalf("weight %d, want %d", rec.Weight, oneIn)
				}
			case bpf.DropSampled:
			default:
				t.Fatalf("verdict %s", bpf.VerdictName(v))
			}
		}
		if kept != 1 {
			t.Fatalf("block %d keeps %d, want 1", block, kept)
		}
	}
	// Chi-square with 9 degrees of freedom: below 27.88 with a probability of 0.999.
	chi := 0.0
	for _, n := range places {
		d := float64(n) - blocks/oneIn
		chi += d * d / (blocks / oneIn)
	}
	if chi > 27.88 {
		t.Errorf("places in the block are drawn unevenly: %v, chi-square %.1f", places, chi)
	}
}

// By flow: a flow is kept whole or not at all, and one of one_in flows is.
func TestSampleByFlow(t *testing.T) {
	const oneIn, flows = 8, 40_000
	e := policy.NewEngine(mustRead(t, "rules:\n- {action: keep, sample: {one_in: 8, by: flow}}\n"), &bpf.Config{}, nil)
	random := rand.New(rand.NewPCG(1, 2))
	kept := 0
	for range flows {
		hash := random.Uint32()
		var verdicts [4]bpf.Verdict
		for i := range verdicts {
			rec := record(60)
			rec.FlowHash = hash
			verdicts[i] = e.Decide(&anyKey, &rec, make([]byte, 60))
		}
		if verdicts != [4]bpf.Verdict{verdicts[0], verdicts[0], verdicts[0], verdicts[0]} {
			t.Fatalf("a flow is kept in part: %v", verdicts)
		}
		if verdicts[0] == bpf.VerdictNone {
			kept++
		}
	}
	if want := flows / oneIn; kept < want*95/100 || kept > want*105/100 {
		t.Errorf("%d of %d flows kept, want about %d", kept, flows, want)
	}
}

// Sampled flows spread over the workers, although the same hash picks both.
func TestSampledFlowsSpread(t *testing.T) {
	const workers, flows = 4, 40_000
	e := policy.NewEngine(mustRead(t, "rules:\n- {action: keep, sample: {one_in: 16, by: flow}}\n"), &bpf.Config{}, nil)
	random := rand.New(rand.NewPCG(3, 4))
	var each [workers]int
	for range flows {
		rec := record(60)
		rec.FlowHash = random.Uint32()
		if e.Decide(&anyKey, &rec, make([]byte, 60)) == bpf.VerdictNone {
			each[uint64(rec.FlowHash)*workers>>32]++
		}
	}
	for worker, n := range each {
		if n < flows/16/workers/2 {
			t.Errorf("worker %d gets %d of the sampled flows, all together %v", worker, n, each)
		}
	}
}

// The empty policy touches nothing and counts nothing.
func TestEmptyPolicy(t *testing.T) {
	e := policy.NewEngine(policy.Default(), &bpf.Config{}, nil)
	rec := record(100)
	before := rec
	if v := e.Decide(&anyKey, &rec, make([]byte, 100)); v != bpf.VerdictNone || rec != before || e.States()[0] != (policy.RuleState{}) {
		t.Errorf("%s, %+v, %+v", bpf.VerdictName(v), rec, e.States())
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	e := policy.NewEngine(mustRead(t, whole), &bpf.Config{}, nil)
	rec, frame := record(100), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { e.Decide(&anyKey, &rec, frame) }); n != 0 {
		t.Errorf("%v allocations for a frame, want none", n)
	}
}
