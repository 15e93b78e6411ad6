package mirror_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
	"github.com/vishvananda/netlink"
)

var methods = []mirror.Method{mirror.MethodSocket, mirror.MethodLive}

// mustSender makes a sender on the mirror's end.
func mustSender(tb testing.TB, l *lab.Lab, change func(*mirror.Config)) *mirror.Sender {
	tb.Helper()
	cfg := mirror.Default()
	cfg.Interface = l.Mirror.Link
	change(&cfg)
	var s *mirror.Sender
	if err := l.Mirror.Do(func() (err error) {
		s, err = mirror.New(cfg)
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// frames are some of different length.
func frames(tb testing.TB, n int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, innerFrame(tb, 46+i*37%1400))
	}
	return all
}

// Both senders put on the wire what Wrap says, for every encapsulation.
func TestSendersSendWhatWrapWrites(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name   string
		encap  bpf.Encap
		change func(*mirror.Session)
	}{
		{"erspan1", bpf.EncapERSPAN1, nil},
		{"erspan2", bpf.EncapERSPAN2, nil},
		{"erspan2 from any number", bpf.EncapERSPAN2, func(s *mirror.Session) { s.Sequence = 0xfffffffe }},
		{"erspan2 in 30 bits", bpf.EncapERSPAN2, func(s *mirror.Session) { s.Sequence, s.SequenceBits = 0x3ffffffe, 30 }},
		{"erspan2 with checksum and key", bpf.EncapERSPAN2, func(s *mirror.Session) { s.Checksum, s.Keyed, s.Key = true, true, 7 }},
		{"erspan2 over ipv6", bpf.EncapERSPAN2, outerIPv6},
		{"erspan2 behind tags", bpf.EncapERSPAN2, func(s *mirror.Session) { s.OuterVLANs = []uint16{100, 200} }},
		{"erspan2 in fragments", bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU, s.Checksum = 576, true }},
		{"erspan2 in fragments over ipv6", bpf.EncapERSPAN2, func(s *mirror.Session) { outerIPv6(s); s.MTU, s.Checksum = 1280, true }},
		{"erspan2 truncated", bpf.EncapERSPAN2, func(s *mirror.Session) { s.SnapLength = 100 }},
		{"gre", bpf.EncapGRE, func(s *mirror.Session) { s.Sequenced = true }},
		{"vxlan", bpf.EncapVXLAN, nil},
		{"geneve over ipv6", bpf.EncapGeneve, outerIPv6},
		{"rspan", bpf.EncapRSPAN, nil},
		{"native", bpf.EncapNative, nil},
	} {
		for _, method := range methods {
			t.Run(row.name+"/"+method.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				r := mustReceive(t, l.Collector)
				s := session(row.encap, row.change)
				inner := frames(t, 40)
				const packets = 100 // two rounds and a half
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method, c.Loop, c.Count = method, true, packets
					c.Feeds = []mirror.Feed{{Session: s, Frames: inner}}
				})
				within(t, func() error { return sender.Run(context.Background()) })

				if s.MTU == 0 {
					s.MTU = 1500 - 4*len(s.OuterVLANs)
				}
				w := mustWrapper(t, s)
				var want [][]byte
				bytes := 0
				for i := range packets {
					stamp := mirror.Stamp{Number: s.Sequence + uint32(i)}
					packet, err := w.Wrap(nil, inner[i%len(inner)], stamp)
					if err != nil {
						t.Fatal(err)
					}
					for i, more := 0, true; more; i++ {
						var fragment []byte
						fragment, more = w.AppendFragment(nil, packet, stamp, i)
						want = append(want, fragment)
						bytes += len(fragment)
					}
				}
				for i, got := range r.frames(t, len(want)) {
					if !slices.Equal(got, want[i]) {
						t.Fatalf("frame %d is\n%x, want\n%x", i, got, want[i])
					}
				}
				r.none(t)
				stats := sender.Stats()
				if stats.Packets != packets || stats.Frames != uint64(len(want)) || stats.Bytes != uint64(bytes) {
					t.Errorf("stats say %d packets, %d frames, %d bytes, want %d, %d, %d",
						stats.Packets, stats.Frames, stats.Bytes, packets, len(want), bytes)
				}
				if stats.DeviceSent != stats.Frames || stats.DeviceDropped != 0 {
					t.Errorf("the device sent %d frames and dropped %d, want %d and 0", stats.DeviceSent, stats.DeviceDropped, stats.Frames)
				}
			})
		}
	}
}

