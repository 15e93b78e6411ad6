package collector_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// frameOf is an inner frame of size bytes: broadcast of an experimental EtherType.
func frameOf(size int) []byte {
	f := make([]byte, size)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x5e, 0, 0x53, 1, 0x88, 0xb5})
	return f
}

// mirrorOnce mirrors the frames of each feed once.
func (s *session) mirrorOnce(feeds []mirror.Feed) mirror.Stats {
	s.t.Helper()
	return s.mirror(feeds, func(c *mirror.Config) { c.Method = mirror.MethodSocket })
}

// mirror sends feeds from the mirror's end of the cable and waits until the
// program has seen what arrived.
func (s *session) mirror(feeds []mirror.Feed, change func(*mirror.Config)) mirror.Stats {
	s.t.Helper()
	for i := range feeds {
		m := &feeds[i].Session
		m.SourceMAC, m.DestinationMAC = s.lab.Mirror.MAC, s.lab.Collector.MAC
		if !m.Source.IsValid() {
			m.Source, m.Destination = s.lab.Mirror.IPv4, s.lab.Collector.IPv4
		}
	}
	config := mirror.Default()
	config.Interface, config.Feeds = s.lab.Mirror.Link, feeds
	change(&config)
	var sent mirror.Stats
	before := s.seen()
	if err := s.lab.Mirror.Do(func() error {
		sender, err := mirror.New(config)
		if err != nil {
			return err
		}
		err = sender.Run(s.t.Context())
		sent = sender.Stats()
		if e := sender.Close(); err == nil {
			err = e
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	arrived := sent.Frames - sent.DeviceDropped
	s.await("the feed to arrive", func() bool { return s.seen()-before >= arrived })
	return sent
}

// A feed that is faster than the worker loses packets, each in the box where it
// was lost, and the boxes add up to what was sent.
func TestOverload(t *testing.T) {
	for _, mode := range []loader.Mode{loader.Native, loader.Generic} {
		t.Run(string(mode), func(t *testing.T) {
			const count = 300_000
			config := collector.Default()
			config.Mode = mode
			config.Sockets.Frames = 64 // next to no room: the fill ring runs empty
			config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
			s := collect(t, lab.Config{}, config)
			sent := s.mirror([]mirror.Feed{{Session: mirror.DefaultSession(bpf.EncapERSPAN2), Frames: [][]byte{frameOf(64)}}}, func(c *mirror.Config) {
				c.Method, c.Loop, c.Count = mirror.MethodSocket, true, count
			})
			final := s.end()

			if len(final.Feeds) != 1 {
				t.Fatalf("%d feeds, want 1", len(final.Feeds))
			}
			f := final.Feeds[0].State
			// Numbers lost behind the last one that arrived are nobody's to count.
			if got := f.Sequence.Received + f.Sequence.Lost; got > count || got+sent.DeviceDropped < count {
				t.Errorf("the feed had %d numbers, %d were sent", got, count)
			}
			if f.Packets != sent.Packets-sent.DeviceDropped {
				t.Errorf("%d packets reached the program, %d were sent and %d dropped by the device", f.Packets, sent.Packets, sent.DeviceDropped)
			}
			stats := final.Queues[0].Stats
			lost := stats.RingFull + stats.FillRingEmpty
			if stats.Received+lost != f.Kept {
				t.Errorf("received %d, lost %d in the rings, the program redirected %d", stats.Received, lost, f.Kept)
			}
			if final.Output.Written != stats.Received {
				t.Errorf("%d written, %d received", final.Output.Written, stats.Received)
			}
			if n := capinfos(t, config.Store.Path); n != final.Output.Written {
				t.Errorf("capinfos counts %d packets, the ledger %d", n, final.Output.Written)
			}
			t.Logf("%d lost in the rings, %d by the device", lost, sent.DeviceDropped)
		})
	}
}

// capinfos counts the packets of a capture by another program than ours.
func capinfos(t *testing.T, path string) uint64 {
	t.Helper()
	var complaint bytes.Buffer
	cmd := exec.Command("capinfos", "-c", "-M", "-T", "-r", path)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil || complaint.Len() > 0 {
		t.Fatalf("capinfos: %v: %s", err, &complaint)
	}
	fields := strings.Fields(string(out))
	n, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
	if err != nil {
		t.Fatalf("capinfos says %q: %v", out, err)
	}
	return n
}
