package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	parserPeer    = "AF_PACKET v3 + DecodingLayerParser + pcapgo"
	stackPeer     = "the same, the host's stack left behind it"
	newPacketPeer = "AF_PACKET v3 + NewPacket + pcapgo"
	rawPeer       = "raw GRE socket + pcapgo"
)

// userspaceDecap is what a Go program does without XDP: take outer packets from
// a socket, find the frame inside, write it.
type userspaceDecap struct {
	task    task
	frames  atomic.Uint64
	written atomic.Uint64
	missed  atomic.Uint64
}

func (u *userspaceDecap) tally() (tally, error) {
	return tally{Frames: u.frames.Load(), Written: u.written.Load(), Lost: u.missed.Load()}, nil
}

func (u *userspaceDecap) run(ready func(), stop <-chan struct{}) error {
	runtime.LockOSThread()
	switch u.task.Receiver {
	case rawPeer:
		return u.rawSocket(ready, stop)
	case devicePeer:
		return u.device(ready, stop)
	case newPacketPeer:
		return u.packetSocket(u.task.Ifindex, newPacketDecap, ready, stop)
	}
	return u.packetSocket(u.task.Ifindex, parserDecap(), ready, stop)
}

// device has the kernel decapsulate, and takes the frames from the device that
// openStack has made.
func (u *userspaceDecap) device(ready func(), stop <-chan struct{}) error {
	l, err := netlink.LinkByName(deviceName)
	if err != nil {
		return fmt.Errorf("finding the erspan device: %w", err)
	}
	asItIs := func(frame []byte) []byte { return frame }
	return u.packetSocket(l.Attrs().Index, asItIs, ready, stop)
}

// packetSocket takes packets from a link, and of each what open finds in it.
func (u *userspaceDecap) packetSocket(ifindex int, open func([]byte) []byte, ready func(), stop <-chan struct{}) (err error) {
	ring, err := openPacketRing(ifindex)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ring.close()) }()
	out, err := openCapture(filepath.Join(u.task.Directory, "peer.pcap"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	ready()
	for {
		some, err := ring.block(func(at time.Time, data []byte) error {
			inner := open(data)
			if inner == nil {
				return nil
			}
			return u.deliver(out, at, inner)
		})
		if err != nil {
			return err
		}
		if !some && stopped(stop) {
			lost, err := ring.lost()
			u.missed.Store(lost)
			return err
		}
	}
}

func (u *userspaceDecap) deliver(out *capture, at time.Time, inner []byte) error {
	if err := out.write(at, inner); err != nil {
		return err
	}
	u.frames.Add(1)
	u.written.Add(uint64(len(inner)))
	return nil
}

// rawSocket asks the kernel for one GRE packet after the other.
func (u *userspaceDecap) rawSocket(ready func(), stop <-chan struct{}) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_GRE)
	if err != nil {
		return fmt.Errorf("making a raw socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	out, err := openCapture(filepath.Join(u.task.Directory, "peer.pcap"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ringBlock*ringBlocks); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}); err != nil {
		return err
	}
	ready()
	buf := make([]byte, 65536)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if stopped(stop) {
				return nil
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("receiving: %w", err)
		}
		inner := innerOfIP(buf[:n])
		if inner == nil {
			continue
		}
		if err := u.deliver(out, time.Now(), inner); err != nil {
			return err
		}
	}
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// parserDecap is gopacket as its documentation says it is fast: one parser,
// layers that are used again, no allocation.
func parserDecap() func([]byte) []byte {
	var (
		ethernet layers.Ethernet
		ip       layers.IPv4
		gre      layers.GRE
		erspan   layers.ERSPANII
		found    = make([]gopacket.LayerType, 0, 8)
	)
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &ethernet, &ip, &gre, &erspan)
	parser.IgnoreUnsupported = true
	return func(data []byte) []byte {
		// Behind ERSPAN it goes on with the inner Ethernet and IP headers, as far
		// as it has layers: an error there does not matter.
		_ = parser.DecodeLayers(data, &found)
		for _, t := range found {
			if t == layers.LayerTypeERSPANII {
				return erspan.LayerPayload()
			}
		}
		return nil
	}
}

// newPacketDecap is gopacket as most programs use it.
func newPacketDecap(data []byte) []byte {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	if erspan := packet.Layer(layers.LayerTypeERSPANII); erspan != nil {
		return erspan.LayerPayload()
	}
	return nil
}

// innerOfIP skips IPv4, GRE with a sequence number and ERSPAN II by hand; nil of
// anything else.
func innerOfIP(packet []byte) []byte {
	const gre, erspan = 8, 8
	if len(packet) < 20 {
		return nil
	}
	head := int(packet[0]&0xf) * 4
	if len(packet) < head+gre+erspan || packet[head] != 0x10 || packet[head+2] != 0x88 || packet[head+3] != 0xbe {
		return nil
	}
	return packet[head+gre+erspan:]
}