// The longest packets that a device takes leave whole, and those one byte longer
// in fragments or, where there is nothing to fragment, not at all.
func TestLongestFrames(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name    string
		encap   bpf.Encap
		change  func(*mirror.Session)
		outside int // bytes around the payload
		longest int // payload that leaves in one frame
		more    []int
	}{
		{"no tag", bpf.EncapERSPAN2, nil, 64, 1450, []int{1514, 60}},
		{"a tag", bpf.EncapERSPAN2, func(s *mirror.Session) { s.OuterVLANs = []uint16{5} }, 68, 1450, []int{1518, 60}},
		{"two tags", bpf.EncapERSPAN2, func(s *mirror.Session) { s.OuterVLANs = []uint16{5, 6} }, 72, 1442, []int{1514, 60}},
		{"rspan", bpf.EncapRSPAN, nil, 18, 1500, nil},
		{"native", bpf.EncapNative, nil, 14, 1500, nil},
	} {
		for _, method := range methods {
			t.Run(row.name+"/"+method.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				r := mustReceive(t, l.Collector)
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method = method
					c.Feeds = []mirror.Feed{{
						Session: session(row.encap, row.change),
						Frames:  [][]byte{innerFrame(t, row.longest), innerFrame(t, row.longest+1)},
					}}
				})
				within(t, func() error { return sender.Run(context.Background()) })
				want := append([]int{row.outside + row.longest}, row.more...)
				var got []int
				for _, frame := range r.frames(t, len(want)) {
					got = append(got, len(frame))
				}
				r.none(t)
				skipped := 0
				if row.more == nil {
					skipped = 1
				}
				if stats := sender.Stats(); !slices.Equal(got, want) || stats.Feeds[0].Skipped != skipped {
					t.Errorf("frames of %v bytes, %d skipped, want %v and %d", got, stats.Feeds[0].Skipped, want, skipped)
				}
			})
		}
	}
}

func TestJumboFramesBySocket(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{MTU: 9000, CollectorPass: true})
	r := mustReceive(t, l.Collector)
	s := session(bpf.EncapERSPAN2, nil)
	sender := mustSender(t, l, func(c *mirror.Config) {
		c.Method = mirror.MethodSocket
		c.Feeds = []mirror.Feed{{Session: s, Frames: [][]byte{innerFrame(t, 8900)}}}
	})
	within(t, func() error { return sender.Run(context.Background()) })
	if got, want := r.frames(t, 1)[0], mustWrap(t, s, innerFrame(t, 8900), mirror.Stamp{}); !slices.Equal(got, want) {
		t.Errorf("%d bytes arrive and differ from the %d sent", len(got), len(want))
	}
}

