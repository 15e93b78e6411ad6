package collector_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/policy"
)

func needTcpdump(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err == nil {
		return
	}
	const reason = "tcpdump compiles filters and is not installed: apt install tcpdump"
	if os.Getenv("UNSPAN_CI") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func mustRead(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Read(t.Context(), "policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// collectorIPv4 is the address of a lab's collector.
var collectorIPv4 = netip.MustParseAddr("192.0.2.2")

// segment is packet n of a conversation, there or back: IPv4 and TCP or UDP, with
// an identification of its own, 300 bytes in all.
func segment(vlan uint16, protocol byte, flow, n int, back bool) []byte {
	f := make([]byte, 0, 300)
	f = append(f, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
	if vlan != 0 {
		f = binary.BigEndian.AppendUint16(append(f, 0x81, 0x00), vlan)
	}
	f = append(f, 0x08, 0x00)
	ip := len(f)
	f = append(f, 0x45, 0, 0, 0, byte(flow+1), byte(n+1), 0, 0, 64, protocol, 0, 0)
	client, server := []byte{198, 51, 100, byte(flow)}, []byte{203, 0, 113, 1}
	ports := []uint16{uint16(40000 + flow), 443}
	if back {
		client, server, ports = server, client, []uint16{ports[1], ports[0]}
	}
	f = append(append(f, client...), server...)
	f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, ports[0]), ports[1])
	f = append(f, make([]byte, 300-len(f))...)
	binary.BigEndian.PutUint16(f[ip+2:], uint16(300-ip))
	f[ip+24] = byte(n) // a sequence number, or what UDP has there
	return f
}

// copied is what each of the sessions here mirrors: sixty packets of ten TCP
// conversations in VLAN 7, and forty of ten UDP conversations without a tag.
func copied() (frames [][]byte) {
	for flow := range 10 {
		for n := range 6 {
			frames = append(frames, segment(7, 6, flow, n, n%2 == 1))
		}
		for n := range 4 {
			frames = append(frames, segment(0, 17, flow, n+100, n%2 == 1))
		}
	}
	return frames
}

// sessions are three mirrors of different kinds, of the same ports.
func sessions() []mirror.Feed {
	two, three, gre := mirror.DefaultSession(bpf.EncapERSPAN2), mirror.DefaultSession(bpf.EncapERSPAN3), mirror.DefaultSession(bpf.EncapGRE)
	two.ID, three.ID, three.Egress = 100, 200, true
	gre.Keyed, gre.Key = true, 42
	feeds := []mirror.Feed{{Session: two}, {Session: three}, {Session: gre}}
	for i := range feeds {
		feeds[i].Session.Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)})
		feeds[i].Session.Destination = collectorIPv4
		feeds[i].Frames = copied()
	}
	return feeds
}

// outcome is what became of the packets of mirrors.
type outcome struct {
	verdicts map[bpf.Verdict]uint64 // of what is a mirror's, whole
	rules    []uint64               // packets that met each, the default last
	overlaps []ledger.Overlap
	loops    uint64 // of all feeds
}

func (o outcome) String() string {
	var verdicts []string
	for v := range bpf.VerdictCount {
		if n, ok := o.verdicts[v]; ok {
			verdicts = append(verdicts, fmt.Sprintf("%s %d", bpf.VerdictName(v), n))
		}
	}
	return fmt.Sprintf("verdicts {%s}, rules %v, overlaps %v, loops %d", strings.Join(verdicts, ", "), o.rules, o.overlaps, o.loops)
}

func outcomeOf(s *ledger.Snapshot) outcome {
	o := outcome{verdicts: map[bpf.Verdict]uint64{}, overlaps: s.Overlaps}
	for v, tally := range s.XDP {
		if ours := bpf.Verdict(v) >= bpf.PassStranger; ours && tally.Packets > 0 {
			o.verdicts[bpf.Verdict(v)] = tally.Packets
		}
	}
	for _, r := range s.Rules {
		o.rules = append(o.rules, r.Packets)
	}
	for i := range s.Feeds {
		o.loops += s.Feeds[i].State.Loops
	}
	return o
}

type verdicts = map[bpf.Verdict]uint64

