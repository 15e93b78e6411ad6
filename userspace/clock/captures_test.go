package clock

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
)

// erspan3 returns what the records of a capture's ERSPAN III packets say of time. The
// 8 bytes behind a header without the O bit are taken for a subheader where told so.
func erspan3(t *testing.T, name string, hidden bool) []*bpf.Record {
	t.Helper()
	dir := os.Getenv("UNSPAN_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsNotExist(err) {
		t.Skipf("no capture %s: point UNSPAN_CAPTURES at a folder that has it", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	reader, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var records []*bpf.Record
	for {
		frame, info, err := reader.ReadPacketData()
		if err == io.EOF {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		gre := frame[14+int(frame[14]&15)*4:]
		header := gre[4:]
		if gre[0]&0x10 != 0 {
			header = gre[8:]
		}
		r := stamped(uint64(info.Timestamp.UnixNano()), uint64(binary.BigEndian.Uint32(header[4:])), bpf.NoPlatform)
		if header[11]&1 != 0 || hidden {
			r.Platform = header[12] >> 2
			r.SourceTime |= uint64(binary.BigEndian.Uint32(header[16:])) << 32
		}
		records = append(records, r)
	}
}

// Clocks of real senders, which none of the headers describes.
func TestRealClocks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		hidden  bool
		packets int
		tick    float64
		used    int     // times told from the sender's clock: not before it is learned
		worst   float64 // delay beyond the least, ns
	}{
		// Gra says custom.
		{"tcpdump_erspan-type-iii-ft-0.pcap", false, 9, 2.4, 1, 100_000},
		// Gra says 100 us; the upper half of the time counts on, from the switch's start.
		{"tcpdump_erspan-type-iii-ft-7.pcap", false, 58, 0.1, 44, 300_000},
		{"tcpdump_erspan-type-iii-ft-7.pcap", true, 58, 0.1, 44, 300_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := erspan3(t, tt.name, tt.hidden)
			if len(records) != tt.packets {
				t.Fatalf("%d packets, want %d", len(records), tt.packets)
			}
			var feed Feed
			stamper := NewStamper(Sender, nil)
			used := 0
			for _, r := range records {
				delay := float64(int64(r.Time - stamper.Time(r, &feed)))
				if delay < 0 || delay > tt.worst {
					t.Errorf("delayed by %v ns", delay)
				}
				if delay != 0 {
					used++
				}
			}
			fit, ok := feed.Fit()
			if !ok || fit.Tick != tt.tick || math.Abs(fit.Drift) > 20e-6 {
				t.Errorf("learned %+v, %v; want a tick of %v", fit, ok, tt.tick)
			}
			if used != tt.used {
				t.Errorf("%d times are the sender's, want %d", used, tt.used)
			}
		})
	}
}

// A sender whose 64 bits are UTC is believed from the first packet on.
func TestRealUTC(t *testing.T) {
	for _, mode := range []Mode{Sender, Auto} {
		var feed Feed
		stamper := NewStamper(mode, nil)
		for i, r := range erspan3(t, "zeek_gre-erspan3-dot1q.pcap", false) {
			got := stamper.Time(r, &feed)
			if got != r.SourceTime {
				t.Errorf("packet %d, %v: %d, want %d", i, mode, got, r.SourceTime)
			}
			if delay := r.Time - got; delay < 10e6 || delay > 20e6 {
				t.Errorf("packet %d, %v: %d ns before its receive time, want about 14 ms", i, mode, delay)
			}
		}
	}
}
