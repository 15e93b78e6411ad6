package web

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/unspan/unspan/userspace/flow"
)

// protocols that people call by name (IANA's protocol numbers).
var protocols = map[string]uint8{
	"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51,
	"icmp6": 58, "icmpv6": 58, "ospf": 89, "vrrp": 112, "sctp": 132,
}

const longestSearch = 200

// parseSearch reads what stands in the search field: words, all of which must
// hold of a flow.
//
//	192.0.2.7  2001:db8::/32  192.0.2.7:443  a side's address
//	443  :443  port 443                      a side's port
//	tcp  udp  icmp  protocol 47
//	vlan 100
//	feed 192.0.2.7/erspan2/1000
func parseSearch(text string, feedID func(string) uint32) (m flow.Match, err error) {
	if len(text) > longestSearch {
		return m, fmt.Errorf("searching: more than %d characters", longestSearch)
	}
	words := strings.Fields(text)
	for i := 0; i < len(words) && err == nil; i++ {
		switch word := strings.ToLower(words[i]); word {
		case "and":
		case "port", "vlan", "protocol", "proto", "host", "net", "feed":
			if i++; i == len(words) {
				return m, fmt.Errorf("searching: nothing stands behind %s", word)
			}
			if word != "feed" {
				err = named(&m, word, strings.ToLower(words[i]))
			} else if id := feedID(words[i]); id != 0 {
				err = once(&m.Feed, id, "feed")
			} else {
				err = fmt.Errorf("searching: no flow came through a feed %q", words[i])
			}
		default:
			err = bare(&m, word)
		}
	}
	return m, err
}

// named takes a word that the one before it explains.
func named(m *flow.Match, name, word string) error {
	switch name {
	case "port":
		return port(m, word)
	case "vlan":
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || n < 1 || n > 4094 {
			return fmt.Errorf("searching: VLAN %q is not between 1 and 4094", word)
		}
		return once(&m.VLAN, uint16(n), "VLAN")
	case "protocol", "proto":
		if n, ok := protocols[word]; ok {
			return once(&m.Protocol, n, "protocol")
		}
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil || n == 0 {
			return fmt.Errorf("searching: protocol %q is neither a number from 1 to 255 nor a name known here", word)
		}
		return once(&m.Protocol, uint8(n), "protocol")
	}
	return address(m, word)
}

// bare takes a word that stands for itself.
func bare(m *flow.Match, word string) error {
	if n, ok := protocols[word]; ok {
		return once(&m.Protocol, n, "protocol")
	}
	if digits := strings.TrimPrefix(word, ":"); digits != "" && strings.Trim(digits, "0123456789") == "" {
		return port(m, digits)
	}
	if both, err := netip.ParseAddrPort(word); err == nil {
		if err := port(m, strconv.Itoa(int(both.Port()))); err != nil {
			return err
		}
		word = both.Addr().String()
	}
	return address(m, word)
}

func port(m *flow.Match, word string) error {
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("searching: port %q is not between 1 and 65535", word)
	}
	return once(&m.Port, uint16(n), "port")
}

func address(m *flow.Match, word string) error {
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		addr, err := netip.ParseAddr(word)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("searching: %q is neither an address, a prefix, a port nor a protocol: write 192.0.2.7, 2001:db8::/32, 443, tcp or vlan 100", word)
		}
		prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	if m.Address.IsValid() {
		return errors.New("searching: two addresses: give one, or the prefix that both are in")
	}
	m.Address = prefix.Masked()
	return nil
}

// once sets what can be asked for once only: all words must hold.
func once[T comparable](field *T, value T, what string) error {
	var zero T
	if *field != zero && *field != value {
		return fmt.Errorf("searching: two different %ss: no flow has both as one; give one", what)
	}
	*field = value
	return nil
}