// The clock of an ERSPAN III sender shows the time of sending, in its own ticks.
func TestSendersKeepTime(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name   string
		change func(*mirror.Session)
		tickPS uint64 // 0: 1588
		high   bool
	}{
		{"100 us", func(s *mirror.Session) { s.Granularity = mirror.Granularity100us }, 100_000_000, false},
		{"100 ns", func(s *mirror.Session) { s.Granularity = mirror.Granularity100ns }, 100_000, false},
		{"ns and platform 3", func(s *mirror.Session) { s.Granularity, s.Platform = mirror.GranularityNS, 3 }, 1000, true},
		{"2.4 ns and platform 7", func(s *mirror.Session) {
			s.Granularity, s.Platform, s.Tick = mirror.GranularityNS, 7, 2400
		}, 2400, true},
		{"1588 and platform 5", func(s *mirror.Session) { s.Granularity, s.Platform = mirror.Granularity1588, 5 }, 0, true},
	} {
		for _, method := range methods {
			t.Run(row.name+"/"+method.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				r := mustReceive(t, l.Collector)
				s := session(bpf.EncapERSPAN3, func(s *mirror.Session) {
					s.Checksum = true
					row.change(s)
				})
				begin := time.Now()
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method = method
					c.Feeds = []mirror.Feed{{Session: s, Frames: frames(t, 50)}}
				})
				within(t, func() error { return sender.Run(context.Background()) })
				got := r.frames(t, 50)
				end := time.Now()

				ticks := func(at time.Time) uint64 { // modulo 2^64, as the field is
					ns := uint64(at.UnixNano())
					switch row.tickPS {
					case 0:
						return ns/1e9<<32 | ns%1e9
					case 2400:
						return ns/12*5 + ns%12*5/12
					}
					return ns / (row.tickPS / 1000)
				}
				low, high := ticks(begin.Add(-time.Millisecond)), ticks(end.Add(time.Millisecond))
				previous := uint64(0)
				for i, frame := range got {
					if sum := onesComplement(frame[34:]); sum != 0xffff {
						t.Fatalf("frame %d: GRE checksum is wrong: the sum is %#x: %x", i, sum, frame)
					}
					erspan := frame[34+12:] // behind GRE with checksum and sequence
					now := uint64(binary.BigEndian.Uint32(erspan[4:]))
					if row.high {
						now |= uint64(binary.BigEndian.Uint32(erspan[16:])) << 32
					} else {
						now |= low &^ 0xffffffff
						if now < low {
							now += 1 << 32 // the 32-bit field wrapped during the test
						}
					}
					if now < low || now > high || now < previous {
						t.Fatalf("frame %d says %d after %d, want %d to %d", i, now, previous, low, high)
					}
					previous = now
				}
			})
		}
	}
}

// onesComplement sums as the Internet checksum does; over a right checksum it is 0xffff.
func onesComplement(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// What the faults do to the sequence numbers on the wire is what Stats says.
func TestFaultsAreAsStatsSays(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name   string
		change func(*mirror.Session)
	}{
		{"none", func(s *mirror.Session) {}},
		{"loss", func(s *mirror.Session) { s.LoseEvery = 10 }},
		{"duplicates", func(s *mirror.Session) { s.DuplicateEvery = 7 }},
		{"reordering", func(s *mirror.Session) { s.ReorderEvery = 5 }},
		{"everything over a wrap", func(s *mirror.Session) {
			s.LoseEvery, s.DuplicateEvery, s.ReorderEvery, s.Sequence = 11, 7, 5, 0xffffff00
		}},
	} {
		for _, method := range methods {
			t.Run(row.name+"/"+method.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				r := mustReceive(t, l.Collector)
				s := session(bpf.EncapERSPAN2, row.change)
				const packets = 1009
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method, c.Loop, c.Count = method, true, packets
					c.Feeds = []mirror.Feed{{Session: s, Frames: frames(t, 13)}}
				})
				within(t, func() error { return sender.Run(context.Background()) })

				var want mirror.FeedStats
				seen := map[uint32]bool{}
				for _, frame := range r.frames(t, packets) {
					number := binary.BigEndian.Uint32(frame[38:]) - s.Sequence
					switch {
					case seen[number]:
						want.Duplicated++
					case uint64(number) < want.Numbers:
						want.Reordered++
					}
					seen[number] = true
					want.Packets++
					want.Numbers = max(want.Numbers, uint64(number)+1)
					want.Lost = want.Numbers - uint64(len(seen))
				}
				if got := sender.Stats().Feeds[0]; got != want {
					t.Errorf("stats %+v, on the wire %+v", got, want)
				}
			})
		}
	}
}

