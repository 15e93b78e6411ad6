package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

func TestExplainText(t *testing.T) {
	needTcpdump(t)
	p := mustRead(t, whole+"\n")
	p.Rules = append(p.Rules, mustRead(t, "rules:\n- {name: noise, filter: arp, action: drop}\n").Rules...)
	var b bytes.Buffer
	if err := mustCompile(t, p).Explain().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `exporters   192.0.2.0/24, 2001:db8::/32; others are dropped
loops       unwrap
duplicates  dropped when they come from any feed within 20ms, whatever their ttl or tos

LINE  RULE        FRAMES                                                          ACTION
11    everything  exporter 192.0.2.7/32                                           keep 1 in 1000 flows, cut to 128 bytes
                  collector 198.51.100.1/32, 198.51.100.2/31
                  encapsulation erspan2, erspan3
                  session 5-7, 16-31
                  gre_key 33554432
                  vlan untagged, 100, 300-399
                  direction egress
22    rule 2      encapsulation vxlan                                             drop
                  vni 5000-5999
2     noise       filter arp                                                      drop
                    4 instructions, 48 in the kernel; matches no bare IP packets
      default     all others                                                      keep 1 in 10 packets

in the kernel: 4 rules, 4 sets of rules, 36 ranges, 7 prefixes, 1 filter: 1032 bytes
`
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}

func TestExplainEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := mustCompile(t, policy.Default()).Explain().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `exporters   all
loops       drop
duplicates  kept

LINE  RULE     FRAMES      ACTION
      default  all others  keep

in the kernel: 1 rule, 0 sets of rules, 0 ranges, 0 prefixes, 0 filters: 16 bytes
`
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}

func TestExplainJSON(t *testing.T) {
	var b bytes.Buffer
	if err := mustCompile(t, mustRead(t, whole)).Explain().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got policy.Explanation
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rules) != 2 || got.Rules[1].Action != "drop" || len(got.Rules[0].Conditions) != 7 || got.Kernel.Rules != 3 {
		t.Errorf("read back as %+v", got)
	}
}

// The kernel's share is the sum of what the rules name, and never their product.
func TestCompiledSizeIsASum(t *testing.T) {
	p := policy.Default()
	for i := range 50 {
		r := policy.Rule{Action: policy.Action{OneIn: 1}}
		for j := range 40 {
			r.Exporters = append(r.Exporters, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), byte(j)}), 32))
			r.VLANs = append(r.VLANs, policy.Range{First: uint32(i + 100*j), Last: uint32(i + 100*j)})
			r.Keys = append(r.Keys, policy.Range{First: uint32(i + 100*j), Last: uint32(i + 100*j)})
		}
		p.Rules = append(p.Rules, r)
	}
	k := mustCompile(t, p).Explain().Kernel
	if k.Prefixes != 50*40+2 || k.Ranges > 2*4096 || k.Sets > 60 || k.Bytes > 200_000 {
		t.Errorf("50 rules of 40 exporters, VLANs and keys each compile to %+v", k)
	}
}

func TestCompileLimits(t *testing.T) {
	many := func(count int, change func(i int, r *policy.Rule)) *policy.Policy {
		p := policy.Default()
		for i := range count {
			r := policy.Rule{Action: policy.Action{OneIn: 1}}
			change(i, &r)
			p.Rules = append(p.Rules, r)
		}
		return p
	}
	for _, row := range []struct {
		name, want string
		p          *policy.Policy
	}{
		{"rules", "compiling policy: 1025 rules, the limit is 1024", many(1025, func(int, *policy.Rule) {})},
		{"ranges", "compiling policy: its rules cut gre_key into 10000 ranges, the limit is 4096: use fewer or wider ranges",
			many(2, func(i int, r *policy.Rule) {
				for j := range uint32(2500) {
					r.Keys = append(r.Keys, policy.Range{First: 10*j + 5*uint32(i), Last: 10*j + 5*uint32(i)})
				}
			})},
		{"prefixes", "compiling policy: its rules name 20002 prefixes, the limit is 16384",
			many(2, func(i int, r *policy.Rule) {
				for j := range 10_000 {
					r.Exporters = append(r.Exporters, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + i), byte(j >> 8), byte(j)}), 32))
				}
			})},
	} {
		if _, err := policy.Compile(row.p); err == nil || err.Error() != row.want {
			t.Errorf("%s: error %v\nwant %s", row.name, err, row.want)
		}
	}
}

