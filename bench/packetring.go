package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetRing is an AF_PACKET socket with a TPACKET_V3 ring: the fastest way off
// an interface that needs no XDP. The kernel fills blocks with packets, user
// space takes them block by block (packet_mmap in the kernel's documentation).
type packetRing struct {
	fd     int
	memory []byte
	next   int // block
}

// As much memory as the whole way has by default. More would not be fairer: a ring
// that swallows a whole measurement loses nothing and proves nothing.
const (
	ringBlock  = 512 << 10
	ringBlocks = 64
)

func openPacketRing(ifindex int) (_ *packetRing, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a packet socket: %w", err)
	}
	r := &packetRing{fd: fd}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("setting up a packet ring: %w", err), r.close())
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, err
	}
	// Else the host's ICMP answers to a protocol it does not know come up too.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq3{
		Block_size: ringBlock, Block_nr: ringBlocks,
		Frame_size: 2048, Frame_nr: ringBlock / 2048 * ringBlocks,
		Retire_blk_tov: 10, // ms until a block that is not full is handed over
	}); err != nil {
		return nil, err
	}
	if r.memory, err = unix.Mmap(fd, 0, ringBlock*ringBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network order
	return r, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex})
}

func (r *packetRing) close() error {
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
		r.memory = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}

// lost is how many packets found no room since it was last asked.
func (r *packetRing) lost() (uint64, error) {
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return uint64(s.Drops), nil
}

// block hands every packet of the next block to take, waiting for one at most
// for a moment. It is false when none came.
func (r *packetRing) block(take func(at time.Time, data []byte) error) (bool, error) {
	block := r.memory[r.next*ringBlock : (r.next+1)*ringBlock]
	head := (*unix.TpacketHdrV1)(unsafe.Pointer(&block[8])) // struct tpacket_block_desc
	for waited := false; atomic.LoadUint32(&head.Block_status)&unix.TP_STATUS_USER == 0; waited = true {
		if waited {
			return false, nil
		}
		poll := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 20); err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
	at := head.Offset_to_first_pkt
	for range head.Num_pkts {
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[at]))
		data := at + uint32(p.Mac)
		if err := take(time.Unix(int64(p.Sec), int64(p.Nsec)), block[data:data+p.Snaplen]); err != nil {
			return false, err
		}
		at += p.Next_offset
	}
	atomic.StoreUint32(&head.Block_status, unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % ringBlocks
	return true, nil
}
