package policy_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

// manyRules has as many rules as asked for, of which the feed of the benchmark meets the last.
func manyRules(count int, vlan bool) *policy.Policy {
	p := policy.Default()
	for i := range count - 1 {
		r := policy.Rule{Action: policy.Action{OneIn: 1}}
		r.Exporters = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)}
		r.Encaps = []bpf.Encap{bpf.EncapERSPAN2}
		r.Sessions = []policy.Range{{First: uint32(i % 1000), Last: uint32(i % 1000)}}
		if vlan {
			r.VLANs = []policy.Range{{First: uint32(i % 4000), Last: uint32(i%4000) + 10}}
		}
		p.Rules = append(p.Rules, r)
	}
	last := policy.Rule{Action: policy.Action{OneIn: 1}, Exporters: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	if vlan {
		last.VLANs = []policy.Range{{First: 0, Last: 4094}}
	}
	p.Rules = append(p.Rules, last)
	return p
}

// What the policy costs a frame in the kernel. known: the feed has an id, and what
// fits it is remembered; unknown: it has none, and the sets are asked each time.
func BenchmarkKernel(b *testing.B) {
	needRoot(b)
	pin(b)
	key := bpf.FeedKey{Exporter: netip.MustParseAddr("192.0.2.7").As16(), Collector: netip.MustParseAddr("192.0.2.1").As16(),
		Encap: uint8(bpf.EncapERSPAN2), Session: 999}
	frame := make([]byte, 64)
	none := policy.Default()
	for _, row := range []struct {
		name string
		p    *policy.Policy
		feed uint32
	}{
		{"no rules", none, 1},
		{"1 rule, known", manyRules(1, false), 1},
		{"1000 rules, known", manyRules(1000, false), 1},
		{"1 rule with VLAN, known", manyRules(1, true), 1},
		{"1000 rules with VLAN, known", manyRules(1000, true), 1},
		{"1 rule, unknown", manyRules(1, false), 0},
		{"1000 rules, unknown", manyRules(1000, false), 0},
		{"1000 rules with VLAN, unknown", manyRules(1000, true), 0},
	} {
		b.Run(row.name, func(b *testing.B) {
			k := load(b, row.p)
			rec := bpf.Record{Feed: row.feed, Length: 64}
			_, took, err := k.program.Benchmark(question(b, &key, &rec, frame), max(b.N, 1000), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "bpf_ns/op")
		})
	}
}

// What looking for loops and for duplicates costs a frame in the kernel.
func BenchmarkKernelRepeats(b *testing.B) {
	needRoot(b)
	pin(b)
	dedup := policy.Default()
	dedup.Duplicates.Window = time.Millisecond
	none, all := &bpf.Config{}, &bpf.Config{Accept: 1<<bpf.EncapCount - 1}
	for _, row := range []struct {
		name   string
		p      *policy.Policy
		config *bpf.Config
	}{{"neither", policy.Default(), none}, {"loops", policy.Default(), all}, {"duplicates", dedup, none}} {
		b.Run(row.name, func(b *testing.B) {
			k := loadKnown(b, row.p, digestKey, row.config, nil)
			rec := record(94)
			_, took, err := k.program.Benchmark(question(b, &anyKey, &rec, segment()), max(b.N, 1000), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "bpf_ns/op")
		})
	}
}

// The same in Go, where the rules are asked one by one.
func BenchmarkEngine(b *testing.B) {
	key := bpf.FeedKey{Exporter: netip.MustParseAddr("192.0.2.7").As16(), Encap: uint8(bpf.EncapERSPAN2), Session: 999}
	frame := make([]byte, 64)
	for _, count := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("%d rules", count), func(b *testing.B) {
			e := policy.NewEngine(manyRules(count, false), &bpf.Config{}, nil)
			rec := bpf.Record{Feed: 1, Length: 64}
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(&key, &rec, frame)
			}
		})
	}
}
