package bpf

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultAccept names the encapsulations taken when nobody says otherwise: those
// that carry Ethernet and are made for mirroring.
const DefaultAccept = "erspan1,erspan2,erspan3,gre"

// Ports that IANA gave to the UDP encapsulations.
const (
	vxlanPort  = 4789
	genevePort = 6081
)

// Accept sets which encapsulations config takes, from a list such as
//
//	erspan1,erspan2,erspan3,gre     the default
//	vxlan, vxlan:8472               UDP port 4789, and 8472 as well
//	geneve, geneve:6082             UDP port 6081, and 6082 as well
//	gre-ip                          bare IP packets: GRE 0x0800 and 0x86dd, ERSPAN III FT=2, Geneve
//	gre:0x8949                      one more GRE protocol number that carries Ethernet
//	erspan2:0x8949, erspan3:0x8949  ... or ERSPAN I and II (by the S bit), or III
//	rspan:300                       the mirror on VLAN 300
//	native                          every other frame of the interface as it is
//
// Nothing of config but its encapsulations is changed.
func Accept(config *Config, list string) error {
	c := Config{}
	for item := range strings.SplitSeq(list, ",") {
		if err := c.accept(strings.TrimSpace(item)); err != nil {
			return fmt.Errorf("accepting %q: %w", item, err)
		}
	}
	config.Accept, config.GreProtocols, config.RspanVlan = c.Accept, c.GreProtocols, c.RspanVlan
	config.VxlanPorts, config.GenevePorts = c.VxlanPorts, c.GenevePorts
	return nil
}

func (c *DecapConfig) accept(item string) error {
	name, number, numbered := strings.Cut(item, ":")
	encap, ok := ParseEncap(name)
	if !ok {
		return fmt.Errorf("no such encapsulation: there are erspan1, erspan2, erspan3, gre, gre-ip, vxlan, geneve, rspan:VLAN and native")
	}
	n := uint64(0)
	if numbered {
		var err error
		if n, err = strconv.ParseUint(number, 0, 16); err != nil || n == 0 {
			return fmt.Errorf("%q is not a number from 1 to 65535", number)
		}
	}
	c.Accept |= 1 << encap
	switch {
	case encap == EncapVXLAN:
		return addPorts(&c.VxlanPorts, vxlanPort, uint16(n))
	case encap == EncapGeneve:
		return addPorts(&c.GenevePorts, genevePort, uint16(n))
	case encap == EncapRSPAN:
		if n == 0 || n > 4094 {
			return fmt.Errorf("rspan needs the VLAN that carries the mirror, 1 to 4094: rspan:300")
		}
		c.RspanVlan = uint16(n)
	case numbered && (encap == EncapGRE || encap == EncapERSPAN2 || encap == EncapERSPAN3):
		if encap == EncapERSPAN2 {
			c.Accept |= 1 << EncapERSPAN1
		}
		return c.addProtocol(uint16(n), encap)
	case numbered:
		return fmt.Errorf("%s takes no number", name)
	}
	return nil
}

func addPorts(ports *[4]uint16, add ...uint16) error {
	for _, p := range add {
		if p == 0 {
			continue
		}
		for i := range ports {
			if ports[i] == p {
				break
			}
			if ports[i] == 0 {
				ports[i] = p
				break
			}
			if i == len(ports)-1 {
				return fmt.Errorf("at most %d ports", len(ports))
			}
		}
	}
	return nil
}

func (c *DecapConfig) addProtocol(protocol uint16, encap Encap) error {
	for i := range c.GreProtocols {
		g := &c.GreProtocols[i]
		if g.Protocol == 0 || g.Protocol == protocol {
			g.Protocol, g.Encap = protocol, uint8(encap)
			return nil
		}
	}
	return fmt.Errorf("at most %d extra GRE protocols", len(c.GreProtocols))
}
