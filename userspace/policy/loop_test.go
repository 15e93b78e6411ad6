package policy_test

import (
	"net/netip"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/policy"
)

// mirrored is an ERSPAN II packet to the collector, as a mirror of the mirror sees it.
func mirrored() []byte {
	return []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x08\x00" +
		"\x45\x00\x00\x40\x00\x01\x40\x00\x40\x2f\x00\x00\xc0\x00\x02\x07\xc6\x33\x64\x01" +
		"\x10\x00\x88\xbe\x00\x00\x00\x01\x10\x01\x00\x07\x00\x00\x00\x00")
}

func mirrored6() []byte {
	return []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x86\xdd" +
		"\x60\x00\x00\x00\x00\x04\x2f\x40" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x00\x00\x65\x58")
}

// vxlan is a datagram to the collector's port 4789.
func vxlan() []byte {
	return []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x08\x00" +
		"\x45\x00\x00\x24\x00\x01\x40\x00\x40\x11\x00\x00\xc0\x00\x02\x07\xc6\x33\x64\x01" +
		"\x30\x39\x12\xb5\x00\x10\x00\x00\x08\x00\x00\x00\x00\x00\x05\x00")
}

func TestIsLoop(t *testing.T) {
	config := &bpf.Config{
		Accept:      1<<bpf.EncapERSPAN1 | 1<<bpf.EncapERSPAN2 | 1<<bpf.EncapERSPAN3 | 1<<bpf.EncapGRE | 1<<bpf.EncapVXLAN,
		VxlanPorts:  [4]uint16{4789},
		GenevePorts: [4]uint16{6081},
	}
	config.GreProtocols[0].Protocol, config.GreProtocols[0].Encap = 0x8949, uint8(bpf.EncapERSPAN2)
	collectors := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}
	key := &bpf.FeedKey{Collector: netip.MustParseAddr("198.51.100.9").As16()}
	same := func(frame []byte) []byte { return frame }
	for _, row := range []struct {
		name   string
		frame  func() []byte
		change func([]byte) []byte
		want   bool
	}{
		{"ERSPAN II", mirrored, same, true},
		{"ERSPAN I", mirrored, set(34, 0), true},
		{"ERSPAN III", mirrored, set(36, 0x22, 0xeb), true},
		{"transparent bridging", mirrored, set(36, 0x65, 0x58), true},
		{"the feed's own collector", mirrored, set(33, 9), true},
		{"another protocol by configuration", mirrored, set(36, 0x89, 0x49), true},
		{"with IP options", mirrored, func(f []byte) []byte {
			return append(append(append([]byte{}, set(14, 0x46)(f)[:34]...), 1, 1, 1, 1), f[34:]...)
		}, true},
		{"tagged", mirrored, tagged(5), true},
		{"twice tagged", mirrored, both(tagged(5), tagged(6)), true},
		{"first fragment", mirrored, set(20, 0x20, 0), true},
		{"later fragment", mirrored, set(20, 0, 0x10), true},
		{"over IPv6", mirrored6, same, true},
		{"VXLAN", vxlan, same, true},

		{"to someone else", mirrored, set(33, 2), false},
		{"over IPv6 to someone else", mirrored6, set(53, 2), false},
		{"GRE that carries something else", mirrored, set(36, 0x88, 0xbd), false},
		{"GRE of a tunnel that is not accepted", mirrored, set(36, 0x08, 0x00), false},
		{"GRE version 1", mirrored, set(35, 1), false},
		{"TCP", mirrored, set(23, 6), false},
		{"not IP", mirrored, set(12, 0x88, 0xcc), false},
		{"IPv4 that is none", mirrored, set(14, 0x65), false},
		{"IPv4 with a short header", mirrored, set(14, 0x44), false},
		{"IPv4 with a header that is not all there", mirrored, func(f []byte) []byte { return set(14, 0x4f)(f)[:50] }, false},
		{"cut before GRE ends", mirrored, func(f []byte) []byte { return f[:37] }, false},
		{"cut before IP ends", mirrored, func(f []byte) []byte { return f[:33] }, false},
		{"nothing", mirrored, func(f []byte) []byte { return nil }, false},
		{"three tags", mirrored, both(both(tagged(5), tagged(6)), tagged(7)), false},
		{"VXLAN to another port", vxlan, set(36, 0x12, 0xb6), false},
		{"Geneve, not accepted", vxlan, set(36, 0x17, 0xc1), false},
		{"UDP to port 0", vxlan, set(36, 0, 0), false},
		{"later fragment of UDP", vxlan, set(20, 0, 0x10), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			frame := row.change(row.frame())
			if got := policy.IsLoop(config, collectors, key, false, frame); got != row.want {
				t.Errorf("is a loop: %v, want %v", got, row.want)
			}
			if len(frame) >= 34 && (frame[12] == 8 || frame[12] == 0x86) && frame[13] != 0xcc {
				if got := policy.IsLoop(config, collectors, key, true, frame[14:]); got != row.want {
					t.Errorf("as bare IP: %v, want %v", got, row.want)
				}
			}
		})
	}
}

func FuzzIsLoop(f *testing.F) {
	f.Add(mirrored(), false)
	f.Add(mirrored6(), false)
	f.Add(vxlan()[14:], true)
	config := &bpf.Config{Accept: ^uint32(0), VxlanPorts: [4]uint16{4789}}
	to := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}
	key := &bpf.FeedKey{Collector: to[0].As16()}
	f.Fuzz(func(t *testing.T, frame []byte, rawIP bool) {
		loop := policy.IsLoop(config, to, key, rawIP, frame)
		if loop && len(frame) < 20+4 {
			t.Errorf("% x is a loop, and too short for the headers of one", frame)
		}
		if loop && policy.IsLoop(&bpf.Config{VxlanPorts: config.VxlanPorts}, to, key, rawIP, frame) {
			// Later fragments of GRE do not say what they carry.
			if packet := frame; !rawIP && len(packet) > 20 && packet[12] == 8 && packet[20]&0x1f == 0 && packet[21] == 0 {
				t.Errorf("% x is a loop although nothing is accepted", frame)
			}
		}
	})
}
