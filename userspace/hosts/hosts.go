// Package hosts gives names to addresses, from a file in the form of hosts(5)
// that knows MAC addresses too:
//
//	192.0.2.7          web.example www   # the first name is shown
//	2001:db8::7        web.example
//	00:00:5e:00:53:01  gateway
//
// A Table does not change and may be used by any number of goroutines.
package hosts

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/unspan/unspan/pcapng"
)

// Table holds the names of addresses. A nil one knows none.
type Table struct {
	addresses map[netip.Addr][]string
	macs      map[[6]byte][]string
}

// Open reads a file.
func Open(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading names: %w", err)
	}
	defer file.Close()
	return Read(file, path)
}

// Read reads a file's content; name stands in errors.
func Read(r io.Reader, name string) (*Table, error) {
	t := &Table{addresses: map[netip.Addr][]string{}, macs: map[[6]byte][]string{}}
	lines := bufio.NewScanner(r)
	number := 0
	for lines.Scan() {
		number++
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if err := t.add(fields[0], fields[1:]); err != nil {
			return nil, fmt.Errorf("reading names %s:%d: %w", name, number, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("reading names %s:%d: the line is longer than %d bytes", name, number+1, bufio.MaxScanTokenSize)
	} else if err != nil {
		return nil, fmt.Errorf("reading names %s: %w", name, err)
	}
	return t, nil
}

func (t *Table) add(address string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("no name stands behind %s", address)
	}
	for _, n := range names {
		if !printable(n) {
			return fmt.Errorf("name %q has characters that cannot be shown", n)
		}
	}
	if a, err := netip.ParseAddr(address); err == nil && a.Zone() == "" {
		t.addresses[a.Unmap()] = append(t.addresses[a.Unmap()], names...)
		return nil
	}
	if mac, err := net.ParseMAC(address); err == nil && len(mac) == 6 {
		t.macs[[6]byte(mac)] = append(t.macs[[6]byte(mac)], names...)
		return nil
	}
	return fmt.Errorf("%q is neither an IP address nor a MAC address: write 192.0.2.7 NAME, 2001:db8::7 NAME or 00:00:5e:00:53:01 NAME", address)
}

func printable(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Of is a table of the names in captures. Whoever wrote those is not to be
// trusted: names that cannot be shown are left out.
func Of(captured []pcapng.Name) *Table {
	t := &Table{addresses: map[netip.Addr][]string{}, macs: map[[6]byte][]string{}}
	for _, n := range captured {
		names := slices.DeleteFunc(slices.Clone(n.Names), func(name string) bool { return !printable(name) })
		if a, ok := netip.AddrFromSlice(n.Address); ok {
			t.addresses[a.Unmap()] = append(t.addresses[a.Unmap()], names...)
		} else if len(n.Address) == 6 {
			t.macs[[6]byte(n.Address)] = append(t.macs[[6]byte(n.Address)], names...)
		}
	}
	return t
}

// Address is the name of an IP address, "" when it has none.
func (t *Table) Address(a netip.Addr) string {
	if t == nil {
		return ""
	}
	return first(t.addresses[a])
}

// MAC is the name of a MAC address, "" when it has none.
func (t *Table) MAC(mac [6]byte) string {
	if t == nil {
		return ""
	}
	return first(t.macs[mac])
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// Names are all of them for name resolution blocks, in order of the addresses.
func (t *Table) Names() (all []pcapng.Name) {
	if t == nil {
		return nil
	}
	for a, names := range t.addresses {
		all = append(all, pcapng.Name{Address: a.AsSlice(), Names: names})
	}
	for mac, names := range t.macs {
		all = append(all, pcapng.Name{Address: mac[:], Names: names})
	}
	slices.SortFunc(all, func(x, y pcapng.Name) int {
		return cmp.Or(cmp.Compare(len(x.Address), len(y.Address)), bytes.Compare(x.Address, y.Address))
	})
	return all
}
