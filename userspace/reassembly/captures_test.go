package reassembly_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"

	. "github.com/unspan/unspan/userspace/reassembly"
)

// capture returns the frames of a public capture, with their times.
func capture(t *testing.T, name string) []Fragment {
	t.Helper()
	data := captureFile(t, name)
	reader, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("opening capture %s: %v", name, err)
	}
	var frames []Fragment
	for {
		frame, info, err := reader.ReadPacketData()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatalf("reading capture %s: %v", name, err)
		}
		frames = append(frames, Fragment{Data: frame, Time: uint64(info.Timestamp.UnixNano())})
	}
}

func captureFile(t *testing.T, name string) []byte {
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
	return data
}

// network is the IP packet in a frame with at most one VLAN tag, nil if there is none.
func network(frame []byte) []byte {
	at := 14
	if binary.BigEndian.Uint16(frame[12:]) == 0x8100 {
		at = 18
	}
	switch binary.BigEndian.Uint16(frame[at-2:]) {
	case ipv4, ipv6:
		return frame[at:]
	}
	return nil
}

// isFragment reports whether a frame is an IP fragment.
func isFragment(frame []byte) bool {
	ip := network(frame)
	switch {
	case ip == nil:
		return false
	case ip[0]>>4 == 4:
		return binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	}
	return ip[6] == 44
}

// inner strips Ethernet, IP and GRE, and the ERSPAN II header where there is one.
func inner(frame []byte) []byte {
	at := 14 + 40
	if binary.BigEndian.Uint16(frame[12:]) == ipv4 {
		total := int(binary.BigEndian.Uint16(frame[16:]))
		frame = frame[:14+total]
		at = 14 + int(frame[14]&15)*4
	}
	flags, protocol := binary.BigEndian.Uint16(frame[at:]), binary.BigEndian.Uint16(frame[at+2:])
	at += 4
	for _, word := range []uint16{0x8000, 0x2000, 0x1000} {
		if flags&word != 0 {
			at += 4
		}
	}
	if protocol == 0x88be && flags&0x1000 != 0 {
		at += 8
	}
	return frame[at:]
}

// Frames out of tunnels whose outer packets were fragmented: number of the frame that
// completes it, length and hash are those of an independent decapsulator and of tshark.
func TestTunnelCaptures(t *testing.T) {
	for _, tt := range []struct {
		name      string
		fragments uint64
		datagrams uint64
		held      uint64
		boxes     map[Reason]uint64
		frames    int
	}{
		{"zeek_erspan-teb.pcap", 55, 16, 0, nil, 248},
		{"synth/scapy1_erspan2-outer-ip4-fragments.pcap", 54, 17, 6, map[Reason]uint64{Duplicate: 3}, 22},
		{"synth/scapy1_erspan2-outer-ip6-fragments.pcap", 24, 12, 0, nil, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var expected struct {
				Expected struct {
					Frames [][]any `json:"frames"`
				} `json:"expected"`
			}
			if err := json.Unmarshal(captureFile(t, tt.name+".expected.json"), &expected); err != nil {
				t.Fatal(err)
			}
			want := expected.Expected.Frames
			if len(want) != tt.frames {
				t.Fatalf("%d frames expected, want %d", len(want), tt.frames)
			}

			r := mustNew(t, Default())
			n := 0
			for i, f := range capture(t, tt.name) {
				frame := f.Data
				if isFragment(frame) {
					d, ok := r.Add(f)
					checkLedger(t, r)
					if !ok {
						continue
					}
					frame = d.Frame
				}
				got := inner(frame)
				sum := sha256.Sum256(got)
				hash := hex.EncodeToString(sum[:8])
				if n == len(want) {
					t.Fatalf("frame %d: one too many", i+1)
				}
				w := want[n]
				if float64(i+1) != w[0] || float64(len(got)) != w[4] || hash != w[5] {
					t.Errorf("frame %d: %d bytes, %s; want %v", i+1, len(got), hash, w)
				}
				n++
			}
			if n != len(want) {
				t.Errorf("%d frames, want %d", n, len(want))
			}
			s := checkLedger(t, r)
			if s.Fragments != tt.fragments || s.Datagrams != tt.datagrams || s.Held != tt.held || !sameBoxes(givenUp(s), tt.boxes) {
				t.Errorf("ledger %+v, want %d fragments, %d datagrams, %d held, given up %v", s,
					tt.fragments, tt.datagrams, tt.held, tt.boxes)
			}
		})
	}
}

// Fragments that are no tunnel's: what comes out has a right UDP checksum.
func TestPlainCaptures(t *testing.T) {
	for _, tt := range []struct {
		name      string
		fragments uint64
		datagrams uint64
		held      uint64
		boxes     map[Reason]uint64
	}{
		{"pcapplusplus_ip4_fragments.pcap", 50, 6, 2, map[Reason]uint64{Duplicate: 12}},
		{"pcapplusplus_ip6_fragments.pcap", 36, 4, 0, nil},
		{"pcapplusplus_frag_with_padding.pcap", 8, 1, 0, nil},
		// The last fragment makes it 65,543 bytes: refused. The rest waits.
		{"suricata_ipv6-malformed-fragments-15.pcap", 54, 0, 53, map[Reason]uint64{TooBig: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Default())
			for i, f := range capture(t, tt.name) {
				if !isFragment(f.Data) {
					continue
				}
				d, ok := r.Add(f)
				checkLedger(t, r)
				if ok && !checkUDP(d.Frame) {
					t.Errorf("frame %d completes a datagram with a wrong checksum", i+1)
				}
			}
			s := r.Stats()
			if s.Fragments != tt.fragments || s.Datagrams != tt.datagrams || s.Held != tt.held || !sameBoxes(givenUp(s), tt.boxes) {
				t.Errorf("ledger %+v, want %d fragments, %d datagrams, %d held, given up %v", s,
					tt.fragments, tt.datagrams, tt.held, tt.boxes)
			}
		})
	}
}

// checkUDP verifies the UDP checksum of a frame without IP options, RFC 768 and RFC
// 8200 8.1; and that of the IPv4 header.
func checkUDP(frame []byte) bool {
	ip := network(frame)
	var addresses, udp []byte
	if ip[0]>>4 == 4 {
		if sum(0, ip[:20]) != 0xffff || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			return false
		}
		addresses, udp = ip[12:20], ip[20:]
	} else {
		if int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-40 || ip[6] != 17 {
			return false
		}
		addresses, udp = ip[8:40], ip[40:]
	}
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length > len(udp) {
		return false
	}
	udp = udp[:length]
	none := ip[0]>>4 == 4 && udp[6] == 0 && udp[7] == 0
	return none || sum(sum(17+uint32(len(udp)), addresses), udp) == 0xffff
}

func sum(s uint32, b []byte) uint32 {
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s
}
