package xsk

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All of the package's unsafe is in this file: the shared words of a ring, the
// address of the UMEM, and socket options that are structures.

// mapRing maps the ring at offset page of the socket and lays a ring over it.
// The kernel says in at where its words are. The caller unmaps the memory.
func mapRing[D any](fd int, page int64, at unix.XDPRingOffset, entries int) (ring[D], []byte, error) {
	var entry D
	length := int(at.Desc) + entries*int(unsafe.Sizeof(entry))
	memory, err := unix.Mmap(fd, page, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[D]{}, nil, err
	}
	word := func(offset uint64) *atomic.Uint32 {
		return (*atomic.Uint32)(unsafe.Pointer(&memory[offset]))
	}
	return ring[D]{
		producer: word(at.Producer),
		consumer: word(at.Consumer),
		flags:    word(at.Flags),
		entries:  unsafe.Slice((*D)(unsafe.Pointer(&memory[at.Desc])), entries),
	}, memory, nil
}

// address returns where memory begins, for the kernel.
func address(memory []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
}

// setOption sets an option of level SOL_XDP that is a structure.
func setOption[T any](fd, option int, value *T) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), unsafe.Sizeof(*value), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// getOption reads an option of level SOL_XDP that is a structure. A kernel that
// knows a shorter one leaves the rest of value alone.
func getOption[T any](fd, option int, value *T) error {
	length := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
