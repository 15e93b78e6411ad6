package collector_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/policy"
)

// needRoot skips without root; under UNSPAN_CI a skip is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "AF_XDP and network namespaces need root: run with sudo"
	if os.Getenv("UNSPAN_CI") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// longEnough is how long a test waits for what must come.
const longEnough = 20 * time.Second

// session is a collector at work at one end of a cable.
type session struct {
	t    *testing.T
	lab  *lab.Lab
	live *collector.Live
	stop context.CancelFunc
	done chan error
	raw  int // packet socket at the mirror's end
}

// collect begins to collect at the end of a new cable.
func collect(t *testing.T, cable lab.Config, config collector.Config) *session {
	t.Helper()
	needRoot(t)
	l, err := lab.Open(cable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	config.Interface = l.Collector.Link
	live, err := collector.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*longEnough)
	s := &session{t: t, lab: l, live: live, stop: stop, done: make(chan error, 1)}
	go func() { s.done <- l.Collector.Do(func() error { return live.Run(ctx) }) }()
	s.await("readiness", func() bool { return live.Ready() == nil })
	t.Cleanup(stop)
	s.open()
	return s
}

// await polls until it is so, or the collector has ended.
func (s *session) await(what string, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(longEnough); !so(); time.Sleep(time.Millisecond) {
		select {
		case err := <-s.done:
			s.t.Fatalf("waiting for %s: the collector ended: %v", what, err)
		default:
		}
		if time.Now().After(end) {
			snapshot, _ := s.live.Snapshot()
			_ = snapshot.WriteText(os.Stderr, ledger.TextOptions{})
			s.t.Fatalf("waiting for %s: not within %v", what, longEnough)
		}
	}
}

func (s *session) open() {
	s.t.Helper()
	if err := s.lab.Mirror.Do(func() (err error) {
		s.raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(s.raw, &unix.SockaddrLinklayer{Ifindex: s.lab.Mirror.Ifindex})
	}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(s.raw) })
}

// send puts frames on the cable and returns when the program has seen them all.
func (s *session) send(frames [][]byte) {
	s.t.Helper()
	before := s.seen()
	for i, f := range frames {
		if err := unix.Send(s.raw, f, 0); err != nil {
			s.t.Fatalf("sending frame %d of %d bytes: %v", i+1, len(f), err)
		}
	}
	s.await("the frames to arrive", func() bool { return s.seen()-before >= uint64(len(frames)) })
}

// seen is how many frames the program has counted.
func (s *session) seen() (n uint64) {
	snapshot, err := s.live.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, box := range snapshot.XDP {
		n += box.Packets
	}
	return n
}

// end stops the collector and returns its last ledger, which must add up.
func (s *session) end() ledger.Snapshot {
	s.t.Helper()
	s.stop()
	if err := <-s.done; err != nil {
		s.t.Fatal(err)
	}
	snapshot, err := s.live.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	if !snapshot.Final {
		s.t.Error("the last ledger is not final")
	}
	if err := snapshot.Check(); err != nil {
		s.t.Error(err)
	}
	return snapshot
}

// sendable are the packets of a capture that can go over a cable as they are.
func sendable(all []pcapng.Packet) (frames [][]byte) {
	for _, p := range all {
		if p.Interface.LinkType == pcapng.LinkEthernet && len(p.Data) >= 14 && len(p.Data) <= 65535 {
			frames = append(frames, p.Data)
		}
	}
	return frames
}

// The same packets over a cable must give the same frames as from a file.
func TestLiveCaptures(t *testing.T) {
	for _, mode := range []loader.Mode{loader.Native, loader.Generic} {
		t.Run(string(mode), func(t *testing.T) {
			for _, c := range captures(t) {
				if len(c.want) > 0 {
					t.Run(c.name, func(t *testing.T) { liveCapture(t, mode, c) })
				}
			}
		})
	}
}

func liveCapture(t *testing.T, mode loader.Mode, c capture) {
	frames := sendable(packets(t, c.path))
	want := c.want
	if c.name == "tcpdump_bigtcp-ipv4-vxlan-ipv4.pcap" {
		want = nil // 80,116 bytes: no cable takes such a frame
	}
	config := collector.Default()
	config.Mode = mode
	config.Settings.AnyDestination = 1
	config.Policy.Loops = policy.LoopKeep // some carry mirrors inside of mirrors
	if err := bpf.Accept(&config.Settings, accepted); err != nil {
		t.Fatal(err)
	}
	config.Frame.RestoreVLAN = frame.RestoreNever
	config.Write, config.Store.Path = true, filepath.Join(t.TempDir(), "out.pcapng")
	s := collect(t, lab.Config{MTU: 65535}, config)
	s.send(frames)
	snapshot := s.end()

	got := packets(t, config.Store.Path)
	if snapshot.Output.Written != uint64(len(got)) {
		t.Errorf("the ledger says %d were written, the file has %d", snapshot.Output.Written, len(got))
	}
	compare(t, answers(got), want)
}
