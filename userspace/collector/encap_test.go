package collector_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/traffic"
)

// conversations are frames of every kind: tagged, IPv6, short, fragments.
func conversations() [][]byte {
	c := traffic.Default()
	c.Conversations, c.MaxBody = 40, 4000
	return traffic.Frames(traffic.Mix(c))
}

// bareIP are the IP packets in frames, as a sender of bare IP takes them out:
// without tags, with the padding.
func bareIP(frames [][]byte) (inside [][]byte) {
	for _, f := range frames {
		at := 12
		for binary.BigEndian.Uint16(f[at:]) == 0x8100 || binary.BigEndian.Uint16(f[at:]) == 0x88a8 {
			at += 4
		}
		if t := binary.BigEndian.Uint16(f[at:]); t == 0x0800 || t == 0x86dd {
			inside = append(inside, f[at+2:])
		}
	}
	return inside
}

// padded are frames as they leave an Ethernet port with size bytes at least.
func padded(frames [][]byte, size int) (all [][]byte) {
	for _, f := range frames {
		all = append(all, append(bytes.Clone(f), make([]byte, max(0, size-len(f)))...))
	}
	return all
}

// mirrored sends one session's copy of frames over a cable and returns what the
// collector wrote, and its ledger.
func mirrored(t *testing.T, accept string, cable lab.Config, m mirror.Session, frames [][]byte, change func(*collector.Config)) ([]pcapng.Packet, ledger.Snapshot, mirror.Stats) {
	t.Helper()
	config := collector.Default()
	if err := bpf.Accept(&config.Settings, accept); err != nil {
		t.Fatal(err)
	}
	config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
	if change != nil {
		change(&config)
	}
	s := collect(t, cable, config)
	sent := s.mirrorOnce([]mirror.Feed{{Session: m, Frames: frames}})
	final := s.end()
	return packets(t, config.Store.Path), final, sent
}

func compareBytes(t *testing.T, got []pcapng.Packet, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets came out, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].Data, want[i]) {
			t.Fatalf("packet %d:\n% x\nwant\n% x", i+1, got[i].Data, want[i])
		}
	}
}

