package clock

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unspan/unspan/bpf"
)

func TestUTC(t *testing.T) {
	const second = 1_000_000_000
	now := uint64(epoch)
	halves := func(t uint64) uint64 { return t/second<<32 | t%second }
	for _, tt := range []struct {
		name     string
		source   uint64
		platform uint8
		flags    uint32
		sender   uint64
		auto     uint64
	}{
		{"platform 3", now - 14e6, 3, bpf.RecordSourceTime, now - 14e6, now - 14e6},
		{"platform 7", now - 14e6, 7, bpf.RecordSourceTime, now - 14e6, now - 14e6},
		{"platform 0", now - 14e6, 0, bpf.RecordSourceTime, now - 14e6, now - 14e6},
		{"platform 5", halves(now - 14e6), 5, bpf.RecordSourceTime, now - 14e6, now - 14e6},
		{"platform 6", halves(now - 14e6), 6, bpf.RecordSourceTime, now - 14e6, now - 14e6},
		{"platform 5, no nanoseconds", now/second<<32 | second, 5, bpf.RecordSourceTime, now, now},
		{"platform 1 has 32 bits", now - 14e6, 1, bpf.RecordSourceTime, now, now},
		{"platform 4 has 32 bits", now - 14e6, 4, bpf.RecordSourceTime, now, now},
		{"no subheader", now - 14e6, bpf.NoPlatform, bpf.RecordSourceTime, now, now},
		{"no source time", now - 14e6, 3, 0, now, now},
		{"equal", now, 3, bpf.RecordSourceTime, now, now},
		{"a little ahead", now + 1, 3, bpf.RecordSourceTime, now + 1, now},
		{"100 ms behind", now - 100e6, 3, bpf.RecordSourceTime, now - 100e6, now - 100e6},
		{"more than a delay", now - 100e6 - 1, 3, bpf.RecordSourceTime, now - 100e6 - 1, now},
		{"TAI", now + 37*second, 3, bpf.RecordSourceTime, now + 37*second, now},
		{"an hour behind", now - 3600*second, 3, bpf.RecordSourceTime, now, now},
		{"an hour ahead", now + 3600*second, 3, bpf.RecordSourceTime, now, now},
		{"since the sender's start", 8304 * second, 3, bpf.RecordSourceTime, now, now},
		{"not set", 0, 3, bpf.RecordSourceTime, now, now},
		{"all ones", 1<<64 - 1, 3, bpf.RecordSourceTime, now, now},
	} {
		for mode, want := range map[Mode]uint64{Receive: now, Sender: tt.sender, Auto: tt.auto} {
			record := stamped(now, tt.source, tt.platform)
			record.Flags = tt.flags
			if got := NewStamper(mode, nil).Time(record, new(Feed)); got != want {
				t.Errorf("%s, %v: receive time %+d ns, want %+d", tt.name, mode, int64(got-now), int64(want-now))
			}
		}
	}
	if got := NewStamper(Auto, nil).Time(stamped(now, now-1, 3), nil); got != now {
		t.Errorf("no feed: receive time %+d ns, want 0", int64(got-now))
	}
}

// Which clock a live record's receive time is of.
func TestReceiveTime(t *testing.T) {
	offset := &Offset{}
	offset.ns.Store(1000)
	for _, tt := range []struct {
		name   string
		offset *Offset
		flags  uint32
		want   uint64
	}{
		{"CLOCK_MONOTONIC", offset, 0, 1005},
		{"the NIC's", offset, bpf.RecordNICTime, 5},
		{"a file's", nil, 0, 5},
		{"a file's, of a NIC", nil, bpf.RecordNICTime, 5},
	} {
		if got := NewStamper(Auto, tt.offset).Time(&bpf.Record{Time: 5, Flags: tt.flags}, nil); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A file's times are evidence: they are not put in order.
func TestFileKeepsItsTimes(t *testing.T) {
	for _, mode := range []Mode{Receive, Sender, Auto} {
		s := NewStamper(mode, nil)
		for _, now := range []uint64{100, 90, 95, 1e12, 80} {
			if got := s.Time(&bpf.Record{Time: now}, nil); got != now {
				t.Errorf("%v: %d became %d", mode, now, got)
			}
		}
	}
}

func TestForward(t *testing.T) {
	const hour = 3600_000_000_000
	for _, tt := range []struct {
		name string
		in   []uint64
		want []uint64
	}{
		{"in order", []uint64{10, 11, 11, 500}, []uint64{10, 11, 11, 500}},
		{"jitter waits", []uint64{100, 90, 95, 90, 95, 99, 101}, []uint64{100, 100, 100, 100, 100, 100, 101}},
		{"a step forward", []uint64{10, hour}, []uint64{10, hour}},
		{"a step back, then half speed", []uint64{hour, 0, 2000, 3000, 2500, 4000}, []uint64{hour, hour, hour + 1000, hour + 1500, hour + 1500, hour + 2000}},
		{"caught up", []uint64{hour, 0, hour - 2, hour + 8, 2 * hour}, []uint64{hour, hour, hour + hour/2 - 1, hour + hour/2 + 4, 2 * hour}},
		{"two steps back", []uint64{2 * hour, hour, hour + 10, 0, 10}, []uint64{2 * hour, 2 * hour, 2*hour + 5, 2*hour + 5, 2*hour + 10}},
	} {
		var f forward
		for i, in := range tt.in {
			if got := f.next(in); got != tt.want[i] {
				t.Errorf("%s: step %d, %d: got %d, want %d", tt.name, i, in, got, tt.want[i])
			}
		}
	}
}

// Auto on a live worker: feeds with clocks of their own, with UTC and with none, mixed;
// the wall clock set back meanwhile. Times never go backwards, and but for the second
// that the clock was set back by they are no later than the receive time.
func TestAutoNeverBackwards(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 5))
	offset := &Offset{}
	stamper := NewStamper(Auto, offset)
	senders := []*sender{newSender(find(1), 30e-6, 1), newSender(find(0.1), -30e-6, 2), newSender(find(2.4), 0, 3)}
	feeds := make([]Feed, len(senders)+2)
	last, newest, told := uint64(0), uint64(0), 0
	for now := 0.0; now < 40e9; now += random.ExpFloat64() * 1e5 {
		if now > 30e9 {
			offset.ns.Store(-1e9)
		}
		var record *bpf.Record
		i := random.IntN(len(feeds))
		switch i - len(senders) {
		case 0: // UTC of a sender
			received := epoch + uint64(now+30e3)
			record = stamped(received, received-uint64(random.IntN(5e6)), 3)
		case 1:
			record = &bpf.Record{Time: epoch + uint64(now+30e3)}
		default:
			record = senders[i].send(now)
		}
		newest = max(newest, record.Time) // one receive queue keeps the order
		record.Time = newest
		got := stamper.Time(record, &feeds[i])
		if got < last {
			t.Fatalf("%v s: %d ns backwards", now/1e9, last-got)
		}
		if got > record.Time && now < 30e9 {
			t.Fatalf("%v s: %d ns after the receive time", now/1e9, got-record.Time)
		}
		if got < record.Time {
			told++
		}
		if now > 33e9 && got > record.Time-1e9 {
			t.Fatalf("%v s: the step back was not followed", now/1e9)
		}
		last = got
	}
	if told < 1000 {
		t.Errorf("%d times only are the sender's", told)
	}
}

