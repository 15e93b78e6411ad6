package frame_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/frame"
)

// erspan returns the records and inner frames of a capture of ERSPAN II or III over
// IPv4.
func erspan(t *testing.T, name string) (records []*bpf.Record, frames [][]byte) {
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
	for {
		outer, _, err := reader.ReadPacketData()
		if err == io.EOF {
			return records, frames
		}
		if err != nil {
			t.Fatal(err)
		}
		gre := outer[14+int(outer[14]&15)*4 : 14+int(binary.BigEndian.Uint16(outer[16:]))]
		header := gre[4:]
		if gre[0]&0x10 != 0 {
			header = gre[8:]
		}
		size, encap, flags := 8, bpf.EncapERSPAN2, bpf.RecordVLAN
		tag := binary.BigEndian.Uint16(header)
		session := binary.BigEndian.Uint16(header[2:])
		switch {
		case header[0]>>4 == 2:
			size, encap = 12+int(header[11]&1)*8, bpf.EncapERSPAN3
		case session>>11&3 == 2:
			flags |= bpf.RecordTagRemoved
		case session>>11&3 == 3:
			flags = 0
		}
		if session&0x400 != 0 {
			flags |= bpf.RecordTruncated
		}
		record := carried(header[size:], flags)
		record.Tci, record.Encap = session&0xe000|tag&0x0fff, uint8(encap)
		records, frames = append(records, record), append(frames, header[size:])
	}
}

// What becomes of the frames of real senders.
func TestRealSenders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames int
		tags   [3]int // put back: auto, never, always
		longer int    // frames that were longer on the wire
	}{
		// En 00, VLAN 342, untagged.
		{"tcpdump_erspan-type-ii-1.pcap", 1, [3]int{0, 0, 1}, 0},
		// En 10 throughout, and the tag in 38 of the frames: the third is the
		// first of those, and the end of belief.
		{"tcpdump_erspan-type-ii-3.pcap", 108, [3]int{2, 0, 70}, 0},
		// En 01 with VLAN 23.
		{"zeek_erspanII.pcap", 4, [3]int{0, 0, 4}, 0},
		{"suricata_decode-erspan-typeII-01.pcap", 6, [3]int{0, 0, 6}, 0},
		// III: VLAN in header and frame.
		{"tcpdump_erspan-type-iii-ft-0.pcap", 9, [3]int{0, 0, 0}, 0},
		{"zeek_gre-erspan3-dot1q.pcap", 2, [3]int{0, 0, 0}, 0},
		// The T bit, in half of the frames.
		{"synth/scapy1_truncated-flag.pcap", 48, [3]int{12, 0, 40}, 24},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records, frames := erspan(t, tt.name)
			if len(frames) != tt.frames {
				t.Fatalf("%d frames, want %d", len(frames), tt.frames)
			}
			var tags [3]int
			for way := range tags {
				feed := frame.NewFeed(frame.Config{RestoreVLAN: frame.Restore(way)})
				longer := 0
				for i, data := range frames {
					got := feed.Undo(records[i], data)
					if !bytes.Equal(got.Data, data) {
						t.Errorf("frame %d: %d of %d bytes left", i, len(got.Data), len(data))
					}
					length := len(data)
					if got.Tag {
						tags[way]++
						length += 4
					}
					if int(got.Length) > length {
						longer++
					}
				}
				if longer != tt.longer {
					t.Errorf("%d frames were longer, want %d", longer, tt.longer)
				}
				if got := feed.FCSLength(); got != 0 && tt.longer == 0 {
					t.Errorf("FCSLength %d, want 0", got)
				}
			}
			if tags != tt.tags {
				t.Errorf("tags put back: %v, want %v", tags, tt.tags)
			}
		})
	}
}
