package flow

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is memory taken from the kernel once and given back once. It lies
// outside the Go heap: a table of a million flows would otherwise let the
// collector keep as much garbage again before it runs.
type mapping []byte

// mapSlice maps zeroed memory for n values of T, which must hold no pointers.
// The pages are there when it returns, so no packet pays for a page fault, and
// they are huge where the kernel has huge pages: with 4 KiB pages each random
// access would miss the TLB as well as the cache.
func mapSlice[T any](n int) ([]T, mapping, error) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %d MiB for flows: %w: give the flow table fewer flows", size>>20, err)
	}
	// Advice only: a kernel built without huge pages says EINVAL and small ones serve.
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
	if err := unix.Madvise(memory, unix.MADV_POPULATE_WRITE); err != nil {
		_ = unix.Munmap(memory)
		return nil, nil, fmt.Errorf("filling %d MiB for flows: %w: give the flow table fewer flows", size>>20, err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n), memory, nil
}

func (m mapping) unmap() error {
	if err := unix.Munmap(m); err != nil {
		return fmt.Errorf("unmapping flows: %w", err)
	}
	return nil
}
