package ipfix_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/unspan/unspan/userspace/export/ipfix"
	"github.com/unspan/unspan/userspace/flow"
)

func address(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// tcp4 is the one flow of which the others are mutations.
func tcp4() flow.Flow {
	return flow.Flow{
		ID: 0x0102030405060708, First: 1_764_000_000_123_456_789, Last: 1_764_000_001_123_456_789,
		Packets: [2]uint64{10, 5}, Bytes: [2]uint64{1000, 5000}, Weight: 1,
		Address: [2][16]byte{address("198.51.100.7"), address("192.0.2.1")}, Port: [2]uint16{40000, 443},
		EtherType: 0x0800, Protocol: 6, TCPFlags: [2]uint8{0x12, 0x1b}, VLAN: [2]uint16{100, 7},
		MAC: [2][6]byte{{0, 0, 0x5e, 0, 0x53, 1}, {0, 0, 0x5e, 0, 0x53, 2}}, Feed: [2]uint32{3, 4},
		End: flow.EndClosed, Certain: true,
	}
}

func mutate(change func(*flow.Flow)) flow.Flow {
	f := tcp4()
	change(&f)
	return f
}

func ipv6(f *flow.Flow) {
	f.EtherType = 0x86dd
	f.Address = [2][16]byte{address("2001:db8::7"), address("2001:db8::1")}
}

func arp(f *flow.Flow) {
	f.EtherType, f.Protocol, f.Port, f.TCPFlags, f.Certain = 0x0806, 255, [2]uint16{}, [2]uint8{}, false
	f.Address = [2][16]byte{}
}

func sampled(n uint32) func(*flow.Flow) {
	return func(f *flow.Flow) {
		f.Weight = n
		for d := range 2 {
			f.Packets[d] *= uint64(n)
			f.Bytes[d] *= uint64(n)
		}
	}
}

// collector decodes messages with goflow2.
type collector struct {
	templates netflow.NetFlowTemplateSystem
	records   []string // data records: "template: element=hex ..."
	options   []string
	next      map[uint32]uint32 // sequence number expected, by domain
	learned   int               // template sets
	largest   int
}

func newCollector() *collector {
	return &collector{templates: netflow.CreateTemplateSystem(), next: map[uint32]uint32{}}
}

func (c *collector) take(t *testing.T, message []byte) {
	t.Helper()
	c.largest = max(c.largest, len(message))
	if int(binary.BigEndian.Uint16(message[2:])) != len(message) {
		t.Fatalf("message of %d bytes says %d", len(message), binary.BigEndian.Uint16(message[2:]))
	}
	var p netflow.IPFIXPacket
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(message), c.templates, nil, &p); err != nil {
		t.Fatal(err)
	}
	domain := p.ObservationDomainId
	if p.SequenceNumber != c.next[domain] {
		t.Errorf("domain %d: sequence %d, want %d", domain, p.SequenceNumber, c.next[domain])
	}
	if age := time.Since(time.Unix(int64(p.ExportTime), 0)); age < -time.Minute || age > time.Minute {
		t.Errorf("exported %v ago", age)
	}
	for _, set := range p.FlowSets {
		switch set := set.(type) {
		case netflow.TemplateFlowSet:
			c.learned++
		case netflow.IPFIXOptionsTemplateFlowSet:
		case netflow.DataFlowSet:
			for _, r := range set.Records {
				c.records = append(c.records, fmt.Sprintf("%d/%d:%s", domain, set.Id, values(r.Values)))
				c.next[domain]++
			}
		case netflow.OptionsDataFlowSet:
			for _, r := range set.Records {
				c.options = append(c.options, fmt.Sprintf("%d/%d:%s:%s", domain, set.Id, values(r.ScopesValues), values(r.OptionsValues)))
				c.next[domain]++
			}
		default:
			t.Errorf("set %T", set)
		}
	}
}

// values writes fields as " element=hex"; a reverse element has an R.
func values(fields []netflow.DataField) string {
	var b strings.Builder
	for _, f := range fields {
		mark := ""
		if f.PenProvided {
			mark = "R"
			if f.Pen != 29305 {
				mark = fmt.Sprintf("(%d)", f.Pen)
			}
		}
		fmt.Fprintf(&b, " %s%d=%s", mark, f.Type, hex.EncodeToString(f.Value.([]byte)))
	}
	return b.String()
}

// listenUDP is a collector's socket on the loopback.
func listenUDP(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// receive takes datagrams until so many records have come.
func (c *collector) receive(t *testing.T, conn *net.UDPConn, records int) {
	t.Helper()
	buffer := make([]byte, 65536)
	for len(c.records) < records {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("after %d records of %d: %v", len(c.records), records, err)
		}
		c.take(t, append([]byte(nil), buffer[:n]...))
	}
}

