package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/pcapng"
)

// direct is a file on a disk, written past the page cache: the kernel neither
// copies the packets nor has to find out later what to write back, and a write
// that is under way is finished even when the process is killed.
//
// Such writes are of whole pages, so blocks are filled up to a page with a
// filler block. Behind a full chunk it stays. Otherwise the next write begins
// with the page again, and puts blocks in its place.
type direct struct {
	file *os.File
	end  int64  // behind the last block
	page []byte // of the file, as far as end
	room []byte // for a page and what is appended to it
}

// openDirect takes a file that was begun through the page cache. It fails where
// the file system has no direct writes, or wants them aligned to more than a
// page.
func openDirect(f *os.File, header []byte) (*direct, error) {
	var stat unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stat)
	if err == nil && stat.Mask&unix.STATX_DIOALIGN != 0 && (stat.Dio_offset_align == 0 || stat.Dio_offset_align > pageSize || stat.Dio_mem_align > pageSize) {
		return nil, unix.EOPNOTSUPP
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return nil, err
	}
	d := &direct{file: f, end: int64(len(header)), page: aligned(pageSize)}
	d.page = append(d.page, header[len(header)&^(pageSize-1):]...)
	return d, nil
}

func (f *direct) append(blocks []byte, full bool) (int, error) {
	at := f.end - int64(len(f.page))
	n := len(f.page) + len(blocks)
	if !full || len(f.page) > 0 || cap(blocks) < paged(n) {
		if cap(f.room) < paged(n) {
			f.room = aligned(paged(n))
		}
		blocks = append(append(f.room[:0], f.page...), blocks...)
	}
	blocks = fill(blocks)
	if _, err := f.file.WriteAt(blocks, at); err != nil {
		return 0, undo(f.file, f.end, err)
	}
	if full {
		n = len(blocks)
	}
	grown := at + int64(n) - f.end
	f.end += grown
	f.page = append(f.page[:0], blocks[n&^(pageSize-1):n]...)
	return int(grown), nil
}

// paged is n bytes and a filler up to the end of a page.
func paged(n int) int {
	if n%pageSize == 0 {
		return n
	}
	return (n + pcapng.MinFiller + pageSize - 1) &^ (pageSize - 1)
}

// fill puts a filler behind blocks, up to the end of a page.
func fill(blocks []byte) []byte {
	n := len(blocks)
	blocks = blocks[:paged(n)]
	if rest := len(blocks) - n; rest > 0 {
		clear(blocks[n:])
		pcapng.PutFillerHead(blocks[n:], rest)
		pcapng.PutFillerTail(blocks[len(blocks)-pcapng.FillerTail:], rest)
	}
	return blocks
}

// close cuts the last filler off, unless it fills the file's last page.
func (f *direct) close() error {
	return errors.Join(f.file.Truncate(f.end), f.file.Close())
}
