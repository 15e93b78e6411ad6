package loader_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/filter"
	"github.com/unspan/unspan/userspace/policy"
)

// everything is every encapsulation there is.
const everything = bpf.DefaultAccept + ",gre-ip,gre:0x8949,vxlan,vxlan:8472,geneve,rspan:7,native"

func mustCompile(t testing.TB, p *policy.Policy) *policy.Compiled {
	t.Helper()
	c, err := policy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// thousandRules look at everything that a rule can look at, but for filters.
func thousandRules() (rules []policy.Rule) {
	for i := range uint32(1000) {
		rules = append(rules, policy.Rule{
			Exporters:  []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32)},
			Collectors: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.0/24")},
			Sessions:   []policy.Range{{First: i, Last: i}},
			VLANs:      []policy.Range{{First: 2 * i, Last: 2*i + 1}},
			Direction:  policy.Ingress,
			Action:     policy.Action{OneIn: 1 + i%3, ByFlow: i%2 == 0, Snap: 100},
		})
	}
	return rules
}

func filteringRules(t testing.TB) (rules []policy.Rule) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal(err)
		}
		t.Skipf("tcpdump compiles filters: apt install tcpdump: %v", err)
	}
	for _, expression := range []string{"ip", "tcp port 443 and host 198.51.100.10", "vlan 7 and ip6", "arp or stp"} {
		f, err := filter.Compile(t.Context(), expression)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, policy.Rule{Filter: f, Action: policy.Action{OneIn: 1}})
	}
	return rules
}

// The verifier takes the program under every setting that changes it, and with
// room to spare: it gives up at a million instructions.
func TestLoadEveryConfiguration(t *testing.T) {
	needRoot(t)
	settings := []struct {
		name string
		set  func(*loader.Config, *policy.Policy)
	}{
		{"any destination", func(c *loader.Config, _ *policy.Policy) { c.Settings.AnyDestination = 1 }},
		{"exporters", func(_ *loader.Config, p *policy.Policy) {
			p.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		}},
		{"drop strangers", func(_ *loader.Config, p *policy.Policy) { p.DropStrangers = true }},
		{"loops kept", func(_ *loader.Config, p *policy.Policy) { p.Loops = policy.LoopKeep }},
		{"loops unwrapped", func(_ *loader.Config, p *policy.Policy) { p.Loops = policy.LoopUnwrap }},
		{"duplicates", func(_ *loader.Config, p *policy.Policy) { p.Duplicates.Window = time.Second }},
		{"rules", func(_ *loader.Config, p *policy.Policy) { p.Rules = append(p.Rules, thousandRules()...) }},
		{"filters", func(_ *loader.Config, p *policy.Policy) { p.Rules = append(p.Rules, filteringRules(t)...) }},
		{"multi-buffer", func(c *loader.Config, _ *policy.Policy) { c.Settings.MultiBuffer = 1 }},
		{"one queue", func(c *loader.Config, _ *policy.Policy) { c.Queues = 1 }},
		{"16 workers", func(c *loader.Config, _ *policy.Policy) { c.Settings.Workers = 16 }},
		{"65,535 feeds", func(c *loader.Config, _ *policy.Policy) { c.MaxFeeds = 65535 }},
	}
	for kind, accept := range map[string]string{"defaults": bpf.DefaultAccept, "everything": everything} {
		for i := range len(settings) + 2 { // each alone, none, all
			name, config, rules := kind, loader.Default(), policy.Default()
			if err := bpf.Accept(&config.Settings, accept); err != nil {
				t.Fatal(err)
			}
			config.Collectors = []netip.Addr{collector}
			for j, s := range settings {
				if j == i || i == len(settings)+1 {
					name += ", " + s.name
					s.set(&config, rules)
				}
			}
			t.Run(name, func(t *testing.T) {
				config.Policy = mustCompile(t, rules)
				d, err := loader.Load(config)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				verified, size := measure(t, d)
				if verified > 500_000 {
					t.Errorf("the verifier looked at %d instructions, and gives up at 1,000,000", verified)
				}
				t.Logf("%s: %d instructions, of which the verifier looked at %d", name, size, verified)
			})
		}
	}
}

// measure counts the instructions that the verifier looked at, and those of the
// program that it left.
func measure(t *testing.T, d *loader.Datapath) (verified, size int) {
	t.Helper()
	info, err := d.Program().Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	bytes, err := info.TranslatedSize()
	if !ok || err != nil {
		t.Fatalf("the kernel does not say how large the program is: %v", err)
	}
	return int(n), bytes / 8
}

// The live sender is not the loader's, but the verifiers of old kernels are met
// here: see scripts/test-kernel.
func TestLoadTheLiveSender(t *testing.T) {
	needRoot(t)
	spec, err := bpf.LoadMirror()
	if err != nil {
		t.Fatal(err)
	}
	var objects bpf.MirrorObjects
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		t.Fatal(err)
	}
	if err := objects.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfigIsRefused(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*loader.Config)
		want   string
	}{
		{"mode", func(c *loader.Config) { c.Mode = "offload" }, `mode "offload" is none of auto, native, generic`},
		{"no worker", func(c *loader.Config) { c.Settings.Workers = 0 }, "workers 0: must be 1 to 16"},
		{"too many workers", func(c *loader.Config) { c.Settings.Workers = 17 }, "workers 17: must be 1 to 16"},
		{"nothing accepted", func(c *loader.Config) { c.Settings.Accept = 0 }, "accept names no encapsulation"},
		{"no feeds", func(c *loader.Config) { c.MaxFeeds = 0 }, "max feeds 0: must be 1 to 65535"},
		{"too many feeds", func(c *loader.Config) { c.MaxFeeds = 65536 }, "max feeds 65536: must be 1 to 65535"},
		{"queues below zero", func(c *loader.Config) { c.Queues = -1 }, "queues -1: must be 0"},
		{"too many queues", func(c *loader.Config) { c.Queues = 65 }, "queues 65: must be 0"},
		{"no collector", func(c *loader.Config) { c.Collectors = nil }, "no collector address: give the interface one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := loader.Default()
			config.Collectors = []netip.Addr{collector}
			row.change(&config)
			d, err := loader.Load(config)
			if err == nil {
				d.Close()
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q, want %q in it", err, row.want)
			}
		})
	}
}

func TestTooManyCollectors(t *testing.T) {
	needRoot(t)
	config := loader.Default()
	for addr := collector; len(config.Collectors) <= bpf.MaxCollectors; addr = addr.Next() {
		config.Collectors = append(config.Collectors, addr)
	}
	if d, err := loader.Load(config); err == nil {
		d.Close()
		t.Error("loaded with more collectors than there is room for")
	} else if want := "33 of them, at most 32 fit"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want %q in it", err, want)
	}
	config.Collectors = config.Collectors[1:]
	d, err := loader.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// The collector's addresses change while packets flow.
func TestSetCollectors(t *testing.T) {
	needRoot(t)
	const pass = 2 // XDP_PASS, linux/bpf.h
	d := mustLoad(t, func(c *loader.Config) { c.Collectors = []netip.Addr{netip.MustParseAddr("192.0.2.9")} })
	if action, _, err := d.Program().Test(erspan2(1, 1)); err != nil || action != pass {
		t.Errorf("a packet to somebody else: action %d, %v, want %d: pass", action, err, pass)
	}
	if err := d.SetCollectors([]netip.Addr{netip.MustParseAddr("2001:db8::2"), collector}); err != nil {
		t.Fatal(err)
	}
	deliver(t, d, erspan2(1, 2))
}
