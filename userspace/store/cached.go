package store

import (
	"os"

	"github.com/unspan/unspan/pcapng"
)

// cached is a file behind the page cache.
//
// A large write is copied page by page, and a process that is killed leaves it
// half done: generic_perform_write gives up on a fatal signal. So blocks are
// written where nobody looks, in a filler block, and then shown by two small
// writes over the two lengths of the filler:
//
//	file | ........................ |
//	file | filler ................. |   reserve: its head, its tail
//	file | filler [blocks........]  |   hide: all but the first 8 and last 4 bytes
//	file | blocks ................. |   show: those
//
// A kill between two small writes can cost the filler or the last packet of
// the chunk, a thousandth of the time that the write takes. Disks are written
// directly, as a whole.
type cached struct {
	file *os.File
	end  int64
}

func (f *cached) append(blocks []byte, _ bool) (int, error) {
	if err := f.write(blocks); err != nil {
		return 0, undo(f.file, f.end, err)
	}
	f.end += int64(len(blocks))
	return len(blocks), nil
}

func (f *cached) write(blocks []byte) error {
	n := len(blocks)
	end := f.end + int64(n)
	if f.end/pageSize == (end-1)/pageSize {
		// A page is copied as a whole.
		return f.put(blocks, f.end)
	}
	var head [pcapng.FillerHead]byte
	var tail [pcapng.FillerTail]byte
	pcapng.PutFillerHead(head[:], n)
	pcapng.PutFillerTail(tail[:], n)
	const first, last = pcapng.FillerHead, pcapng.FillerTail
	for _, step := range [...]struct {
		b  []byte
		at int64
	}{
		{head[:], f.end},
		{tail[:], end - last},
		{blocks[first : n-last], f.end + first},
		{blocks[:first], f.end},
		{blocks[n-last:], end - last},
	} {
		if err := f.put(step.b, step.at); err != nil {
			return err
		}
	}
	return nil
}

func (f *cached) put(b []byte, at int64) error {
	_, err := f.file.WriteAt(b, at)
	return err
}

func (f *cached) close() error { return f.file.Close() }