func TestFeedsSideBySide(t *testing.T) {
	needRoot(t)
	for _, method := range methods {
		t.Run(method.String(), func(t *testing.T) {
			l := mustLab(t, lab.Config{CollectorPass: true})
			r := mustReceive(t, l.Collector)
			sender := mustSender(t, l, func(c *mirror.Config) {
				c.Method, c.Loop, c.Count = method, true, 400
				c.Feeds = []mirror.Feed{
					{Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.ID = 1 }), Frames: frames(t, 30)},
					{Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.ID = 2 }), Frames: frames(t, 10)},
					{Session: session(bpf.EncapGREIP, nil), Frames: frames(t, 5)}, // no IP: all skipped
				}
			})
			within(t, func() error { return sender.Run(context.Background()) })
			var next [3]uint32
			for i, frame := range r.frames(t, 400) {
				id, number := frame[45], binary.BigEndian.Uint32(frame[38:])
				if number != next[id] {
					t.Fatalf("frame %d: session %d sends number %d, want %d", i, id, number, next[id])
				}
				next[id]++
				if i%40 == 39 && (next[1] != uint32(i+1)/4*3 || next[2] != uint32(i+1)/4) {
					t.Errorf("after %d frames %d and %d are sent, want 3 to 1", i+1, next[1], next[2])
				}
			}
			feeds := sender.Stats().Feeds
			want := []mirror.FeedStats{{Packets: 300, Numbers: 300}, {Packets: 100, Numbers: 100}, {Skipped: 5}}
			if !slices.Equal(feeds, want) {
				t.Errorf("stats %+v, want %+v", feeds, want)
			}
		})
	}
}

// A million live frames: what the program says it sent is what the other end got
// or the device dropped.
func TestLiveCountsAreExact(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{CollectorPass: true})
	const packets = 1_000_003
	// Frames for nobody: the collector's stack drops them early.
	sender := mustSender(t, l, func(c *mirror.Config) {
		c.Method, c.Loop, c.Count = mirror.MethodLive, true, packets
		c.Feeds = []mirror.Feed{{
			Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.DestinationMAC = []byte{0, 0, 0x5e, 0, 0x53, 0xff} }),
			Frames:  frames(t, 3),
		}}
	})
	within(t, func() error { return sender.Run(context.Background()) })
	stats := sender.Stats()
	if stats.Packets != packets || stats.Frames != packets || stats.Feeds[0].Numbers != packets || stats.Feeds[0].Lost != 0 {
		t.Errorf("stats %+v, want %d packets without loss", stats, packets)
	}
	if stats.DeviceSent+stats.DeviceDropped != packets {
		t.Errorf("the device sent %d and dropped %d, want %d together", stats.DeviceSent, stats.DeviceDropped, packets)
	}
	if err := l.Collector.Do(func() error {
		veth, err := netlink.LinkByIndex(l.Collector.Ifindex)
		if err == nil && veth.Attrs().Statistics.RxPackets != stats.DeviceSent {
			t.Errorf("%d frames arrived, want the %d that the device sent", veth.Attrs().Statistics.RxPackets, stats.DeviceSent)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A sender that would go on for ever ends when told, between two packets.
func TestCancel(t *testing.T) {
	needRoot(t)
	for _, method := range methods {
		for _, rate := range []mirror.Rate{{}, {Packets: 2000}} {
			t.Run(method.String()+"/"+rate.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method, c.Loop, c.Rate = method, true, rate
					c.Feeds = []mirror.Feed{{
						Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU = 576 }),
						Frames:  [][]byte{innerFrame(t, 1400)}, // three fragments
					}}
				})
				ctx, cancel := context.WithCancel(context.Background())
				go func() {
					for sender.Stats().Packets < 100 {
						runtime.Gosched()
					}
					cancel()
				}()
				within(t, func() error { return sender.Run(ctx) })
				if stats := sender.Stats(); stats.Packets < 100 || stats.Frames != 3*stats.Packets {
					t.Errorf("%d packets in %d frames, want three each", stats.Packets, stats.Frames)
				}
			})
		}
	}
}