// What is mirrored comes out, byte for byte, whatever it was wrapped in.
func TestEncapsulations(t *testing.T) {
	needRoot(t)
	frames := conversations()
	for _, c := range []struct {
		name    string
		accept  string
		encap   bpf.Encap
		change  func(*mirror.Session)
		bare    bool
		pad     int // frames without a tunnel around them are padded by the port
		feed    string
		numbers bool
	}{
		{name: "erspan1", accept: "erspan1", encap: bpf.EncapERSPAN1, feed: "192.0.2.1/erspan1"},
		{name: "erspan2", accept: "erspan2", encap: bpf.EncapERSPAN2, feed: "192.0.2.1/erspan2/1", numbers: true},
		{name: "erspan2, tags moved to the header", accept: "erspan2", encap: bpf.EncapERSPAN2, feed: "192.0.2.1/erspan2/1", numbers: true,
			change: func(m *mirror.Session) { m.Tags = mirror.TagsStripped }},
		{name: "erspan2, tags repeated in the header", accept: "erspan2", encap: bpf.EncapERSPAN2, feed: "192.0.2.1/erspan2/1", numbers: true,
			change: func(m *mirror.Session) { m.Tags = mirror.TagsKept }},
		{name: "erspan2 on an odd protocol", accept: "erspan2:0x8949", encap: bpf.EncapERSPAN2, feed: "192.0.2.1/erspan2/1", numbers: true,
			change: func(m *mirror.Session) { m.Protocol = 0x8949 }},
		{name: "erspan3", accept: "erspan3", encap: bpf.EncapERSPAN3, feed: "192.0.2.1/erspan3/1", numbers: true},
		{name: "erspan3 with subheader", accept: "erspan3", encap: bpf.EncapERSPAN3, feed: "192.0.2.1/erspan3/1", numbers: true,
			change: func(m *mirror.Session) { m.Platform = 3 }},
		{name: "erspan3 with IP", accept: "erspan3,gre-ip", encap: bpf.EncapERSPAN3, feed: "192.0.2.1/erspan3/1", numbers: true, bare: true,
			change: func(m *mirror.Session) { m.FrameType = 2 }},
		{name: "gre", accept: "gre", encap: bpf.EncapGRE, feed: "192.0.2.1/gre"},
		{name: "gre with all words", accept: "gre", encap: bpf.EncapGRE, feed: "192.0.2.1/gre/0x2a", numbers: true,
			change: func(m *mirror.Session) { m.Checksum, m.Keyed, m.Key, m.Sequenced = true, true, 42, true }},
		{name: "gre on two outer tags", accept: "gre", encap: bpf.EncapGRE, feed: "192.0.2.1/gre",
			change: func(m *mirror.Session) { m.OuterVLANs = []uint16{7, 8} }},
		{name: "gre-ip", accept: "gre-ip", encap: bpf.EncapGREIP, feed: "192.0.2.1/gre-ip", bare: true},
		{name: "vxlan", accept: "vxlan", encap: bpf.EncapVXLAN, feed: "192.0.2.1/vxlan/5001",
			change: func(m *mirror.Session) { m.Key = 5001 }},
		{name: "vxlan on another port", accept: "vxlan:8472", encap: bpf.EncapVXLAN, feed: "192.0.2.1/vxlan/5001",
			change: func(m *mirror.Session) { m.Key, m.UDPPort = 5001, 8472 }},
		{name: "geneve", accept: "geneve", encap: bpf.EncapGeneve, feed: "192.0.2.1/geneve/10",
			change: func(m *mirror.Session) { m.Key = 10 }},
		{name: "rspan", accept: "rspan:300", encap: bpf.EncapRSPAN, feed: "rspan/300", pad: 60 - 4,
			change: func(m *mirror.Session) { m.ID = 300 }},
		{name: "native", accept: "native", encap: bpf.EncapNative, feed: "native", pad: 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mirror.DefaultSession(c.encap)
			if c.change != nil {
				c.change(&m)
			}
			want, link := padded(frames, c.pad), pcapng.LinkEthernet
			if c.bare {
				want, link = bareIP(frames), pcapng.LinkRaw
			}
			got, final, _ := mirrored(t, c.accept, lab.Config{MTU: 9100}, m, frames, nil)
			compareBytes(t, got, want)
			for i, p := range got {
				if p.Interface.Name != c.feed || p.Interface.LinkType != link || int(p.OrigLen) != len(p.Data) {
					t.Fatalf("packet %d: interface %q, link type %d, original length %d of %d", i+1, p.Interface.Name, p.Interface.LinkType, p.OrigLen, len(p.Data))
				}
			}
			if len(final.Feeds) != 1 || final.Feeds[0].Name() != c.feed || final.Feeds[0].Sequenced() != c.numbers {
				t.Errorf("feeds %+v, want one, %s, sequenced %v", final.Feeds, c.feed, c.numbers)
			}
		})
	}
}

// What does not fit the path comes in fragments, in IPv4 and IPv6, and is whole again.
func TestFragments(t *testing.T) {
	needRoot(t)
	frames := append(conversations(), frameOf(9000), frameOf(30000), frameOf(65000))
	for _, c := range []struct {
		name string
		six  bool
	}{{name: "IPv4"}, {name: "IPv6", six: true}} {
		t.Run(c.name, func(t *testing.T) {
			m := mirror.DefaultSession(bpf.EncapERSPAN2)
			m.MTU = 1500
			if c.six {
				m.Source, m.Destination = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
			}
			got, final, sent := mirrored(t, "erspan2", lab.Config{}, m, frames, nil)
			if final.Workers[0].Reassembly.Datagrams == 0 || sent.Frames == sent.Packets {
				t.Fatalf("nothing was fragmented: %d packets in %d frames", sent.Packets, sent.Frames)
			}
			byBytes := map[string]int{} // a datagram is complete later than what came meanwhile
			for _, f := range frames {
				byBytes[string(f)]++
			}
			for i, p := range got {
				if byBytes[string(p.Data)]--; byBytes[string(p.Data)] < 0 {
					t.Fatalf("packet %d of %d bytes was not sent", i+1, len(p.Data))
				}
			}
			if len(got) != len(frames) {
				t.Errorf("%d packets, %d were sent", len(got), len(frames))
			}
			if s := final.Feeds[0].State.Sequence; s.Lost != 0 || s.Received != uint64(len(frames)) {
				t.Errorf("sequence %+v, want %d received and none lost", s, len(frames))
			}
		})
	}
}

