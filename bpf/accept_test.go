package bpf_test

import (
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
)

func TestAccept(t *testing.T) {
	bits := func(encaps ...bpf.Encap) (b uint32) {
		for _, e := range encaps {
			b |= 1 << e
		}
		return b
	}
	extra := bpf.Config{Accept: bits(bpf.EncapERSPAN1, bpf.EncapERSPAN2)}
	extra.GreProtocols[0].Protocol, extra.GreProtocols[0].Encap = 0x8949, uint8(bpf.EncapERSPAN2)
	for _, c := range []struct {
		list string
		want bpf.Config
		err  string
	}{
		{list: bpf.DefaultAccept, want: bpf.Config{Accept: bits(bpf.EncapERSPAN1, bpf.EncapERSPAN2, bpf.EncapERSPAN3, bpf.EncapGRE)}},
		{list: "vxlan", want: bpf.Config{Accept: bits(bpf.EncapVXLAN), VxlanPorts: [4]uint16{4789}}},
		{list: "vxlan, vxlan:8472", want: bpf.Config{Accept: bits(bpf.EncapVXLAN), VxlanPorts: [4]uint16{4789, 8472}}},
		{list: "geneve:1", want: bpf.Config{Accept: bits(bpf.EncapGeneve), GenevePorts: [4]uint16{6081, 1}}},
		{list: "gre-ip,native", want: bpf.Config{Accept: bits(bpf.EncapGREIP, bpf.EncapNative)}},
		{list: "rspan:300", want: bpf.Config{Accept: bits(bpf.EncapRSPAN), RspanVlan: 300}},
		{list: "erspan2:0x8949", want: extra},
		{list: "", err: "no such encapsulation"},
		{list: "erspan4", err: "no such encapsulation"},
		{list: "none", err: "no such encapsulation"},
		{list: "rspan", err: "needs the VLAN"},
		{list: "rspan:4095", err: "needs the VLAN"},
		{list: "vxlan:0", err: "not a number"},
		{list: "vxlan:65536", err: "not a number"},
		{list: "native:1", err: "takes no number"},
		{list: "vxlan:1,vxlan:2,vxlan:3,vxlan:4", err: "at most 4 ports"},
		{list: "gre:1,gre:2,gre:3,gre:4,gre:5,gre:6,gre:7,gre:8,gre:9", err: "at most 8"},
	} {
		got := bpf.Config{Workers: 3}
		err := bpf.Accept(&got, c.list)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Accept(%q): error %v, want one about %q", c.list, err, c.err)
			}
			continue
		}
		c.want.Workers = 3
		if err != nil || got != c.want {
			t.Errorf("Accept(%q) = %+v, %v, want %+v", c.list, got, err, c.want)
		}
	}
}
