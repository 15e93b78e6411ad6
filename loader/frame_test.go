package loader_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/loader"
)

var (
	exporter  = netip.MustParseAddr("192.0.2.1")
	collector = netip.MustParseAddr("192.0.2.2")
)

// erspan2 is a packet of an ERSPAN II session, with a frame of 60 bytes inside.
func erspan2(session uint16, number uint32) []byte {
	const inner = 60
	b := []byte{0, 0, 0x5e, 0, 0x53, 2, 0, 0, 0x5e, 0, 0x53, 1, 0x08, 0x00}
	b = append(b, 0x45, 0, 0, 20+8+8+inner, 0, 0, 0x40, 0, 64, 47, 0, 0)
	b = append(append(b, exporter.AsSlice()...), collector.AsSlice()...)
	b = append(b, 0x10, 0, 0x88, 0xbe) // S
	b = binary.BigEndian.AppendUint32(b, number)
	b = append(b, 0x10, 0) // version 1, VLAN 0
	b = binary.BigEndian.AppendUint16(b, session)
	b = append(b, 0, 0, 0, 0)
	return append(b, make([]byte, inner)...)
}

// keyOf is the identity of the feed that erspan2 makes packets of.
func keyOf(session uint16) bpf.FeedKey {
	return bpf.FeedKey{Exporter: exporter.As16(), Collector: collector.As16(), Session: session, Encap: uint8(bpf.EncapERSPAN2)}
}

// mustLoad loads a program whose worker has a socket. The socket is bound to
// nothing: what is redirected to it is counted, and then lost.
func mustLoad(t *testing.T, change func(*loader.Config)) *loader.Datapath {
	t.Helper()
	config := loader.Default()
	config.Collectors = []netip.Addr{collector}
	if change != nil {
		change(&config)
	}
	d, err := loader.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	for worker := range config.Settings.Workers {
		if err := d.Register(0, int(worker), socket); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// deliver runs the program on a packet and returns the record that it wrote. It
// fails the test when the packet is not redirected.
func deliver(t *testing.T, d *loader.Datapath, packet []byte) bpf.Record {
	t.Helper()
	const redirect = 4 // XDP_REDIRECT, linux/bpf.h
	action, out, err := d.Program().Test(packet)
	if err != nil {
		t.Fatal(err)
	}
	if action != redirect {
		t.Fatalf("the program returned %d, want %d: redirect", action, redirect)
	}
	record, _, ok := bpf.Split(out)
	if !ok {
		t.Fatalf("what is redirected is no record and frame: % x", out)
	}
	return *record
}