func newSink(t testing.TB, network, address string, change func(*ipfix.Config)) *ipfix.Sink {
	t.Helper()
	c := ipfix.Default()
	c.Network, c.Address = network, address
	if change != nil {
		change(&c)
	}
	s, err := ipfix.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, s *ipfix.Sink, records []flow.Flow) {
	t.Helper()
	if n, err := s.Write(context.Background(), records); n != len(records) || err != nil {
		t.Fatalf("wrote %d of %d records: %v", n, len(records), err)
	}
}

func TestRecords(t *testing.T) {
	const common = " 148=0102030405060708 152=0000019ab697e87b 153=0000019ab697ec63" +
		" 1=00000000000003e8 2=000000000000000a R1=0000000000001388 R2=0000000000000005" +
		" 56=00005e005301 80=00005e005302 58=0064 245=0007"
	const closed = " 136=03 239=01 R138=00000004 138=00000003"
	for _, test := range []struct {
		name string
		flow flow.Flow
		want string
	}{
		{"IPv4 TCP", tcp4(), "1/256: 8=c6336407 12=c0000201 32=0000 7=9c40 11=01bb 4=06 R6=001b 6=0012" + common + closed},
		{"IPv6 TCP", mutate(ipv6), "1/257: 27=20010db8000000000000000000000007 28=20010db8000000000000000000000001" +
			" 139=0000 7=9c40 11=01bb 4=06 R6=001b 6=0012" + common + closed},
		{"ICMP echo", mutate(func(f *flow.Flow) {
			f.Protocol, f.ICMPType, f.Port, f.TCPFlags = 1, 8, [2]uint16{}, [2]uint8{}
		}), "1/256: 8=c6336407 12=c0000201 32=0800 7=0000 11=0000 4=01 R6=0000 6=0000" + common + closed},
		{"ARP", mutate(arp), "1/258: 256=0806" + common + " 136=03 239=00 R138=00000004 138=00000003"},
		{"sampled", mutate(sampled(10)), "2/256: 8=c6336407 12=c0000201 32=0000 7=9c40 11=01bb 4=06 R6=001b 6=0012" + common + closed},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, c := listenUDP(t), newCollector()
			s := newSink(t, "udp", conn.LocalAddr().String(), nil)
			if test.flow.Weight > 1 {
				write(t, s, []flow.Flow{tcp4()}) // takes the first domain
				c.receive(t, conn, 1)
			}
			write(t, s, []flow.Flow{test.flow})
			c.receive(t, conn, len(c.records)+1)
			if got := c.records[len(c.records)-1]; got != test.want {
				t.Errorf("record\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestSamplingOptions: the domain of sampled flows says its rate, in both ways
// that collectors read; the unsampled one says nothing.
func TestSamplingOptions(t *testing.T) {
	conn, c := listenUDP(t), newCollector()
	s := newSink(t, "udp", conn.LocalAddr().String(), func(c *ipfix.Config) { c.Domain = 0x100 })
	write(t, s, []flow.Flow{tcp4(), mutate(sampled(10)), mutate(sampled(1000)), mutate(sampled(10)), tcp4()})
	c.receive(t, conn, 5)
	want := []string{
		"257/259: 149=00000101: 34=0000000a", "257/260: 149=00000101: 304=0001 305=00000001 306=00000009",
		"258/259: 149=00000102: 34=000003e8", "258/260: 149=00000102: 304=0001 305=00000001 306=000003e7",
	}
	if !slices.Equal(c.options, want) {
		t.Errorf("options\n got %q\nwant %q", c.options, want)
	}
	var domains []string
	for _, r := range c.records {
		domains = append(domains, strings.SplitN(r, "/", 2)[0])
	}
	if want := []string{"256", "257", "258", "257", "256"}; !slices.Equal(domains, want) {
		t.Errorf("domains %v, want %v", domains, want)
	}
}

// TestManySamplingFactors: when the domains run out the last one changes its rate.
func TestManySamplingFactors(t *testing.T) {
	conn, c := listenUDP(t), newCollector()
	s := newSink(t, "udp", conn.LocalAddr().String(), nil)
	var records []flow.Flow
	for n := range uint32(20) {
		records = append(records, mutate(sampled(n+1)))
	}
	write(t, s, records)
	c.receive(t, conn, 20)
	rates := map[string]bool{}
	for _, o := range c.options {
		if _, rate, ok := strings.Cut(o, " 34="); ok {
			rates[rate] = true
		}
	}
	if len(rates) != 19 || len(c.next) != 16 {
		t.Errorf("%d rates in %d domains, want 19 in 16", len(rates), len(c.next))
	}
}

// TestMessages fills messages of mixed flows up to the limit and no further.
func TestMessages(t *testing.T) {
	var records []flow.Flow
	for n := range 500 {
		f := tcp4()
		f.ID = uint64(n)
		switch {
		case n%5 == 0:
			ipv6(&f)
		case n%7 == 0:
			arp(&f)
		}
		records = append(records, f)
	}
	for _, size := range []int{512, 1400, 9000} {
		conn, c := listenUDP(t), newCollector()
		s := newSink(t, "udp", conn.LocalAddr().String(), func(c *ipfix.Config) { c.Message = size })
		for part := range slices.Chunk(records, 50) {
			have := len(c.records)
			write(t, s, part)
			c.receive(t, conn, have+len(part))
		}
		if c.largest > size || c.largest < size/2 {
			t.Errorf("largest message %d bytes of %d", c.largest, size)
		}
		for n, r := range c.records {
			if id := fmt.Sprintf(" 148=%016x", n); !strings.Contains(r, id) {
				t.Fatalf("record %d: %s", n, r)
			}
		}
		if c.learned != 1 {
			t.Errorf("templates sent %d times", c.learned)
		}
	}
}

// TestTemplatesAgain: over UDP templates come again, with records and without.
func TestTemplatesAgain(t *testing.T) {
	conn, c := listenUDP(t), newCollector()
	s := newSink(t, "udp", conn.LocalAddr().String(), func(c *ipfix.Config) { c.Templates = 1 })
	write(t, s, []flow.Flow{tcp4()})
	write(t, s, nil)
	write(t, s, []flow.Flow{tcp4()})
	c.receive(t, conn, 2)
	if c.learned < 3 {
		t.Errorf("templates sent %d times, want each time", c.learned)
	}
}

// TestTCP reads the stream, breaks it, and reads the next one: a new session
// begins with templates and sequence 0.
func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := newSink(t, "tcp", listener.Addr().String(), func(c *ipfix.Config) { c.Message = 16384 })
	for session := range 2 {
		records := make([]flow.Flow, 300)
		for i := range records {
			records[i] = tcp4()
			records[i].ID = uint64(i)
		}
		write(t, s, records)
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := newCollector()
		for len(c.records) < len(records) {
			c.take(t, readMessage(t, conn))
		}
		if c.learned != 1 {
			t.Errorf("session %d: templates sent %d times", session, c.learned)
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		conn.Close() // with a reset
		// The sink notices when it writes; what it says it wrote before may be lost.
		for deadline := time.Now().Add(10 * time.Second); ; {
			n, err := s.Write(context.Background(), []flow.Flow{tcp4()})
			if err != nil {
				if n != 0 {
					t.Errorf("wrote %d records, and %v", n, err)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a broken connection is not noticed")
			}
		}
	}
}

func readMessage(t *testing.T, r io.Reader) []byte {
	t.Helper()
	header := make([]byte, 16)
	if _, err := io.ReadFull(r, header); err != nil {
		t.Fatal(err)
	}
	message := append(header, make([]byte, int(binary.BigEndian.Uint16(header[2:]))-16)...)
	if _, err := io.ReadFull(r, message[16:]); err != nil {
		t.Fatal(err)
	}
	return message
}

// TestTCPStalled: a collector that does not read holds up neither the timeout nor the end.
func TestTCPStalled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := newSink(t, "tcp", listener.Addr().String(), func(c *ipfix.Config) { c.Timeout = time.Hour })
	records := make([]flow.Flow, 200_000)
	for i := range records {
		records[i] = tcp4()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			_, _ = io.CopyN(io.Discard, conn, 1000) // it is connected, and then reads no more
		}
		cancel()
		<-ctx.Done()
	}()
	if n, err := s.Write(ctx, records); err == nil || n == len(records) {
		t.Errorf("wrote %d of %d: %v", n, len(records), err)
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	listener.Close()
	for _, network := range []string{"tcp", "udp"} {
		s := newSink(t, network, gone, nil)
		var err error
		for range 100 { // the host's answer to a datagram may take a moment
			if _, err = s.Write(context.Background(), []flow.Flow{tcp4()}); err != nil {
				break
			}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %v", network, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*ipfix.Config)
		want   string
	}{
		{func(c *ipfix.Config) { c.Network = "sctp" }, `IPFIX network: "sctp" is neither udp nor tcp`},
		{func(c *ipfix.Config) { c.Address = "192.0.2.1" }, `IPFIX address "192.0.2.1": address 192.0.2.1: missing port in address`},
		{func(c *ipfix.Config) { c.Templates = 0 }, "IPFIX template interval: 0s is not above 0"},
		{func(c *ipfix.Config) { c.Message = 100 }, "IPFIX message: 100 is not between 512 and 65535"},
		{func(c *ipfix.Config) { c.Timeout = 0 }, "IPFIX timeout: 0s is not above 0"},
	} {
		c := ipfix.Default()
		c.Address = "192.0.2.1:4739"
		test.change(&c)
		if _, err := ipfix.New(c); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