// Frames of 9000 bytes arrive whole where the path takes them.
func TestJumbo(t *testing.T) {
	frames := [][]byte{frameOf(64), frameOf(3000), frameOf(9000), frameOf(1500), frameOf(8999)}
	got, _, sent := mirrored(t, "erspan3", lab.Config{MTU: 9100}, mirror.DefaultSession(bpf.EncapERSPAN3), frames, nil)
	if sent.Frames != sent.Packets {
		t.Fatalf("%d packets went in %d frames", sent.Packets, sent.Frames)
	}
	compareBytes(t, got, frames)
}

// A frame that the sender cut has the length that it had.
func TestTruncated(t *testing.T) {
	frames := bigIP(t)
	m := mirror.DefaultSession(bpf.EncapERSPAN2)
	m.SnapLength = 100
	got, _, _ := mirrored(t, "erspan2", lab.Config{}, m, frames, nil)
	for i, p := range got {
		if len(p.Data) != 100 || int(p.OrigLen) != len(frames[i]) || !bytes.Equal(p.Data, frames[i][:100]) {
			t.Errorf("packet %d: %d bytes of %d, want 100 of %d", i+1, len(p.Data), p.OrigLen, len(frames[i]))
		}
	}
	if len(got) != len(frames) {
		t.Errorf("%d packets, want %d", len(got), len(frames))
	}
}

// bigIP are the frames whose IP header says how long they are, and longer than
// any snap length here.
func bigIP(t *testing.T) (big [][]byte) {
	t.Helper()
	for _, f := range conversations() {
		if len(f) > 200 && binary.BigEndian.Uint16(f[12:]) == 0x0800 {
			big = append(big, f)
		}
	}
	if len(big) < 10 {
		t.Fatalf("only %d big frames", len(big))
	}
	return big
}

// A check sequence that the sender left on is found and taken off, or kept and
// declared.
func TestFCS(t *testing.T) {
	frames := conversations()
	m := mirror.DefaultSession(bpf.EncapERSPAN3)
	m.FCS = true
	got, _, _ := mirrored(t, "erspan3", lab.Config{MTU: 9100}, m, frames, nil)
	compareBytes(t, got, frames)
	if n := got[0].Interface.FCSLength; n != 0 {
		t.Errorf("the interface says %d bytes of check sequence, want 0", n)
	}
	got, _, _ = mirrored(t, "erspan3", lab.Config{MTU: 9100}, m, frames, func(c *collector.Config) { c.Frame.FCS = frame.FCSKeep })
	if n := got[0].Interface.FCSLength; n != 4 {
		t.Errorf("the interface says %d bytes of check sequence, want 4", n)
	}
	for i, p := range got {
		if len(p.Data) != len(frames[i])+4 || !bytes.Equal(p.Data[:len(frames[i])], frames[i]) {
			t.Fatalf("packet %d has %d bytes, want those of the frame and 4", i+1, len(p.Data))
		}
	}
}

// What is lost, doubled and reordered on the way is told apart, to the packet.
func TestFaults(t *testing.T) {
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = frameOf(64 + i%100)
	}
	for _, c := range []struct {
		name   string
		change func(*mirror.Session)
	}{
		{"lost", func(m *mirror.Session) { m.LoseEvery = 50 }},
		{"duplicated", func(m *mirror.Session) { m.DuplicateEvery = 40 }},
		{"reordered", func(m *mirror.Session) { m.ReorderEvery = 30 }},
		{"all over the wrap", func(m *mirror.Session) {
			m.LoseEvery, m.DuplicateEvery, m.ReorderEvery, m.Sequence = 50, 40, 30, 0xffffff00
		}},
		{"30 bits", func(m *mirror.Session) {
			m.LoseEvery, m.SequenceBits, m.Sequence = 50, 30, 1<<30-100
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mirror.DefaultSession(bpf.EncapERSPAN2)
			c.change(&m)
			got, final, sent := mirrored(t, "erspan2", lab.Config{}, m, frames, nil)
			s, f := final.Feeds[0].State.Sequence, sent.Feeds[0]
			if s.Received != f.Packets || s.Lost != f.Lost || s.Duplicates != f.Duplicated || s.Reordered != f.Reordered {
				t.Errorf("received %d, lost %d, duplicated %d, reordered %d; sent %+v", s.Received, s.Lost, s.Duplicates, s.Reordered, f)
			}
			var dropped uint64
			for _, p := range got {
				dropped += p.DropCount
			}
			if dropped < s.Lost || dropped > s.Lost+s.Reordered {
				t.Errorf("the file's drop counts sum to %d, %d were lost and %d reordered", dropped, s.Lost, s.Reordered)
			}
		})
	}
}
