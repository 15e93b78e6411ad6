package decap_test

import (
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
)

// BenchmarkDecap is the cost of one packet by encapsulation: feed found, sequence
// observed, inner flow hashed.
func BenchmarkDecap(b *testing.B) {
	for _, row := range []struct {
		name  string
		frame []byte
		want  bpf.Verdict
	}{
		{"erspan1", type1, bpf.RedirectInner},
		{"erspan2", type2, bpf.RedirectInner},
		{"erspan3", type3sub, bpf.RedirectInner},
		{"gre", bridged, bpf.RedirectInner},
		{"gre-ip", routed, bpf.RedirectInner},
		{"vxlan", overlay, bpf.RedirectInner},
		{"geneve", generic, bpf.RedirectInner},
		{"erspan2 over ip6", eth(0x86dd, ip6(47, type2[l4:])), bpf.RedirectInner},
		{"rspan", tagged(inside, 300), bpf.RedirectInner},
		{"fragment", tail4, bpf.RedirectFragment},
		{"not ours", with(type1, l3+9, 6), bpf.PassNotTunnel},
	} {
		b.Run(row.name, func(b *testing.B) {
			s := everything()
			rspan(&s)
			e := s.engineWith(feed.NewTable(feed.Max))
			frame := append([]byte(nil), row.frame...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				copy(frame[:18], row.frame) // what RSPAN moves
				if row.name == "erspan2" || row.name == "erspan3" {
					frame[l4+7] = byte(i)
				}
				if _, _, v := e.Decap(frame, now); v != row.want {
					b.Fatal(bpf.VerdictName(v))
				}
			}
		})
	}
}

// BenchmarkFeeds is the same with as many feeds as the table holds, in turn.
func BenchmarkFeeds(b *testing.B) {
	s := everything()
	s.config.AnyDestination = 1
	e := decap.New(s.config, nil, feed.NewTable(feed.Max))
	frame := append([]byte(nil), type2...)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		frame[l3+14], frame[l3+15] = byte(i>>8&0xf), byte(i)
		if rec, _, v := e.Decap(frame, now); v != bpf.RedirectInner || rec.Feed == 0 {
			b.Fatal(bpf.VerdictName(v))
		}
	}
}
