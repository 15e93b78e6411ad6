package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// umem is the packet memory: frames of equal size, one after the other. A frame
// is named by the offset of its first byte. The kernel leaves
// XDP_PACKET_HEADROOM (256) bytes at its start free and writes the packet
// behind them, so descriptors point into the frame.
type umem struct {
	memory    []byte
	frameSize int
	hugePages bool
}

const hugePage = 2 << 20

// mapUMEM maps memory for the frames: 2 MiB pages when asked for and reserved
// by the administrator (vm.nr_hugepages), else plain pages.
func mapUMEM(frames, frameSize int, huge bool) (umem, error) {
	u := umem{frameSize: frameSize}
	length := frames * frameSize
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if huge {
		rounded := (length + hugePage - 1) &^ (hugePage - 1)
		memory, err := unix.Mmap(-1, 0, rounded, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_HUGETLB|unix.MAP_HUGE_2MB)
		if err == nil {
			u.memory, u.hugePages = memory, true
			return u, nil
		}
		// mmap(2): ENOMEM when the pool has too few pages, EINVAL when the
		// kernel has no such page size. Both mean: plain pages.
	}
	memory, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return umem{}, fmt.Errorf("mapping %d frames of %d bytes: %w%s", frames, frameSize, err,
			cure(err, unix.ENOMEM, "not enough memory: use fewer frames"))
	}
	if huge {
		// Without a pool the kernel may still find some (transparent huge
		// pages). Nothing depends on it, and nothing tells.
		_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
	}
	u.memory = memory
	return u, nil
}

// register makes the memory the UMEM of the socket. The kernel pins its pages.
func (u *umem) register(fd int) error {
	err := setOption(fd, unix.XDP_UMEM_REG, &unix.XDPUmemReg{
		Addr: address(u.memory),
		Len:  uint64(len(u.memory)),
		Size: uint32(u.frameSize),
	})
	if err == nil {
		return nil
	}
	hint := ""
	switch {
	case errors.Is(err, unix.ENOBUFS): // xdp_umem_account_pages in net/xdp/xdp_umem.c
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
		hint = fmt.Sprintf(": the limit on locked memory is %d bytes: raise it (ulimit -l unlimited, LimitMEMLOCK=infinity), grant CAP_IPC_LOCK, or use fewer frames", limit.Cur)
	case errors.Is(err, unix.ENOMEM):
		hint = ": the kernel cannot pin that much memory: use fewer frames"
	}
	return fmt.Errorf("registering %d bytes of packet memory: %w%s", len(u.memory), err, hint)
}

// cure returns hint, as the tail of a message, if err is errno.
func cure(err error, errno unix.Errno, hint string) string {
	if errors.Is(err, errno) {
		return ": " + hint
	}
	return ""
}