func TestMethodAutoFallsBackToASocket(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{}) // the collector has no program: live frames do not arrive
	r := mustReceive(t, l.Collector)
	configure := func(method mirror.Method) func(*mirror.Config) {
		return func(c *mirror.Config) {
			c.Method, c.Loop, c.Count = method, true, 100
			c.Rate = mirror.Rate{Packets: 200_000}
			c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 10)}}
		}
	}
	stubborn := mustSender(t, l, configure(mirror.MethodLive))
	if err := stubborn.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "XDP program or GRO") {
		t.Errorf("live frames into a veth without receiver: error %v does not name the cure", err)
	}
	sender := mustSender(t, l, configure(mirror.MethodAuto))
	if sender.Method() != mirror.MethodLive {
		t.Errorf("begins with method %v, want live", sender.Method())
	}
	within(t, func() error { return sender.Run(context.Background()) })
	if sender.Method() != mirror.MethodSocket || sender.Stats().Packets != 100 {
		t.Errorf("method %v sent %d packets, want socket and 100", sender.Method(), sender.Stats().Packets)
	}
	r.frames(t, 100)
	r.none(t)
}

func TestNewRefuses(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{MTU: 9000})
	good := []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 3)}}
	for _, row := range []struct {
		name   string
		change func(*mirror.Config)
		want   string
	}{
		{"no interface", func(c *mirror.Config) { c.Interface = "" }, "interface"},
		{"unknown interface", func(c *mirror.Config) { c.Interface = "nosuch0" }, "ip link"},
		{"no feeds", func(c *mirror.Config) { c.Feeds = nil }, "feeds"},
		{"no frames", func(c *mirror.Config) { c.Feeds = []mirror.Feed{{Session: good[0].Session}} }, "none of the frames"},
		{"two rates", func(c *mirror.Config) { c.Rate = mirror.Rate{Packets: 1, Bits: 1} }, "rate"},
		{"unknown method", func(c *mirror.Config) { c.Method = 3 }, "method"},
		{"session", func(c *mirror.Config) {
			c.Feeds = []mirror.Feed{good[0], {Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.ID = 4000 }), Frames: frames(t, 1)}}
		}, "feed 1: setting up session of erspan2: session id"},
		{"MTU over the device's", func(c *mirror.Config) {
			c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, func(s *mirror.Session) { s.MTU = 9001 }), Frames: frames(t, 1)}}
		}, "ip link set mirror0 mtu 9001"},
		{"jumbo frames live", func(c *mirror.Config) {
			c.Method = mirror.MethodLive
			c.Feeds = []mirror.Feed{{Session: good[0].Session, Frames: [][]byte{innerFrame(t, 5000)}}}
		}, "socket method"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := mirror.Default()
			cfg.Interface, cfg.Feeds = l.Mirror.Link, good
			row.change(&cfg)
			before := openFiles(t)
			err := l.Mirror.Do(func() error {
				s, err := mirror.New(cfg)
				if err == nil {
					s.Close()
				}
				return err
			})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v does not name %q", err, row.want)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d files open before, %d after", before, after)
			}
		})
	}
}

func TestInterfaceDown(t *testing.T) {
	needRoot(t)
	n, err := lab.NewNamespace("test's")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	err = n.Do(func() error {
		cfg := mirror.Default()
		cfg.Interface = "lo" // down in a new namespace
		cfg.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 1)}}
		s, err := mirror.New(cfg)
		if err == nil {
			s.Close()
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "ip link set lo up") {
		t.Errorf("error %v does not name the cure", err)
	}
}

func TestCPUThatIsNotThere(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{CollectorPass: true})
	for _, method := range methods {
		sender := mustSender(t, l, func(c *mirror.Config) {
			c.Method, c.CPU = method, 1023
			c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 1)}}
		})
		if err := sender.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "CPU 1023") {
			t.Errorf("%v: error %v does not name the CPU", method, err)
		}
	}
}

func TestSenderLeavesNothing(t *testing.T) {
	needRoot(t)
	for _, method := range methods {
		t.Run(method.String(), func(t *testing.T) {
			l := mustLab(t, lab.Config{CollectorPass: true})
			use := func() {
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method, c.CPU = method, 0
					c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 3)}}
				})
				within(t, func() error { return sender.Run(context.Background()) })
				stats := sender.Stats()
				for range 2 {
					if err := sender.Close(); err != nil {
						t.Error(err)
					}
				}
				if closed := sender.Stats(); closed.Packets != 3 || closed.DeviceSent != 3 || closed.Elapsed != stats.Elapsed {
					t.Errorf("stats when closed %+v, want %+v", closed, stats)
				}
			}
			use() // what is opened once per process is open now
			before := openFiles(t)
			use()
			if after := openFiles(t); after != before {
				t.Errorf("%d files open before, %d after", before, after)
			}
		})
	}
}

