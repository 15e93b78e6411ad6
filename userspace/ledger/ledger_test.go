package ledger_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/reassembly"
	"github.com/unspan/unspan/userspace/xsk"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the code does now")

// live is a snapshot of a busy collector in which every line adds up and every
// kind of box is used. A test breaks one thing of it.
func live() ledger.Snapshot {
	s := ledger.Snapshot{
		Subject: "eth1 (native, copy, 2 workers)",
		Start:   time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC),
		Elapsed: 62430 * time.Millisecond,
		Live:    true,
		Final:   true,
		Feeds: []ledger.Feed{
			{
				Key: bpf.FeedKey{
					Exporter:  netip.MustParseAddr("::ffff:192.0.2.7").As16(),
					Collector: netip.MustParseAddr("::ffff:192.0.2.1").As16(),
					Session:   1000, Encap: uint8(bpf.EncapERSPAN2),
				},
				State: bpf.FeedState{
					Packets: 1_000_002, Bytes: 812_001_624, Kept: 999_990,
					Sequence: bpf.Sequence{
						Received: 1_000_002, Lost: 12, Reordered: 100, Duplicates: 2, Restarts: 1,
						Flags: bpf.SequenceSeen,
					},
				},
			},
			{
				Key: bpf.FeedKey{
					Exporter:  netip.MustParseAddr("2001:db8::9").As16(),
					Collector: netip.MustParseAddr("2001:db8::1").As16(),
					Key:       0x02000000, Keyed: 1, Encap: uint8(bpf.EncapGRE),
				},
				State: bpf.FeedState{Packets: 12_000, Bytes: 1_536_000, Kept: 12_000},
			},
		},
		Queues: []ledger.Queue{
			{Index: 0, Stats: xsk.Stats{Received: 600_000, RingFull: 5, FillRingEmpty: 2, TooLong: 1, FillRingMisses: 2}},
			{Index: 1, Stats: xsk.Stats{Received: 412_182}},
		},
		Workers: []ledger.Worker{
			{
				Inner: 599_800, Malformed: 1,
				Reassembly: reassembly.Stats{
					Held: 2, Reassembled: 194, Datagrams: 97,
					GivenUp: [reassembly.ReasonCount]uint64{reassembly.Timeout: 3},
				},
			},
			{Inner: 412_182},
		},
		Output: ledger.Output{Written: 1_012_000, WrittenBytes: 813_000_000, Backlog: 60, Refused: 9, Surplus: 8},
	}
	s.Workers[0].Verdicts[bpf.RedirectInner] = bpf.Tally{Packets: 95, Bytes: 285_000}
	s.Workers[0].Verdicts[bpf.DropPolicy] = bpf.Tally{Packets: 1, Bytes: 3_000}
	s.Workers[0].Verdicts[bpf.PassGREProtocol] = bpf.Tally{Packets: 1, Bytes: 3_000}
	s.XDP[bpf.PassNotIP] = bpf.Tally{Packets: 345, Bytes: 20_700}
	s.XDP[bpf.PassNoSocket] = bpf.Tally{Packets: 7, Bytes: 700}
	s.XDP[bpf.DropERSPANShort] = bpf.Tally{Packets: 4, Bytes: 240}
	s.XDP[bpf.DropPolicy] = bpf.Tally{Packets: 12, Bytes: 9_600}
	s.XDP[bpf.RedirectFragment] = bpf.Tally{Packets: 200, Bytes: 300_000}
	s.XDP[bpf.RedirectInner] = bpf.Tally{Packets: 1_011_990, Bytes: 840_000_000}
	return s
}

// offline is a run over a file: the packets read are counted apart, there is no
// AF_XDP, and nobody asked for an output file.
func offline() ledger.Snapshot {
	s := ledger.Snapshot{
		Subject:       "2 files",
		Start:         time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC),
		Elapsed:       150 * time.Millisecond,
		Final:         true,
		Frames:        287,
		FramesCounted: true,
		Workers: []ledger.Worker{{
			Inner:      232,
			Reassembly: reassembly.Stats{Reassembled: 55, Datagrams: 16},
		}},
		Output: ledger.Output{Unasked: 248},
	}
	s.Workers[0].Verdicts[bpf.RedirectInner] = bpf.Tally{Packets: 16, Bytes: 60_000}
	s.XDP[bpf.RedirectInner] = bpf.Tally{Packets: 232, Bytes: 100_000}
	s.XDP[bpf.RedirectFragment] = bpf.Tally{Packets: 55, Bytes: 61_000}
	return s
}

