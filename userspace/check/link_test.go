package check

import (
	"encoding/binary"
	"maps"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink/nl"
)

// fast is an interface that has all.
func fast() link {
	return link{
		name: "eth1", ethernet: true, up: true, carrier: true, driver: "ice", mtu: 9000, addresses: 2,
		xdp: &xdpFeatures{basic: true, redirect: true, zeroCopy: true, buffers: true, timestamps: true},
		offloads: map[string]ethtool.FeatureState{
			"rx-vlan-hw-parse": {Available: true, Requested: true, Active: true},
			"rx-lro":           {Available: true},
		},
		queues: 8, ring: 2048, ringMax: 8160,
	}
}

// The kernel takes "xdp off" for the driver's program wherever it has one, and
// leaves a generic program where it is.
func TestRemoval(t *testing.T) {
	for generic, want := range map[bool]string{false: "ip link set dev eth1 xdp off", true: "ip link set dev eth1 xdpgeneric off"} {
		l := fast()
		l.name, l.program, l.generic = "eth1", 77, generic
		var cure string
		for _, f := range l.findings(version{6, 12}) {
			if f.Name == "other XDP" {
				cure = f.Cure
			}
		}
		if !strings.HasSuffix(cure, want) {
			t.Errorf("generic %t: cure %q, want %q", generic, cure, want)
		}
	}
}

// Each row takes one thing from an interface that has all.
func TestLink(t *testing.T) {
	fixed := ethtool.FeatureState{Active: true}
	tests := []struct {
		name    string
		version version
		alter   func(*link)
		want    map[string]Status // by finding; all others are OK
	}{
		{"all there", version{6, 12}, func(*link) {}, nil},
		{"not Ethernet", version{6, 12}, func(l *link) { l.ethernet = false }, map[string]Status{"type": Missing}},
		{"down", version{6, 12}, func(l *link) { l.up, l.carrier = false, false }, map[string]Status{"link": Missing}},
		{"no carrier", version{6, 12}, func(l *link) { l.carrier = false }, map[string]Status{"link": Warning}},
		{"no address", version{6, 12}, func(l *link) { l.addresses = 0 }, map[string]Status{"addresses": Warning}},
		{"another program", version{6, 12}, func(l *link) { l.program = 77 }, map[string]Status{"other XDP": Missing}},
		{"no native XDP", version{6, 12}, func(l *link) { *l.xdp, l.mtu = xdpFeatures{}, 1600 }, map[string]Status{"native XDP": Warning}},
		{"native XDP that cannot redirect", version{6, 12}, func(l *link) { l.xdp.redirect = false }, map[string]Status{"native XDP": Warning}},
		{"no zero-copy", version{6, 12}, func(l *link) { l.xdp.zeroCopy = false }, nil},
		{"one buffer a frame, and small frames", version{6, 12}, func(l *link) { l.xdp.buffers, l.mtu = false, 3000 }, nil},
		{"one buffer a frame, and large frames", version{6, 12}, func(l *link) { l.xdp.buffers = false }, map[string]Status{"large frames": Warning}},
		{"large frames before AF_XDP could", version{6, 5}, func(*link) {}, map[string]Status{"large frames": Warning, "MTU": Warning}},
		{"a kernel that does not say, a driver that can", version{6, 1}, func(l *link) { l.xdp, l.mtu = nil, 1600 }, nil},
		{"a kernel that does not say, a driver that cannot", version{6, 1}, func(l *link) { l.xdp, l.mtu, l.driver = nil, 1600, "e1000" }, map[string]Status{"native XDP": Warning}},
		{"an MTU of 1500", version{6, 12}, func(l *link) { l.mtu = 1500 }, map[string]Status{"MTU": Warning}},
		{"VLAN offload fixed on", version{6, 12}, func(l *link) { l.offloads["rx-vlan-hw-parse"] = fixed }, map[string]Status{"VLAN offload": Warning}},
		{"LRO fixed on", version{6, 12}, func(l *link) { l.offloads["rx-lro"] = fixed }, map[string]Status{"LRO": Warning}},
		{"hardware GRO fixed on", version{6, 12}, func(l *link) { l.offloads["rx-gro-hw"], l.driver = fixed, "virtio_net" }, map[string]Status{"hardware GRO": Warning}},
		{"a driver without offloads", version{6, 12}, func(l *link) { l.offloads = nil }, nil},
		{"more queues than are served", version{6, 12}, func(l *link) { l.queues = 65 }, map[string]Status{"receive queues": Warning}},
		{"one queue", version{6, 12}, func(l *link) { l.queues = 1 }, nil},
		{"no ring", version{6, 12}, func(l *link) { l.ring, l.ringMax = 0, 0 }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := fast()
			l.offloads = maps.Clone(l.offloads)
			tt.alter(&l)
			assert(t, l.findings(tt.version), tt.want)
		})
	}
}

func TestParseXDPFeatures(t *testing.T) {
	u64 := func(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }
	attribute := func(typ int, value []byte) []byte { return nl.NewRtAttr(typ, value).Serialize() }
	tests := []struct {
		name       string
		attributes []byte
		want       *xdpFeatures
	}{
		{"none", nil, &xdpFeatures{}},
		{"a virtual NIC", attribute(netdevDevFeatures, u64(0x23)), &xdpFeatures{basic: true, redirect: true, buffers: true}},
		{"a NIC", append(attribute(netdevDevFeatures, u64(0x6f)), attribute(netdevDevRxMetadata, u64(7))...),
			&xdpFeatures{basic: true, redirect: true, zeroCopy: true, buffers: true, timestamps: true}},
		{"metadata without timestamps", attribute(netdevDevRxMetadata, u64(6)), &xdpFeatures{}},
		{"a value too short", attribute(netdevDevFeatures, []byte{0xff, 0, 0, 0}), &xdpFeatures{}},
		{"an attribute longer than the answer", []byte{0xff, 0, 3, 0, 1}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parseXDPFeatures(tt.attributes)
			if got == nil || tt.want == nil {
				if got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			} else if *got != *tt.want {
				t.Errorf("got %+v, want %+v", *got, *tt.want)
			}
		})
	}
}