func openFiles(tb testing.TB) int {
	tb.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		tb.Fatal(err)
	}
	open := 0
	for _, f := range files {
		// Sockets that the runtime or netlink is closing are gone by now; what is
		// left open is there.
		if _, err := os.Readlink(f); err == nil {
			open++
		}
	}
	return open
}

// However slow the machine: no sender is faster than its rate, but for the quarter
// by which the live one makes up for lost time.
func TestRateBounds(t *testing.T) {
	needRoot(t)
	for _, method := range methods {
		for _, rate := range []mirror.Rate{{Packets: 100_000}, {Bits: 1e9}} {
			t.Run(method.String()+"/"+rate.String(), func(t *testing.T) {
				l := mustLab(t, lab.Config{CollectorPass: true})
				const packets = 10_000
				sender := mustSender(t, l, func(c *mirror.Config) {
					c.Method, c.Rate, c.Loop, c.Count = method, rate, true, packets
					c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: [][]byte{innerFrame(t, 1200)}}}
				})
				begin := time.Now()
				within(t, func() error { return sender.Run(context.Background()) })
				elapsed := time.Since(begin)
				seconds := packets / rate.Packets
				if rate.Bits > 0 {
					seconds = packets * (1214 + 50) * 8 / rate.Bits
				}
				if least := time.Duration(seconds / 1.25 * 1e9); elapsed < least {
					t.Errorf("%d packets took %v, at this rate they take %v", packets, elapsed, least)
				}
			})
		}
	}
}

// A device that goes away ends the sending with an error.
func TestDeviceGoesAway(t *testing.T) {
	needRoot(t)
	for _, method := range methods {
		t.Run(method.String(), func(t *testing.T) {
			l := mustLab(t, lab.Config{CollectorPass: true})
			sender := mustSender(t, l, func(c *mirror.Config) {
				c.Method, c.Loop, c.Rate = method, true, mirror.Rate{Packets: 10_000}
				c.Feeds = []mirror.Feed{{Session: session(bpf.EncapERSPAN2, nil), Frames: frames(t, 3)}}
			})
			go func() {
				for sender.Stats().Packets == 0 {
					runtime.Gosched()
				}
				l.Mirror.Do(func() error {
					veth, err := netlink.LinkByIndex(l.Mirror.Ifindex)
					if err == nil {
						err = netlink.LinkDel(veth)
					}
					if err != nil {
						t.Error(err)
					}
					return err
				})
			}()
			within(t, func() error {
				if err := sender.Run(context.Background()); err == nil {
					t.Error("ended without an error")
				}
				return nil
			})
		})
	}
}

func TestResolve(t *testing.T) {
	needRoot(t)
	l := mustLab(t, lab.Config{MTU: 1600})
	for _, row := range []struct {
		destination string
		source      string
	}{{"192.0.2.2", "192.0.2.1"}, {"2001:db8::2", "2001:db8::1"}} {
		for _, device := range []string{"", l.Mirror.Link} {
			if err := l.Mirror.Do(func() error {
				path, err := mirror.Resolve(device, netip.MustParseAddr(row.destination))
				if err != nil {
					return err
				}
				if path.Interface != l.Mirror.Link || path.Source.String() != row.source || path.MTU != 1600 ||
					path.SourceMAC.String() != l.Mirror.MAC.String() || path.DestinationMAC.String() != l.Collector.MAC.String() {
					t.Errorf("the path to %s is %+v", row.destination, path)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
	if err := l.Mirror.Do(func() error {
		_, err := mirror.Resolve("", netip.MustParseAddr("203.0.113.1"))
		return err
	}); err == nil || !strings.Contains(err.Error(), "203.0.113.1") {
		t.Errorf("without a route: error %v does not name the destination", err)
	}
}
