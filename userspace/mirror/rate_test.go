package mirror

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/unspan/unspan/bpf"
)

var testTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func TestParseRate(t *testing.T) {
	for _, row := range []struct {
		text  string
		want  Rate
		again string
	}{
		{"max", Rate{}, "max"},
		{"5000", Rate{Packets: 5000}, "5kpps"},
		{"250kpps", Rate{Packets: 250e3}, "250kpps"},
		{"1.5Mpps", Rate{Packets: 1.5e6}, "1.5Mpps"},
		{"10Gbit/s", Rate{Bits: 10e9}, "10Gbit/s"},
		{"800Mbps", Rate{Bits: 800e6}, "800Mbit/s"},
		{"2k", Rate{Packets: 2000}, "2kpps"},
		{"1pps", Rate{Packets: 1}, "1pps"},
	} {
		got, err := ParseRate(row.text)
		if err != nil || got != row.want {
			t.Errorf("%q is %+v, %v, want %+v", row.text, got, err, row.want)
		}
		if again := got.String(); again != row.again {
			t.Errorf("%q is written %q, want %q", row.text, again, row.again)
		}
	}
	for _, text := range []string{"", "fast", "0", "-5pps", "1.2.3kpps", "5kHz", "kpps", "1Tpps", "10Gbit"} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), "rate") {
			t.Errorf("%q is %+v, %v, want an error that says rate", text, got, err)
		}
	}
}

// The pacer lets the rate through and no more, whatever pauses the sender makes.
func TestPacer(t *testing.T) {
	for _, row := range []struct {
		name  string
		rate  Rate
		pause time.Duration // after the first packet
		sent  int           // within a second after that
	}{
		{"packets", Rate{Packets: 1000}, 0, 1000},
		{"bits", Rate{Bits: 8e6}, 0, 1000}, // of 1000 bytes
		{"a pause is made up for", Rate{Packets: 1000}, 50 * time.Millisecond, 1050},
		{"a long one is not", Rate{Packets: 1000}, 10 * time.Second, 1100},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := testTime
			p := pacer{rate: row.rate, due: now}
			p.spend(1000, true)
			now = now.Add(row.pause)
			sent := 0
			for end := now.Add(time.Second); now.Before(end); {
				if wait := p.wait(now); wait > 0 {
					now = now.Add(wait)
					continue
				}
				// In two fragments: one packet, all its bits.
				p.spend(600, true)
				p.spend(400, false)
				sent++
			}
			if sent < row.sent-1 || sent > row.sent+1 {
				t.Errorf("%d packets in a second, want %d", sent, row.sent)
			}
		})
	}
	if wait := (&pacer{}).wait(testTime); wait != 0 {
		t.Errorf("without a bound a packet waits %v", wait)
	}
}

func TestClock(t *testing.T) {
	const now = 1700000000123456789
	for _, row := range []struct {
		name      string
		s         Session
		low, high uint32
	}{
		{"100 us", Session{Granularity: Granularity100us}, 17000000001234 & 0xffffffff, 17000000001234 >> 32},
		{"100 ns", Session{Granularity: Granularity100ns}, 17000000001234567 & 0xffffffff, 17000000001234567 >> 32},
		{"1588", Session{Granularity: Granularity1588}, 123456789, 1700000000},
		{"ns", Session{Granularity: GranularityNS}, now & 0xffffffff, now >> 32},
		{"2.4 ns", Session{Tick: 2400}, 708333333384773662 & 0xffffffff, 708333333384773662 >> 32},
		{"100 ps", Session{Tick: 100}, 17000000001234567890 & 0xffffffff, 17000000001234567890 >> 32},
		{"1 ps wraps", Session{Tick: 1}, 1700000000123456789000 & 0xffffffff, 1700000000123456789000 >> 32 & 0xffffffff},
	} {
		c := newClock(&row.s)
		if low, high := c.words(c.ticks(now)); low != row.low || high != row.high {
			t.Errorf("%s: %#x %#x, want %#x %#x", row.name, high, low, row.high, row.low)
		}
	}
}

// put writes where mirror.bpf.c reads.
func TestPacketLayout(t *testing.T) {
	var m bpf.MirrorPacket
	if got := unsafe.Offsetof(m.Length); got != lengthOffset {
		t.Errorf("the length of struct packet is at %d, want %d", got, lengthOffset)
	}
	if unsafe.Offsetof(m.Bytes) != packetHeader {
		t.Errorf("struct packet has %d bytes before its bytes, want %d", unsafe.Offsetof(m.Bytes), packetHeader)
	}
	m = bpf.MirrorPacket{
		Cost: 0x0102030405060708, ClockBase: 0x1112131415161718, ClockMultiplier: 0x21222324, ClockDivisor: 0x31323334, SequenceMask: 0x41424344,
		Length: 0x5152, Sequence: 0x5354, Checksum: 0x5556, Time: 0x5758, TimeHigh: 0x6162, Identification: 0x6364, Fragment: 0x6566, Seconds: 0x71,
	}
	value := make([]byte, unsafe.Sizeof(m))
	put(value, &m, []byte("tail"))
	if got := *(*bpf.MirrorPacket)(unsafe.Pointer(&value[0])); got != m {
		t.Errorf("read back %+v, want %+v", got, m)
	}
	if got := value[packetHeader:][:4]; string(got) != "tail" {
		t.Errorf("bytes are %q", got)
	}
}