// Each kind of rule, from the file to the ledger, with exact counts.
func TestPolicyKinds(t *testing.T) {
	needRoot(t)
	needTcpdump(t)
	const a, b, c = "192.0.2.11/erspan2/100", "192.0.2.12/erspan3/200", "192.0.2.13/gre/0x2a"
	for _, row := range []struct {
		name, policy string
		want         outcome
	}{
		{"none", "", outcome{verdicts: verdicts{bpf.RedirectInner: 300}}},
		{"exporter", "rules: [{exporter: 192.0.2.11, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 200, bpf.DropPolicy: 100}, rules: []uint64{100, 200}}},
		{"collector", "rules: [{collector: 192.0.2.2, action: drop}]",
			outcome{verdicts: verdicts{bpf.DropPolicy: 300}, rules: []uint64{300, 0}}},
		{"encapsulation", "rules: [{encapsulation: [erspan3, gre], action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 100, bpf.DropPolicy: 200}, rules: []uint64{200, 100}}},
		{"session", "rules: [{session: 150-250, action: keep}]\ndefault: drop",
			outcome{verdicts: verdicts{bpf.RedirectInner: 100, bpf.DropPolicy: 200}, rules: []uint64{100, 200}}},
		{"key", "rules: [{gre_key: 42, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 200, bpf.DropPolicy: 100}, rules: []uint64{100, 200}}},
		{"vlan", "rules: [{vlan: 7, action: drop}, {vlan: untagged, action: keep}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 120, bpf.DropPolicy: 180}, rules: []uint64{180, 120, 0}}},
		{"direction", "rules: [{direction: egress, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 200, bpf.DropPolicy: 100}, rules: []uint64{100, 200}}},
		{"filter", "rules: [{filter: vlan 7 and tcp port 443 and host 198.51.100.3, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 282, bpf.DropPolicy: 18}, rules: []uint64{18, 282}}},
		{"first match wins", "rules: [{filter: udp, action: keep}, {exporter: 192.0.2.0/24, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 120, bpf.DropPolicy: 180}, rules: []uint64{120, 180, 0}}},
		{"cut", "rules: [{action: keep, snap: 64}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 300}, rules: []uint64{300, 0}}},
		{"strangers dropped", "exporters: {allow: [192.0.2.11], strangers: drop}",
			outcome{verdicts: verdicts{bpf.RedirectInner: 100, bpf.DropStranger: 200}}},
		{"strangers passed", "exporters: {allow: [192.0.2.12/31]}",
			outcome{verdicts: verdicts{bpf.RedirectInner: 200, bpf.PassStranger: 100}}},
		{"duplicates", "duplicates: {window: 10s}",
			outcome{verdicts: verdicts{bpf.RedirectInner: 100, bpf.DropDuplicate: 200},
				overlaps: []ledger.Overlap{{First: a, Second: b, Packets: 100}, {First: a, Second: c, Packets: 100}}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := collector.Default()
			config.Policy = mustRead(t, row.policy)
			config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
			s := collect(t, lab.Config{}, config)
			for _, f := range sessions() { // one after the other: the first is the first
				s.mirrorOnce([]mirror.Feed{f})
			}
			final := s.end()
			if got := outcomeOf(&final); got.String() != row.want.String() {
				t.Errorf("%v\nwant %v", got, row.want)
			}
			for _, p := range packets(t, config.Store.Path) {
				if want := min(300, snapOf(config.Policy)); len(p.Data) != want || p.OrigLen != 300 {
					t.Fatalf("a packet of %d bytes, %d kept, want 300, %d kept", p.OrigLen, len(p.Data), want)
				}
			}
		})
	}
}

func snapOf(p *policy.Policy) int {
	if len(p.Rules) > 0 && p.Rules[0].Snap > 0 {
		return int(p.Rules[0].Snap)
	}
	return 300
}

// Sampling by flow keeps flows whole, in both directions, and by packet one of each
// block of so many.
func TestPolicySamples(t *testing.T) {
	needRoot(t)
	for _, by := range []string{"flow", "packet"} {
		t.Run(by, func(t *testing.T) {
			config := collector.Default()
			config.Policy = mustRead(t, "rules: [{action: keep, sample: {one_in: 4, by: "+by+"}}]")
			config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
			s := collect(t, lab.Config{}, config)
			s.mirrorOnce(sessions()[:1])
			final := s.end()
			out := packets(t, config.Store.Path)
			sampled := final.XDP[bpf.DropSampled].Packets
			if uint64(len(out))+sampled != 100 || final.Rules[0].Packets != 100 || final.Rules[0].Kept != uint64(len(out)) {
				t.Errorf("%d packets came out, %d were sampled away, the rule is %+v", len(out), sampled, final.Rules[0])
			}
			if by == "packet" {
				// Blocks are each CPU's own: of two, one may be cut short.
				if len(out) < 24 || len(out) > 26 {
					t.Errorf("%d packets kept, want a quarter of 100", len(out))
				}
				return
			}
			counts := map[string]int{}
			for _, p := range out {
				counts[conversation(p)]++
			}
			for name, n := range counts {
				if want := map[bool]int{true: 6, false: 4}[strings.HasPrefix(name, "6 ")]; n != want {
					t.Errorf("%d packets of conversation %s, want %d or none", n, name, want)
				}
			}
			if len(counts) == 0 || len(counts) == 20 {
				t.Errorf("%d of 20 conversations kept", len(counts))
			}
		})
	}
}

// conversation is the protocol and the client's address of one of copied's frames.
func conversation(p pcapng.Packet) string {
	ip := 14
	if binary.BigEndian.Uint16(p.Data[12:]) == 0x8100 {
		ip = 18
	}
	client := p.Data[ip+15]
	if p.Data[ip+12] == 203 {
		client = p.Data[ip+19]
	}
	return fmt.Sprint(p.Data[ip+9], " ", client)
}

// wrappedTwice are copied's frames as a mirror of the mirror's own port sends them.
func wrappedTwice(t *testing.T) [][]byte {
	t.Helper()
	m := mirror.DefaultSession(bpf.EncapERSPAN2)
	m.ID = 500
	m.Source, m.Destination = netip.MustParseAddr("192.0.2.11"), collectorIPv4
	m.SourceMAC, m.DestinationMAC = []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	w, err := mirror.NewWrapper(m)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for i, f := range copied() {
		frame, err := w.Wrap(nil, f, mirror.Stamp{Number: uint32(i)})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(frame))
	}
	return out
}

// said is a log that a test reads.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A mirror that mirrors its own feed is dropped and named, kept, or opened once more.
func TestLoops(t *testing.T) {
	needRoot(t)
	const name = "192.0.2.11/erspan2/100"
	twice := wrappedTwice(t)
	for _, row := range []struct {
		policy string
		want   outcome
		out    [][]byte
		nested uint64
	}{
		{"", outcome{verdicts: verdicts{bpf.DropLoop: 100}, loops: 100}, nil, 0},
		{"loops: keep", outcome{verdicts: verdicts{bpf.RedirectInner: 100}}, twice, 0},
		{"loops: unwrap", outcome{verdicts: verdicts{bpf.RedirectInner: 100}, loops: 100}, copied(), 100},
		{"loops: unwrap\nrules: [{session: 500, vlan: 7, action: drop}]",
			outcome{verdicts: verdicts{bpf.RedirectInner: 100}, rules: []uint64{60, 40}, loops: 100}, untaggedOf(copied()), 100},
	} {
		t.Run(row.policy, func(t *testing.T) {
			var log said
			config := collector.Default()
			config.Log = slog.New(slog.NewTextHandler(&log, nil))
			config.Policy = mustRead(t, row.policy)
			config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
			s := collect(t, lab.Config{}, config)
			feeds := sessions()[:1]
			feeds[0].Frames = twice
			s.mirrorOnce(feeds)
			if row.want.loops > 0 {
				s.await("the warning", func() bool { return strings.Contains(log.String(), name) })
			}
			final := s.end()
			if got := outcomeOf(&final); got.String() != row.want.String() {
				t.Errorf("%v\nwant %v", got, row.want)
			}
			if got := final.Workers[0].Nested; got != row.nested {
				t.Errorf("%d opened again, want %d", got, row.nested)
			}
			if n := strings.Count(log.String(), name); n > 1 {
				t.Errorf("warned %d times:\n%s", n, log.String())
			}
			compareBytes(t, packets(t, config.Store.Path), row.out)
			if got := feed.Name(&final.Feeds[0].Key); len(final.Feeds) != 1 || got != name {
				t.Errorf("%d feeds, the first %s", len(final.Feeds), got)
			}
		})
	}
}

func untaggedOf(frames [][]byte) (out [][]byte) {
	for _, f := range frames {
		if binary.BigEndian.Uint16(f[12:]) != 0x8100 {
			out = append(out, f)
		}
	}
	return out
}

// What is fragmented outside meets the policy when it is whole.
func TestPolicyOnDatagrams(t *testing.T) {
	needRoot(t)
	config := collector.Default()
	config.Policy = mustRead(t, "rules: [{vlan: 7, action: drop}, {action: keep, snap: 100}]")
	config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
	s := collect(t, lab.Config{}, config)
	feeds := sessions()[:1]
	feeds[0].Session.MTU = 576
	feeds[0].Frames = padded(copied(), 900)
	s.mirrorOnce(feeds)
	final := s.end()
	if got := final.XDP[bpf.RedirectFragment].Packets; got != 200 {
		t.Errorf("%d fragments, want 200", got)
	}
	w := final.Workers[0]
	if drop, kept := w.Verdicts[bpf.DropPolicy].Packets, w.Verdicts[bpf.RedirectInner].Packets; drop != 60 || kept != 40 {
		t.Errorf("of the datagrams %d dropped, %d kept, want 60 and 40", drop, kept)
	}
	if r := final.Rules; r[0].Packets != 60 || r[1].Packets != 40 || r[1].Kept != 40 || r[2].Packets != 0 {
		t.Errorf("rules %+v", r)
	}
	for _, p := range packets(t, config.Store.Path) {
		if len(p.Data) != 100 || p.OrigLen != 900 {
			t.Fatalf("a packet of %d bytes, %d kept, want 900, 100 kept", p.OrigLen, len(p.Data))
		}
	}
}

// A policy that is replaced under load costs no packet, and every packet meets one
// of the policies whole.
func TestApplyUnderLoad(t *testing.T) {
	needRoot(t)
	needTcpdump(t)
	const enough, round, rounds = 10, 20_000, 60
	policies := []*policy.Policy{
		mustRead(t, "rules: [{filter: udp, action: keep, snap: 60}]\ndefault: {action: keep, snap: 61}"),
		mustRead(t, "rules: [{vlan: 7, action: keep, snap: 71}, {filter: udp, action: keep, snap: 70}]\ndefault: drop"),
	}
	allowed := map[[2]int]bool{{17, 60}: true, {6, 61}: true, {17, 70}: true, {6, 71}: true} // protocol, bytes kept
	config := collector.Default()
	config.Policy = policies[0]
	config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
	s := collect(t, lab.Config{}, config)
	var applied atomic.Int32
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := s.live.Apply(policies[(applied.Load()+1)%2]); err != nil {
				stopped <- err
				return
			}
			applied.Add(1)
		}
	}()
	var count, lost uint64
	for n := 0; n < rounds && applied.Load() < enough; n++ {
		sent := s.mirror(sessions()[:1], func(c *mirror.Config) {
			c.Method, c.Loop, c.Count, c.Rate = mirror.MethodSocket, true, round, mirror.Rate{Packets: 50_000}
		})
		count, lost = count+round, lost+sent.DeviceDropped
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n := applied.Load()
	final := s.end()
	if lost != 0 || final.XDP[bpf.RedirectInner].Packets != count || final.Output.Written != count {
		t.Errorf("%d sent, the device lost %d, %d redirected, %d written", count, lost, final.XDP[bpf.RedirectInner].Packets, final.Output.Written)
	}
	if n < enough {
		t.Errorf("the policy was replaced %d times under %d packets: too few to show anything", n, count)
	}
	for _, p := range packets(t, config.Store.Path) {
		protocol := int(p.Data[14+9])
		if binary.BigEndian.Uint16(p.Data[12:]) == 0x8100 {
			protocol = int(p.Data[18+9])
		}
		if !allowed[[2]int{protocol, len(p.Data)}] {
			t.Fatalf("a packet of protocol %d was cut to %d bytes: no policy says so", protocol, len(p.Data))
		}
	}
	t.Logf("the policy was replaced %d times under %d packets", n, count)
}
