package hosts_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/hosts"
)

const good = `# a site
127.0.0.1	localhost

192.0.2.7   web.example www # in front
192.0.2.7   later
::ffff:192.0.2.8 mapped.example
2001:db8::7 web6.example
00:00:5E:00:53:01 gateway
00-00-5e-00-53-02 switch
`

func TestNames(t *testing.T) {
	table, err := hosts.Read(strings.NewReader(good), "names")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"192.0.2.7": "web.example", "192.0.2.8": "mapped.example", "2001:db8::7": "web6.example", "127.0.0.1": "localhost", "192.0.2.9": "",
	} {
		if got := table.Address(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
	}
	for last, want := range map[byte]string{1: "gateway", 2: "switch", 3: ""} {
		if got := table.MAC([6]byte{0, 0, 0x5e, 0, 0x53, last}); got != want {
			t.Errorf("MAC %d is %q, want %q", last, got, want)
		}
	}
	const want = "[{[127 0 0 1] [localhost]} {[192 0 2 7] [web.example www later]} {[192 0 2 8] [mapped.example]} " +
		"{[0 0 94 0 83 1] [gateway]} {[0 0 94 0 83 2] [switch]} {[32 1 13 184 0 0 0 0 0 0 0 0 0 0 0 7] [web6.example]}]"
	if got := fmt.Sprint(table.Names()); got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	var none *hosts.Table
	if none.Address(netip.MustParseAddr("192.0.2.7")) != "" || none.MAC([6]byte{}) != "" || none.Names() != nil {
		t.Error("no table knows names")
	}
}

// Names out of a capture are those that were written into it, but for tricks.
func TestOf(t *testing.T) {
	written, err := hosts.Read(strings.NewReader(good), "names")
	if err != nil {
		t.Fatal(err)
	}
	captured := append(written.Names(), pcapng.Name{Address: []byte{192, 0, 2, 66}, Names: []string{"\x1b[2J", "fine"}}, pcapng.Name{Address: make([]byte, 8), Names: []string{"eui-64"}})
	table := hosts.Of(captured)
	if got := table.Address(netip.MustParseAddr("192.0.2.66")); got != "fine" {
		t.Errorf("shown is %q", got)
	}
	if got, want := len(table.Names()), len(written.Names())+1; got != want {
		t.Errorf("%d addresses, want %d", got, want)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no name", "192.0.2.7\n", "names:1: no name stands behind 192.0.2.7"},
		{"no address", "\nweb.example 192.0.2.7\n", `names:2: "web.example" is neither an IP address nor a MAC address`},
		{"a zone", "fe80::1%eth0 x\n", "neither"},
		{"a long MAC", "0000.5e00.5301.0203 x\n", "neither"},
		{"a terminal's tricks", "192.0.2.7 \x1b[2J\n", "characters that cannot be shown"},
		{"an endless line", "\n192.0.2.7 " + strings.Repeat("x", 70000), "names:2: the line is longer than 65536 bytes"},
	} {
		_, err := hosts.Read(strings.NewReader(c.text), "names")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