func TestFillNeedsThePolicyHeader(t *testing.T) {
	err := mustCompile(t, policy.Default()).Fill(&ebpf.CollectionSpec{})
	if err == nil || !strings.Contains(err.Error(), "bpf/policy.h") {
		t.Errorf("a program without a policy was filled: %v", err)
	}
}

func trial(t *testing.T, asJSON bool) string {
	t.Helper()
	p := mustRead(t, "rules:\n- {name: storage, vlan: 300, action: keep, snap: 96}\n- {vlan: 301, action: drop}\n")
	var b bytes.Buffer
	run := policy.NewTrial(p, &b, asJSON)
	key := bpf.FeedKey{Exporter: netip.MustParseAddr("192.0.2.7").As16(), Collector: netip.MustParseAddr("192.0.2.1").As16(),
		Encap: uint8(bpf.EncapERSPAN2), Session: 5}
	for i, vlan := range []uint16{300, 301, 302} {
		rec := record(200)
		rec.Flags, rec.Tci = bpf.RecordVLAN, vlan
		if err := run.Frame(i+1, &key, rec, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTrialText(t *testing.T) {
	const want = `  packet  feed                              vlan  length  rule                      kept  verdict
       1  192.0.2.7/erspan2/5                300     200  storage                     96  keep
       2  192.0.2.7/erspan2/5                301     200  rule 2                       0  policy
       3  192.0.2.7/erspan2/5                302     200  default                    200  keep

LINE  RULE     PACKETS  BYTES  KEPT  ACTION
2     storage  1        200    1     keep, cut to 96 bytes
3     rule 2   1        200    0     drop
      default  1        200    1     keep
`
	if got := trial(t, false); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestTrialJSON(t *testing.T) {
	const want = `{"packet":1,"feed":"192.0.2.7/erspan2/5","vlan":300,"length":200,"rule":"storage","line":2,"verdict":"keep","kept":96}
{"packet":2,"feed":"192.0.2.7/erspan2/5","vlan":301,"length":200,"rule":"rule 2","line":3,"verdict":"policy","kept":0}
{"packet":3,"feed":"192.0.2.7/erspan2/5","vlan":302,"length":200,"rule":"default","verdict":"keep","kept":200}
{"rules":[{"rule":"storage","line":2,"action":"keep, cut to 96 bytes","packets":1,"bytes":200,"kept":1},{"rule":"rule 2","line":3,"action":"drop","packets":1,"bytes":200,"kept":0},{"rule":"default","action":"keep","packets":1,"bytes":200,"kept":1}]}
`
	if got := trial(t, true); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

// Every action has its own words.
func TestActionText(t *testing.T) {
	for want, a := range map[string]policy.Action{
		"drop":                               {Drop: true, OneIn: 1},
		"keep":                               {OneIn: 1},
		"keep 1 in 7 packets":                {OneIn: 7},
		"keep 1 in 7 flows":                  {OneIn: 7, ByFlow: true},
		"keep, cut to 96 bytes":              {OneIn: 1, Snap: 96},
		"keep 1 in 7 flows, cut to 96 bytes": {OneIn: 7, ByFlow: true, Snap: 96},
	} {
		if got := fmt.Sprint(a); got != want {
			t.Errorf("%#v prints as %q, want %q", a, got, want)
		}
	}
}
