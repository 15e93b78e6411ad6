package pcapng_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/unspan/unspan/pcapng"
)

func BenchmarkAppendPacket(b *testing.B) {
	for _, size := range []int{64, 512, 1400} {
		for _, with := range []struct {
			name    string
			flags   pcapng.Flags
			dropped uint64
		}{{"plain", 0, 0}, {"options", pcapng.Inbound, 3}} {
			b.Run(fmt.Sprintf("%d/%s", size, with.name), func(b *testing.B) {
				data := make([]byte, size)
				buf := make([]byte, 0, 1<<18)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				time := uint64(0)
				for b.Loop() {
					if len(buf)+size+pcapng.PacketOverhead > cap(buf) {
						buf = buf[:0]
					}
					time++
					buf = pcapng.AppendPacket(buf, 1, time, uint32(size), with.flags, with.dropped, data)
				}
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, size := range []int{64, 1400} {
		ng := pcapng.AppendInterface(pcapng.AppendSection(nil, pcapng.Section{}), pcapng.Interface{})
		options := bytes.Clone(ng)
		pcap := (&file{AppendByteOrder: orders["little"]}).u32(0xa1b2c3d4).u16(2, 4).u32(0, 0, 65535, 1)
		data := make([]byte, size)
		const packets = 10_000
		for i := range packets {
			ng = pcapng.AppendPacket(ng, 0, uint64(i), uint32(size), 0, 0, data)
			options = pcapng.AppendPacket(options, 0, uint64(i), uint32(size), pcapng.Inbound, 1, data)
			pcap.u32(uint32(i), 0, uint32(size), uint32(size)).raw(data...)
		}
		for _, file := range []struct {
			name string
			b    []byte
		}{{"pcapng", ng}, {"options", options}, {"pcap", pcap.b}} {
			b.Run(fmt.Sprintf("%d/%s", size, file.name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				var p pcapng.Packet
				r, err := pcapng.NewReader(&again{b: file.b})
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err = r.Next(&p); err == io.EOF {
						if r, err = pcapng.NewReader(&again{b: file.b}); err == nil {
							err = r.Next(&p)
						}
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// again reads b, many times over where its head allows: pcapng sections may
// follow each other, a pcap has one head.
type again struct {
	b    []byte
	at   int
	over int
}

func (a *again) Read(p []byte) (int, error) {
	if a.at == len(a.b) {
		if a.b[0] != 0x0a || a.over == 100 {
			return 0, io.EOF
		}
		a.at, a.over = 0, a.over+1
	}
	n := copy(p, a.b[a.at:])
	a.at += n
	return n, nil
}