// Auto does not take a clock that is coarser than the receive time.
func TestAutoWantsFineClocks(t *testing.T) {
	for _, tt := range []struct {
		tick float64
		used bool
	}{{100_000, false}, {10_000, false}, {1000, true}, {8, true}} {
		s := newSender(find(tt.tick), 0, 1)
		var feed Feed
		stamper := NewStamper(Auto, nil)
		used := false
		for now := 0.0; now < 10e9; now += 1e6 {
			record := s.send(now)
			used = stamper.Time(record, &feed) != record.Time || used
		}
		if _, ok := feed.Fit(); !ok || used != tt.used {
			t.Errorf("tick %v: learned %v, used %v; want it learned, used %v", tt.tick, ok, used, tt.used)
		}
	}
}

func TestMode(t *testing.T) {
	for _, mode := range []Mode{Receive, Sender, Auto} {
		var got Mode
		if err := got.UnmarshalText([]byte(mode.String())); err != nil || got != mode {
			t.Errorf("%v: read as %v, %v", mode, got, err)
		}
	}
	var m Mode
	if err := m.UnmarshalText([]byte("kernel")); err == nil || !strings.Contains(err.Error(), "receive, sender or auto") {
		t.Errorf("error %v, want one that names the modes", err)
	}
	if got := Mode(9).String(); got != "mode(9)" {
		t.Errorf("got %q", got)
	}
}

func TestNoGarbage(t *testing.T) {
	s := newSender(find(1), 0, 1)
	var feed Feed
	stamper := NewStamper(Auto, &Offset{})
	now := 0.0
	var records []*bpf.Record
	for ; now < 20e9; now += 1e6 {
		records = append(records, s.send(now))
	}
	if n := testing.AllocsPerRun(1, func() {
		for _, r := range records {
			stamper.Time(r, &feed)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzTime gives a feed any clock at all: 13 bytes a packet. A live worker's times go
// forward, and none is more than a possible delay before the receive time.
func FuzzTime(f *testing.F) {
	packet := func(step int32, source uint64, platform uint8) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(step))
		return append(binary.BigEndian.AppendUint64(b, source), platform)
	}
	var steady, utc []byte
	for i := range uint64(60) {
		steady = append(steady, packet(100e6, 100e6*(i+1)*5/12, bpf.NoPlatform)...)
		utc = append(utc, packet(1e6, epoch+1e6*(i+1), 3)...)
	}
	f.Add(steady, byte(2))
	f.Add(utc, byte(2))
	f.Add(append(utc, steady...), byte(2))
	f.Add(append(steady, packet(-2e9, 7, 5)...), byte(1))
	f.Fuzz(func(t *testing.T, script []byte, mode byte) {
		m := Mode(mode % 3)
		var feed Feed
		stamper := NewStamper(m, &Offset{})
		now, last := uint64(epoch), uint64(0)
		for ; len(script) >= 13; script = script[13:] {
			now += uint64(int64(int32(binary.BigEndian.Uint32(script))))
			got := stamper.Time(stamped(now, binary.BigEndian.Uint64(script[4:]), script[12]), &feed)
			if m != Sender {
				if got < last {
					t.Fatalf("%v: %d ns backwards", m, last-got)
				}
				last = got
			}
			if got+3600e9 < now {
				t.Fatalf("%v: %d ns before the receive time", m, now-got)
			}
		}
	})
}
