package traffic_test

import (
	"bytes"
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/traffic"
)

//go:generate go test . -run TestCapturesAreCurrent -update

var update = flag.Bool("update", false, "write testdata/ anew")

// The committed captures are what this code makes, byte for byte:
//
//	inner.pcap  conversations as a switch sees them
//	feed.pcap   the same packets in the same order as seven mirror sessions wrap
//	            them, a frame in fragments where the sender would send it so
func TestCapturesAreCurrent(t *testing.T) {
	inner, feed := captures(t)
	total := 0
	for _, file := range []struct {
		name    string
		content []byte
	}{{"inner.pcap", inner}, {"feed.pcap", feed}} {
		total += len(file.content)
		path := filepath.Join("testdata", file.name)
		if *update {
			if err := os.WriteFile(path, file.content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, file.content) {
			t.Errorf("%s is not what this code makes: run go generate ./userspace/traffic", path)
		}
	}
	if total > 200<<10 {
		t.Errorf("the captures have %d bytes together, more than 200 KB", total)
	}
}

// sessions are the mirror sessions of feed.pcap: every encapsulation that is
// accepted by default, the same session id from two exporters, tags stripped and
// kept, clocks with and without a subheader, IPv6 outside.
func sessions() []mirror.Session {
	session := func(encap bpf.Encap, exporter string, change func(*mirror.Session)) mirror.Session {
		s := mirror.DefaultSession(encap)
		s.SourceMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}
		s.DestinationMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}
		s.Source = netip.MustParseAddr(exporter)
		s.Destination = netip.MustParseAddr("192.0.2.2")
		if s.Source.Is6() {
			s.Destination = netip.MustParseAddr("2001:db8::2")
		}
		s.MTU = 9000
		change(&s)
		return s
	}
	return []mirror.Session{
		session(bpf.EncapERSPAN1, "192.0.2.11", func(s *mirror.Session) {}),
		session(bpf.EncapERSPAN2, "192.0.2.12", func(s *mirror.Session) { s.ID, s.Tags, s.VLAN = 10, mirror.TagsStripped, 1 }),
		session(bpf.EncapERSPAN2, "192.0.2.13", func(s *mirror.Session) { s.ID, s.Tags, s.VLAN, s.Index = 10, mirror.TagsKept, 1, 7 }),
		session(bpf.EncapERSPAN3, "192.0.2.14", func(s *mirror.Session) {
			s.ID, s.Tags, s.Granularity, s.Platform, s.Port, s.Egress = 30, mirror.TagsKept, mirror.GranularityNS, 3, 12, true
		}),
		session(bpf.EncapERSPAN3, "192.0.2.14", func(s *mirror.Session) {
			s.ID, s.Tags, s.Sequenced, s.Granularity = 31, mirror.TagsKept, false, mirror.Granularity100us
		}),
		// A hypervisor on a network of 1500 bytes: large frames arrive in fragments.
		session(bpf.EncapGRE, "192.0.2.15", func(s *mirror.Session) { s.Keyed, s.Key, s.MTU = true, 0x02000000, 1500 }),
		session(bpf.EncapERSPAN2, "2001:db8::16", func(s *mirror.Session) { s.ID, s.EncapsulationLimit = 1000, 4 }),
	}
}

// captures makes both files.
func captures(t *testing.T) (inner, feed []byte) {
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	type packet struct {
		traffic.Packet
		session int
	}
	var mirrored []packet
	for i := range sessions() {
		for _, p := range traffic.Mix(traffic.Config{Seed: uint64(100 + i), Conversations: 6, MaxBody: 900, Gap: 200 * time.Millisecond}) {
			mirrored = append(mirrored, packet{p, i})
		}
	}
	slices.SortStableFunc(mirrored, func(a, b packet) int { return int(a.Time - b.Time) })

	var plain, wrapped []traffic.Packet
	wrappers := make([]*mirror.Wrapper, len(sessions()))
	for i, s := range sessions() {
		w, err := mirror.NewWrapper(s)
		if err != nil {
			t.Fatal(err)
		}
		wrappers[i] = w
	}
	numbers := make([]uint32, len(wrappers))
	last := time.Duration(0)
	for _, p := range mirrored {
		// Two packets of one time would leave their order to the reader.
		last = max(p.Time, last+time.Microsecond)
		plain = append(plain, traffic.Packet{Time: last, Data: p.Data})
		const onTheWay = 40 * time.Microsecond // from the sender's clock to the collector's
		stamp := mirror.Stamp{Number: numbers[p.session], Time: uint64(start.Add(last - onTheWay).UnixNano())}
		numbers[p.session]++
		w := wrappers[p.session]
		whole, err := w.Wrap(nil, p.Data, stamp)
		if err != nil {
			t.Fatal(err)
		}
		for i, more := 0, true; more; i++ {
			var frame []byte
			frame, more = w.AppendFragment(nil, whole, stamp, i)
			wrapped = append(wrapped, traffic.Packet{Time: last + time.Duration(i)*100, Data: frame})
		}
	}
	return pcap(t, start, plain), pcap(t, start, wrapped)
}
