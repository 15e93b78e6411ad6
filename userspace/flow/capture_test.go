package flow_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/flow"
)

// captureFrame is a packet of a capture file.
type captureFrame struct {
	data    []byte
	origLen int
	time    uint64
	rawIP   bool
}

// captures returns the directory of the shared captures. They are not part of the
// project, so CI need not have them.
func captures(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no captures in %s: set UNSPAN_CAPTURES to their directory", dir)
	}
	return dir
}

// skip skips a test that needs something this machine lacks; in CI that is a failure.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func readCapture(t testing.TB, path string) []captureFrame {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	buffered := bufio.NewReader(file)
	magic, err := buffered.Peek(4)
	if err != nil {
		t.Fatal(err)
	}
	var next func() (captureFrame, error)
	if magic[0] == 0x0a {
		r, err := pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		next = func() (captureFrame, error) {
			data, ci, err := r.ReadPacketData()
			return captureFrame{data, ci.Length, uint64(ci.Timestamp.UnixNano()), r.LinkType() == layers.LinkTypeRaw}, err
		}
	} else {
		r, err := pcapgo.NewReader(buffered)
		if err != nil {
			t.Fatal(err)
		}
		next = func() (captureFrame, error) {
			data, ci, err := r.ReadPacketData()
			return captureFrame{data, ci.Length, uint64(ci.Timestamp.UnixNano()), r.LinkType() == layers.LinkTypeRaw}, err
		}
	}
	var frames []captureFrame
	for {
		f, err := next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
}

// patient keeps flows as tshark does: for ever.
func patient() flow.Config {
	c := flow.Default()
	c.Flows = 1 << 13
	c.Idle, c.Active, c.Closed = 100*365*24*time.Hour, 100*365*24*time.Hour, 100*365*24*time.Hour
	return c
}

func newTable(t testing.TB, c flow.Config) *flow.Table {
	t.Helper()
	table, err := flow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

// observe gives frames to a fresh table and returns all flows, those that ended
// on the way first, and the final counters.
func observe(t testing.TB, c flow.Config, frames []captureFrame) ([]flow.Flow, flow.Counters) {
	t.Helper()
	table := newTable(t, c)
	for _, f := range frames {
		record := bpf.Record{Feed: 1, Weight: 1}
		if f.rawIP {
			record.Flags = bpf.RecordRawIP
		}
		table.Observe(&record, f.data, f.origLen, f.time)
	}
	return drain(table)
}

func drain(table *flow.Table) ([]flow.Flow, flow.Counters) {
	var live []flow.Flow
	table.Drain(func(f *flow.Flow) { live = append(live, *f) })
	ended := make([]flow.Flow, 1<<16)
	ended = ended[:table.Ring().Read(ended)]
	return append(ended, live...), table.Counters()
}