// Each row breaks one thing of a whole snapshot and says which lines notice.
func TestEveryLineAddsUp(t *testing.T) {
	tests := []struct {
		name  string
		from  func() ledger.Snapshot
		alter func(*ledger.Snapshot)
		want  map[string]int64 // balance by line, all lines
		err   string           // what Check says; empty: nothing
	}{
		{
			name: "live and whole", from: live, alter: func(*ledger.Snapshot) {},
			want: map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": 0, "reassembly": 0, "output": 0},
		},
		{
			name: "offline and whole", from: offline, alter: func(*ledger.Snapshot) {},
			want: map[string]int64{"xdp": 0, "worker": 0, "reassembly": 0, "output": 0},
		},
		{
			name: "nothing ever came", from: func() ledger.Snapshot { return ledger.Snapshot{Live: true, Final: true} },
			alter: func(*ledger.Snapshot) {},
			want:  map[string]int64{"xdp": 0, "afxdp": 0, "worker": 0, "output": 0},
		},
		{
			name: "a frame left without a verdict", from: live,
			alter: func(s *ledger.Snapshot) { s.XDP[bpf.VerdictNone].Packets = 1 },
			want:  map[string]int64{"wire": 0, "xdp": 1, "afxdp": 0, "worker": 0, "reassembly": 0, "output": 0},
			err:   "checking the ledger: line XDP does not add up: 1 in no box",
		},
		{
			name: "a packet read but not judged", from: offline,
			alter: func(s *ledger.Snapshot) { s.Frames++ },
			want:  map[string]int64{"xdp": 1, "worker": 0, "reassembly": 0, "output": 0},
			err:   "checking the ledger: line file does not add up: 1 in no box",
		},
		{
			name: "the kernel lost frames in silence", from: live,
			alter: func(s *ledger.Snapshot) { s.Queues[0].RingFull -= 4 },
			want:  map[string]int64{"wire": 0, "xdp": 0, "afxdp": 4, "worker": 0, "reassembly": 0, "output": 0},
			err:   "checking the ledger: line AF_XDP does not add up: 4 in no box",
		},
		{
			name: "a worker dropped a frame uncounted", from: live,
			alter: func(s *ledger.Snapshot) { s.Workers[0].Malformed = 0 },
			want:  map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": 1, "reassembly": 0, "output": 0},
			err:   "checking the ledger: line worker does not add up: 1 in no box",
		},
		{
			name: "a fragment both held and put together", from: live,
			alter: func(s *ledger.Snapshot) { s.Workers[1].Reassembly.Held = 1 },
			want:  map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": -1, "reassembly": 0, "output": 0},
			err:   "checking the ledger: line worker does not add up: 1 too many in its boxes",
		},
		{
			name: "a datagram vanished before the decapsulation", from: live,
			alter: func(s *ledger.Snapshot) { s.Workers[0].Reassembly.Datagrams++ },
			want:  map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": 0, "reassembly": 1, "output": 0},
			err:   "checking the ledger: line reassembly does not add up: 1 in no box",
		},
		{
			name: "a whole datagram taken for a fragment", from: live,
			alter: func(s *ledger.Snapshot) {
				s.Workers[0].Reassembly.Datagrams++
				s.Workers[0].Verdicts[bpf.RedirectFragment].Packets = 1
			},
			want: map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": 0, "reassembly": 1, "output": 0},
			err:  "checking the ledger: line reassembly does not add up: 1 in no box",
		},
		{
			name: "frames written twice", from: live,
			alter: func(s *ledger.Snapshot) { s.Output.Written += 1234 },
			want:  map[string]int64{"wire": 0, "xdp": 0, "afxdp": 0, "worker": 0, "reassembly": 0, "output": -1234},
			err:   "checking the ledger: line output does not add up: 1,234 too many in its boxes",
		},
		{
			name: "read on the run, frames in the ring and in the buffer", from: live,
			alter: func(s *ledger.Snapshot) {
				s.Final = false
				s.XDP[bpf.RedirectInner].Packets += 64
				s.Output.Written -= 10
			},
			want: map[string]int64{"wire": 0, "xdp": 0, "afxdp": 64, "worker": 0, "reassembly": 0, "output": 10},
		},
		{
			name: "read on the run, and counted twice all the same", from: live,
			alter: func(s *ledger.Snapshot) {
				s.Final = false
				s.XDP[bpf.RedirectInner].Packets += 64
				s.Output.Written += 10
			},
			want: map[string]int64{"wire": 0, "xdp": 0, "afxdp": 64, "worker": 0, "reassembly": 0, "output": -10},
			err:  "checking the ledger: line output does not add up: 10 too many in its boxes",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.from()
			tt.alter(&s)
			got := map[string]int64{}
			for _, l := range s.Lines() {
				got[l.Name] = l.Balance()
			}
			if len(got) != len(tt.want) {
				t.Errorf("lines are %v, want %v", got, tt.want)
			}
			for name, balance := range tt.want {
				if b, is := got[name]; !is || b != balance {
					t.Errorf("balance of %s is %d (there: %t), want %d", name, b, is, balance)
				}
			}
			err := s.Check()
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("Check says %v, want %q", err, tt.err)
			}
		})
	}
}

