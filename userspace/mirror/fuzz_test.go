package mirror_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/mirror"
)

// Whatever frame comes in and however the session is set: no panic, lengths and
// checksums that fit, and fragments that hold every byte once.
func FuzzWrap(f *testing.F) {
	inner := innerFrame(f, 60)
	f.Add(inner, uint8(bpf.EncapERSPAN2), uint16(0), uint16(0), uint32(1))
	f.Add(taggedFrame(f, 0xa064, 1500), uint8(bpf.EncapERSPAN3), uint16(0xffff), uint16(576), uint32(0x3fffffff))
	f.Add(ipFrame(f), uint8(bpf.EncapGREIP), uint16(0x0101), uint16(0), uint32(0))
	f.Add(ipFrame(f), uint8(bpf.EncapVXLAN), uint16(0x0008), uint16(1280), uint32(9))
	f.Add(inner[:14], uint8(bpf.EncapGeneve), uint16(0x0010), uint16(600), uint32(9))
	f.Add(inner[:13], uint8(bpf.EncapRSPAN), uint16(0), uint16(0), uint32(0))
	f.Add(append(inner[:12:12], 0x88, 0xa8, 0, 1, 0x81, 0), uint8(bpf.EncapGREIP), uint16(0), uint16(0), uint32(0))
	f.Fuzz(func(t *testing.T, inner []byte, encap uint8, options, mtu uint16, number uint32) {
		has := func(bit int) bool { return options>>bit&1 == 1 }
		s := session(bpf.Encap(encap), func(s *mirror.Session) {
			s.Checksum, s.Keyed, s.Sequenced, s.FCS = has(0), has(1), has(2), has(4)
			if has(3) {
				s.Source, s.Destination = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
			}
			s.Tags = mirror.Tags(options >> 5 & 3)
			s.Oversize = mirror.Oversize(options >> 7 & 3)
			if has(9) {
				s.SnapLength = int(mtu) / 2
			}
			if has(10) {
				s.FrameType = 2
			}
			s.Platform = uint8(options >> 11 & 7)
			s.MTU = int(mtu)
		})
		w, err := mirror.NewWrapper(s)
		if err != nil {
			return
		}
		stamp := mirror.Stamp{Number: number, Time: uint64(number) << 30}
		packet, err := w.Wrap(nil, inner, stamp)
		if err != nil {
			if len(packet) != 0 {
				t.Fatalf("%d bytes and %v", len(packet), err)
			}
			return
		}
		if len(packet) < 60 {
			t.Fatalf("a frame of %d bytes", len(packet))
		}
		if s.Encap == bpf.EncapRSPAN || s.Encap == bpf.EncapNative {
			return
		}
		payload := checkIP(t, packet, !w.Oversized(packet))
		var together []byte
		for i, more := 0, true; more; i++ {
			var fragment []byte
			fragment, more = w.AppendFragment(nil, packet, stamp, i)
			if s.MTU > 0 && len(fragment) > max(14+s.MTU, 60) {
				t.Fatalf("fragment %d has %d bytes at an MTU of %d", i, len(fragment), s.MTU)
			}
			part := checkIP(t, fragment, true)
			if w.Oversized(packet) && s.Source.Is6() {
				part = part[8:]
			}
			together = append(together, part...)
		}
		if !slices.Equal(together, payload) {
			t.Fatalf("fragments make\n%x, want\n%x", together, payload)
		}
	})
}

// checkIP checks the outer IP header and returns what it carries.
func checkIP(t *testing.T, frame []byte, complete bool) []byte {
	t.Helper()
	ip := frame[14:]
	if ip[0]>>4 == 6 {
		length := int(binary.BigEndian.Uint16(ip[4:]))
		if 40+length > len(ip) || complete && len(frame) > 60 && 40+length != len(ip) {
			t.Fatalf("IPv6 length %d in %d bytes", length, len(ip))
		}
		return ip[40 : 40+length]
	}
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if total > len(ip) || total < header || len(frame) > 60 && total != len(ip) {
		t.Fatalf("IPv4 length %d in %d bytes", total, len(ip))
	}
	if sum := onesComplement(ip[:header]); sum != 0xffff {
		t.Fatalf("IPv4 header checksum is wrong: the sum is %#x", sum)
	}
	return ip[header:total]
}
