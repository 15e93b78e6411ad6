package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

func read(t testing.TB, text string) (*policy.Policy, error) {
	t.Helper()
	return policy.Read(t.Context(), "p.yaml", []byte(text))
}

func mustRead(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const whole = `# everything a policy can say, but filters
exporters:
  allow: [192.0.2.0/24, "2001:db8::/32", 192.0.2.7]
  strangers: drop
loops: unwrap
duplicates:
  window: 20ms
  within_feed: true
  ignore: [ttl, tos]
rules:
  - name: everything
    exporter: 192.0.2.7
    collector: [198.51.100.1, 198.51.100.2/31]
    encapsulation: [erspan2, erspan3]
    session: [5, 0x10-0x1f, 6 - 7, 20]
    gre_key: 0x02000000
    vlan: [untagged, 300-399, 100]
    direction: egress
    action: keep
    sample: {one_in: 1000, by: flow}
    snap: 128
  - encapsulation: vxlan
    vni: 5000-5999
    action: drop
default:
  action: keep
  sample:
    one_in: 10
`

func TestReadWhole(t *testing.T) {
	got := mustRead(t, whole)
	prefix := netip.MustParsePrefix
	want := &policy.Policy{
		Exporters:     []netip.Prefix{prefix("192.0.2.0/24"), prefix("2001:db8::/32")},
		DropStrangers: true,
		Loops:         policy.LoopUnwrap,
		Duplicates:    policy.Duplicates{Window: 20 * time.Millisecond, WithinFeed: true, Ignore: policy.IgnoreTTL | policy.IgnoreTOS},
		Rules: []policy.Rule{
			{
				Name: "everything", Line: 11,
				Exporters:  []netip.Prefix{prefix("192.0.2.7/32")},
				Collectors: []netip.Prefix{prefix("198.51.100.1/32"), prefix("198.51.100.2/31")},
				Encaps:     []bpf.Encap{bpf.EncapERSPAN2, bpf.EncapERSPAN3},
				Sessions:   []policy.Range{{5, 7}, {16, 31}},
				Keys:       []policy.Range{{0x2000000, 0x2000000}},
				VLANs:      []policy.Range{{0, 0}, {100, 100}, {300, 399}},
				Direction:  policy.Egress,
				Action:     policy.Action{OneIn: 1000, ByFlow: true, Snap: 128},
			},
			{
				Name: "rule 2", Line: 22,
				Encaps: []bpf.Encap{bpf.EncapVXLAN},
				VNIs:   []policy.Range{{5000, 5999}},
				Action: policy.Action{Drop: true, OneIn: 1},
			},
		},
		Default: policy.Action{OneIn: 10},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
}

func TestReadNothing(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "---\n", "rules: []\n", "null\n"} {
		got, err := read(t, text)
		if err != nil || !reflect.DeepEqual(got, policy.Default()) {
			t.Errorf("%q reads as %+v, %v, want the default", text, got, err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	rule := func(lines ...string) string { return "rules:\n- action: keep\n  " + strings.Join(lines, "\n  ") + "\n" }
	for _, row := range []struct{ name, text, want string }{
		{"not YAML", "rules: [", "p.yaml:1: not YAML: did not find expected node content"},
		{"two documents", "rules: []\n---\nrules: []\n", "p.yaml: the file holds more than one YAML document: remove the lines from the second --- on"},
		{"a list", "- 1\n", "p.yaml:1: the policy is a list, want keys and values: default, duplicates, exporters, loops, rules"},
		{"unknown key", "rule: []\n", `p.yaml:1: the policy has no key "rule"; it has default, duplicates, exporters, loops, rules`},
		{"unknown key of a rule", rule("vlans: 5"), `p.yaml:3: a rule has no key "vlans"; it has action, collector, direction, encapsulation, exporter, filter, gre_key, name, sample, session, snap, vlan, vni`},
		{"key twice", rule("vlan: 5", "vlan: 6"), `p.yaml:4: a rule says "vlan" twice, first in line 3: remove one`},
		{"merge key", "a: &a {}\n", `p.yaml:1: the policy has no key "a"; it has default, duplicates, exporters, loops, rules`},
		{"no action", "rules:\n- vlan: 5\n", "p.yaml:2: the rule has no action: add action: keep or action: drop"},
		{"action", "rules:\n- action: accept\n", `p.yaml:2: action is "accept", want keep or drop`},
		{"VLAN too large", rule("vlan: 4095"), `p.yaml:3: vlan is "4095", but VLAN ids are 0 to 4094`},
		{"VLAN reversed", rule("vlan: 20-10"), `p.yaml:3: vlan is "20-10", a range from high to low: write 10-20`},
		{"VLAN a word", rule("vlan: storage"), `p.yaml:3: vlan is "storage", want a number such as 100 or 0x64, or a range such as 100-199`},
		{"VLAN octal", rule("vlan: 010"), `p.yaml:3: vlan is "010", want a number such as 100 or 0x64, or a range such as 100-199`},
		{"VLAN negative", rule("vlan: -5"), `p.yaml:3: vlan is "-5", want a number such as 100 or 0x64, or a range such as 100-199`},
		{"VLAN empty", rule("vlan:"), "p.yaml:3: vlan is empty, want a value or a list of them; leave the key out to match everything"},
		{"VLAN empty list", rule("vlan: []"), "p.yaml:3: vlan is an empty list, want a value or a list of them; leave the key out to match everything"},
		{"VLAN in a list", rule("vlan: [1, [2]]"), "p.yaml:3: vlan is a list, want a value"},
		{"session too large", rule("session: 1024"), `p.yaml:3: session is "1024", but ERSPAN session ids are 0 to 1023`},
		{"untagged session", rule("session: untagged"), `p.yaml:3: session is "untagged", want a number such as 100 or 0x64, or a range such as 100-199`},
		{"key too large", rule("gre_key: 0x100000000"), `p.yaml:3: gre_key is "0x100000000", want a number such as 100 or 0x64, or a range such as 100-199`},
		{"VNI too large", rule("vni: 16777216"), `p.yaml:3: vni is "16777216", but VNIs are 0 to 16777215`},
		{"prefix with host bits", rule("exporter: 192.0.2.7/24"), `p.yaml:3: exporter is "192.0.2.7/24", which has bits behind the prefix: write 192.0.2.0/24`},
		{"prefix of a name", rule("exporter: spine1"), `p.yaml:3: exporter is "spine1", want an address such as 192.0.2.7 or a prefix such as 192.0.2.0/24`},
		{"prefix with a zone", rule("exporter: fe80::1%eth0"), `p.yaml:3: exporter is "fe80::1%eth0", want an address such as 192.0.2.7 or a prefix such as 192.0.2.0/24`},
		{"prefix in disguise", rule("collector: ::ffff:192.0.2.1"), `p.yaml:3: collector is "::ffff:192.0.2.1", want an address such as 192.0.2.7 or a prefix such as 192.0.2.0/24`},
		{"encapsulation", rule("encapsulation: [erspan2, erspan4]"), `p.yaml:3: encapsulation is "erspan4", want erspan1, erspan2, erspan3, gre, gre-ip, vxlan, geneve, rspan or native`},
		{"direction", rule("direction: in"), `p.yaml:3: direction is "in", want ingress or egress`},
		{"name with a space", rule("name: my rule"), `p.yaml:3: name is "my rule", want 1 to 64 letters, digits and signs without spaces`},
		{"name twice", "rules:\n- {name: a, vlan: 1, action: keep}\n- {name: a, vlan: 2, action: keep}\n", `p.yaml:3: the name "a" is taken, see line 2: choose another`},
		{"empty filter", rule(`filter: ""`), "p.yaml:3: filter: the expression is empty: leave the key out to match everything"},
		{"drop and cut", "rules:\n- {vlan: 1, action: drop, snap: 96}\n", "p.yaml:2: the rule drops every frame, so there is none to sample or cut: remove sample and snap, or keep"},
		{"sample of nothing", rule("sample: {by: flow}"), "p.yaml:2: sample does not say how much: add one_in, such as one_in: 1000"},
		{"sample of all", rule("sample: {one_in: 1}"), `p.yaml:3: one_in is "1", want a number from 2 to 1073741824`},
		{"sample by", rule("sample: {one_in: 5, by: feed}"), `p.yaml:3: by is "feed", want packet or flow`},
		{"sample a number", rule("sample: 5"), `p.yaml:3: sample is "5", want keys and values: by, one_in`},
		{"snap too small", rule("snap: 13"), `p.yaml:3: snap is "13", want a number from 14 to 65535`},
		{"snap too large", rule("snap: 65536"), `p.yaml:3: snap is "65536", want a number from 14 to 65535`},
		{"default", "default: maybe\n", `p.yaml:1: default is "maybe", want keep or drop`},
		{"default without action", "default: {snap: 96}\n", "p.yaml:1: default has no action: add action: keep or action: drop"},
		{"default with a condition", "default: {action: keep, vlan: 5}\n", `p.yaml:1: default has no key "vlan"; it has action, sample, snap`},
		{"exporters without a list", "exporters: {strangers: drop}\n", "p.yaml:1: exporters has no list of them: add allow: [192.0.2.0/24, ...]"},
		{"strangers", "exporters:\n  allow: 192.0.2.0/24\n  strangers: log\n", `p.yaml:3: exporters: strangers is "log", want pass or drop`},
		{"loops", "loops: yes\n", `p.yaml:1: loops is "yes", want drop, unwrap or keep`},
		{"no window", "duplicates: {within_feed: true}\n", "p.yaml:1: duplicates has no window: add one, such as window: 20ms"},
		{"window without a unit", "duplicates: {window: 20}\n", `p.yaml:1: duplicates: window is "20", want a time above 0 and up to 10s, such as 20ms`},
		{"window too long", "duplicates: {window: 1m}\n", `p.yaml:1: duplicates: window is "1m", want a time above 0 and up to 10s, such as 20ms`},
		{"ignore", "duplicates: {window: 1s, ignore: [seq]}\n", `p.yaml:1: duplicates: ignore is "seq", want ttl, tos, checksums, vlan or mac`},
		{"within_feed", "duplicates: {window: 1s, within_feed: 1}\n", `p.yaml:1: duplicates: within_feed is "1", want false or true`},
		{"session of GRE", rule("encapsulation: gre", "session: 5"),
			"p.yaml:2: the rule can never match: its encapsulation does not have what it asks for: session is of erspan2 and erspan3, gre_key of what GRE carries, vni of vxlan and geneve"},
		{"session and VNI", rule("session: 5", "vni: 5"),
			"p.yaml:2: the rule can never match: its encapsulation does not have what it asks for: session is of erspan2 and erspan3, gre_key of what GRE carries, vni of vxlan and geneve"},
		{"families", rule("exporter: 192.0.2.1", "collector: 2001:db8::1"),
			"p.yaml:2: the rule can never match: no exporter sends IPv4 to an IPv6 collector, or the other way round"},
		{"several", "rules:\n- vlan: 5000\n  action: no\nloops: 7\n",
			"p.yaml:2: vlan is \"5000\", but VLAN ids are 0 to 4094\np.yaml:3: action is \"no\", want keep or drop\np.yaml:4: loops is \"7\", want drop, unwrap or keep"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := read(t, row.text)
			if err == nil {
				t.Fatalf("read as %+v, want an error", p)
			}
			if err.Error() != row.want {
				t.Errorf("error %s\nwant  %s", err, row.want)
			}
			var broken *policy.FileError
			if !errors.As(err, &broken) || len(broken.Problems) != strings.Count(row.want, "\n")+1 {
				t.Errorf("%#v does not hold the problems one by one", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"behind everything", "rules:\n- action: keep\n- {vlan: 5, action: drop}\n",
			"p.yaml:3: rule 2 can never match: rule 1 (line 2) takes all of it before it; move it up, or remove it"},
		{"behind a wider range", "rules:\n- {vlan: 1-100, action: keep}\n- {vlan: [5, 50-60], direction: egress, action: drop}\n",
			"p.yaml:3: rule 2 can never match: rule 1 (line 2) takes all of it before it; move it up, or remove it"},
		{"behind a wider prefix", "rules:\n- {name: net, exporter: 192.0.2.0/24, action: keep}\n- {exporter: [192.0.2.7, 192.0.2.128/25], action: drop}\n",
			"p.yaml:3: rule 2 can never match: net (line 2) takes all of it before it; move it up, or remove it"},
		{"behind two halves", "rules:\n- {exporter: 192.0.2.0/25, action: keep}\n- {exporter: 192.0.2.128/25, action: drop}\n- {exporter: 192.0.2.0/24, session: 7, action: drop}\n",
			"p.yaml:4: rule 3 can never match: rule 1 (line 2), rule 2 (line 3) take all of it before it; move it up, or remove it"},
		{"behind its encapsulations", "rules:\n- {encapsulation: [erspan2, erspan3], action: keep}\n- {session: 7, action: drop}\n",
			"p.yaml:3: rule 2 can never match: rule 1 (line 2) takes all of it before it; move it up, or remove it"},
		{"behind all VLANs", "rules:\n- {vlan: 0-2000, action: keep}\n- {vlan: 2001-4094, action: drop}\n- {vlan: [7, 3000], action: keep}\n",
			"p.yaml:4: rule 3 can never match: rule 1 (line 2), rule 2 (line 3) take all of it before it; move it up, or remove it"},
		{"off the list", "exporters: {allow: 192.0.2.0/24}\nrules:\n- {exporter: 198.51.100.0/24, action: keep}\n",
			"p.yaml:3: rule 1 can never match: none of its exporters is on the list under exporters: allow"},
		{"the rest of the list", "exporters: {allow: [192.0.2.0/24, 198.51.100.0/24]}\nrules:\n- {exporter: [192.0.2.0/24, 198.51.100.0/25], action: keep}\n- {exporter: [192.0.0.0/16, 198.51.100.0/25], action: keep}\n",
			"p.yaml:4: rule 2 can never match: rule 1 (line 3) takes all of it before it; move it up, or remove it"},

		{"a filter takes what it takes", "rules:\n- {vlan: 5, action: keep}\n- {vlan: 6, action: drop}\n- {vlan: 5-7, action: drop}\n", ""},
		{"one VLAN is left", "rules:\n- {vlan: 1-9, action: keep}\n- {vlan: 11-4094, action: keep}\n- {vlan: 0-4094, action: drop}\n", ""},
		{"one address is left", "rules:\n- {exporter: [192.0.2.0/25, 192.0.2.128/26, 192.0.2.192/27], action: keep}\n- {exporter: 192.0.2.0/24, action: drop}\n", ""},
		{"IPv6 is not IPv4", "rules:\n- {exporter: \"::/0\", action: keep}\n- {exporter: 192.0.2.0/24, action: drop}\n", ""},
		{"a key may be absent", "rules:\n- {gre_key: 0-0xffffffff, action: keep}\n- {encapsulation: gre, action: drop}\n", ""},
		{"the reserved VLAN comes", "rules:\n- {vlan: 0-4094, action: keep}\n- {encapsulation: gre, action: drop}\n", ""},
		{"each misses another side", "rules:\n- {vlan: 5, action: keep}\n- {session: 5, action: keep}\n- {vlan: 5-6, session: 5-6, action: drop}\n", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := read(t, row.text)
			if got := fmt.Sprint(err); row.want == "" && err != nil || row.want != "" && got != row.want {
				t.Errorf("error %s\nwant  %s", got, row.want)
			}
		})
	}
}

// A rule with a filter hides nothing, and filters have the line of their own.
func TestReadFilters(t *testing.T) {
	needTcpdump(t)
	p := mustRead(t, "rules:\n- {filter: ip, action: keep}\n- {action: drop, filter: tcp port 80}\n- {filter: ip, action: drop, vlan: 5}\n")
	if p.Rules[0].Filter == nil || p.Rules[0].Filter != p.Rules[2].Filter {
		t.Errorf("the same expression twice gives %p and %p, want one filter", p.Rules[0].Filter, p.Rules[2].Filter)
	}
	_, err := read(t, "rules:\n- action: keep\n  vlan: 5\n  filter: tcp prot 80\n")
	const want = `p.yaml:4: filter: "tcp prot 80": can't parse filter expression: syntax error`
	if fmt.Sprint(err) != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if !mustRead(t, "rules:\n- {filter: arp, action: keep}\n").Rules[0].Filter.Match([]byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x08\x06"), false) {
		t.Error("arp does not match ARP")
	}
}

// FuzzRead: no input panics, and what is read can be compiled and read again.
func FuzzRead(f *testing.F) {
	f.Add(whole)
	f.Add("rules: &a [*a]\n")
	f.Add("rules:\n- &r {vlan: 5, action: keep}\n- *r\n")
	f.Add("{exporters: {allow: [::/0, 0.0.0.0/0]}, rules: [{exporter: 10.0.0.0/8, action: drop}]}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "filter") {
			return // each costs a process
		}
		p, err := policy.Read(t.Context(), "f", []byte(text))
		if (p == nil) != (err != nil) {
			t.Fatalf("read gives %v and %v", p, err)
		}
		if err != nil {
			var broken *policy.FileError
			if !errors.As(err, &broken) || len(broken.Problems) == 0 {
				t.Fatalf("%v is not a list of problems", err)
			}
			return
		}
		if _, err := policy.Compile(p); err != nil && len(p.Rules) < 64 && len(text) < 4096 {
			t.Fatal(err)
		}
	})
}

// Every policy in the documentation can be read and compiled.
func TestDocumentedPolicies(t *testing.T) {
	needTcpdump(t)
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, part := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		mustCompile(t, mustRead(t, text))
		examples++
	}
	if examples < 6 {
		t.Errorf("found %d policies in docs/policy.md, want all 6", examples)
	}
}