func TestExpectedLeavesSecondCopiesOut(t *testing.T) {
	tests := []struct {
		name     string
		sequence bpf.Sequence
		want     uint64
	}{
		{"all came in order", bpf.Sequence{Received: 10}, 10},
		{"three lost", bpf.Sequence{Received: 10, Lost: 3}, 13},
		{"three late are not lost", bpf.Sequence{Received: 10, Reordered: 3}, 10},
		{"three came twice", bpf.Sequence{Received: 10, Duplicates: 3}, 7},
		{"all of it", bpf.Sequence{Received: 100, Lost: 5, Reordered: 2, Duplicates: 10}, 95},
	}
	for _, tt := range tests {
		f := ledger.Feed{State: bpf.FeedState{Sequence: tt.sequence}}
		if got := f.Expected(); got != tt.want {
			t.Errorf("%s: expected %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Boxes of the XDP line follow the verdicts, those of the worker line the reasons
// to give fragments up; a new one of either must be given a title and a kind.
func TestEveryBoxHasATitleAndAKind(t *testing.T) {
	s := ledger.Snapshot{Live: true}
	for _, l := range s.Lines() {
		titles := map[string]string{}
		for _, b := range l.Boxes {
			if other, is := titles[b.Title]; is || b.Title == "" {
				t.Errorf("title %q of %s is empty or that of %s too", b.Title, b.Name, other)
			}
			titles[b.Title] = b.Name
		}
	}
	xdp, worker := s.Lines()[0].Boxes, s.Lines()[2].Boxes
	if len(xdp) != int(bpf.VerdictCount)-1 {
		t.Errorf("the XDP line has %d boxes, want one for each of %d verdicts", len(xdp), bpf.VerdictCount-1)
	}
	for i, b := range xdp {
		v := bpf.Verdict(i) + 1
		if b.Name != bpf.VerdictName(v) {
			t.Errorf("box %d is %s, want %s", i, b.Name, bpf.VerdictName(v))
		}
		var right bool
		switch {
		case v == bpf.PassNoSocket:
			right = b.Kind == ledger.Kernel
		case bpf.Passes(v):
			right = b.Kind == ledger.NotOurs
		case bpf.Drops(v):
			right = b.Kind == ledger.Upstream || b.Kind == ledger.Kernel || b.Kind == ledger.Intended
		default:
			right = b.Kind == ledger.Onward
		}
		if !right {
			t.Errorf("%s is of kind %s", b.Name, b.Kind)
		}
	}
	for _, b := range worker[4 : len(worker)-1] {
		name := strings.TrimPrefix(b.Name, "fragments_")
		if lost := b.Kind == ledger.Upstream || b.Kind == ledger.Intended; lost == (name == reassembly.Duplicate.String()) {
			t.Errorf("%s is of kind %s", b.Name, b.Kind)
		}
	}
	if reasons := len(worker) - 5; reasons != int(reassembly.ReasonCount) {
		t.Errorf("the worker line has %d reasons, want %d", reasons, reassembly.ReasonCount)
	}
}

// A feed that has ended is in the sums as it was before.
func TestEnded(t *testing.T) {
	before := live()
	after := live()
	for i := range after.Feeds {
		after.Ended.Add(&after.Feeds[i])
	}
	after.Feeds = nil
	want, got := before.Lines()[0], after.Lines()[0]
	if got.In != want.In || !slices.Equal(got.Boxes, want.Boxes) || !got.Adds() {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := fmt.Sprint(got.Notes); !strings.Contains(got, "ended and gave their places to others") {
		t.Errorf("notes %s", got)
	}
}

func TestGolden(t *testing.T) {
	broken := live()
	broken.Output.Written -= 3
	broken.Workers[0].Inner++

	running := live()
	running.Final = false
	running.XDP[bpf.RedirectInner].Packets += 64

	tests := []struct {
		file     string
		snapshot ledger.Snapshot
		options  ledger.TextOptions
	}{
		{"live.txt", live(), ledger.TextOptions{}},
		{"live-all.txt", live(), ledger.TextOptions{All: true}},
		{"live-one-feed.txt", live(), ledger.TextOptions{Feeds: 1}},
		{"running.txt", running, ledger.TextOptions{}},
		{"broken.txt", broken, ledger.TextOptions{}},
		{"offline.txt", offline(), ledger.TextOptions{}},
		{"empty.txt", ledger.Snapshot{Subject: "eth1", Live: true, Final: true}, ledger.TextOptions{}},
		{"live.json", live(), ledger.TextOptions{}},
		{"offline.json", offline(), ledger.TextOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			var got bytes.Buffer
			if strings.HasSuffix(tt.file, ".json") {
				encoder := json.NewEncoder(&got)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(tt.snapshot); err != nil {
					t.Fatal(err)
				}
			} else if err := tt.snapshot.WriteText(&got, tt.options); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
			for i := range max(len(gotLines), len(wantLines)) {
				if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
					t.Fatalf("%s:%d differs (rewrite with go test -update): got\n%s", path, i+1, strings.Join(gotLines[min(i, len(gotLines)):min(i+1, len(gotLines))], ""))
				}
			}
		})
	}
}
