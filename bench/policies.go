package main

import (
	"net/netip"

	"github.com/unspan/unspan/userspace/policy"
)

// ruled is a policy of n rules such as an operator writes, for other feeds than the
// one that is measured: by exporter, session and VLAN. What meets none of them is
// kept, or dropped. Exporters are on a list, and the measured one's is on it.
func ruled(n int, drop bool) *policy.Policy {
	p := policy.Default()
	p.Exporters = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::/32")}
	for i := range uint32(n) {
		rule := policy.Rule{Action: policy.Action{OneIn: 1 + i%7, ByFlow: true, Snap: 128}}
		switch i % 3 {
		case 0:
			rule.Exporters = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32)}
		case 1:
			rule.Exporters = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
			rule.Sessions = []policy.Range{{First: i % 1024, Last: i % 1024}}
		case 2:
			rule.VLANs = []policy.Range{{First: 4094 - i, Last: 4094 - i}}
		}
		p.Rules = append(p.Rules, rule)
	}
	p.Default.Drop = drop
	return p
}

// someRules are as many as an operator has; manyRules as many as nobody writes by hand.
const someRules, manyRules = 10, 1000
