package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/pcapng"
)

const (
	// cellSize is by how much a file in memory grows. A cell and the largest
	// chunk together stay below pcapng.MaxBlock.
	cellSize = 4 << 20

	// stepSize is how many bytes of pages are made at a time. A worker that
	// writes itself waits for it.
	stepSize = 1 << 20

	// viewSize is how much is mapped at a time of a file that may grow without
	// end.
	viewSize = 1 << 30
)

// errChanged is in the error of a file that somebody else cut.
var errChanged = errors.New("another process cut the file")

// mapped is a file in memory, written by copying into it: without a system
// call, and into pages that are there already where an old file is used again.
// Behind the blocks are fillers, one up to the end of the cell and one for
// every cell after it:
//
//	| blocks | filler .... | filler ............ |
//	| blocks | filler .......................... |      bracket: one filler
//	| blocks | filler [blocks][filler].......... |      hide
//	| blocks | blocks ..... | filler ........... |      show
//
// Bracket and show are two stores each: the lengths at the head and at the tail
// of a filler. Only a kill between the two leaves a file that ends in a broken
// filler.
type mapped struct {
	file  *os.File
	width int64  // of the view
	view  []byte // of the file, from base
	base  int64
	end   int64 // behind the last block
	size  int64 // of the file: the end of a cell, or end
	ready int64 // before it there are pages to write to
	lost  bool  // the file is no longer what it was
}

// openMapped takes a file that consists of a header of n bytes, and looks at
// width bytes of it at a time.
func openMapped(f *os.File, n int, width int64) (*mapped, error) {
	m := &mapped{file: f, width: width, end: int64(n), size: int64(n)}
	if err := m.look(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// look maps the part of the file that offset at is in.
func (m *mapped) look(at int64) error {
	if m.view != nil {
		if err := unix.Munmap(m.view); err != nil {
			return err
		}
		m.view = nil
	}
	base := at &^ (pageSize - 1)
	view, err := unix.Mmap(int(m.file.Fd()), base, int(m.width), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping: %w", err)
	}
	m.view, m.base, m.ready = view, base, base
	return nil
}

func (m *mapped) append(blocks []byte, _ bool) (n int, err error) {
	after := m.end + int64(len(blocks))
	until := cell(after)
	if err := m.reserve(after, until); err != nil {
		return 0, err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault := recover()
		if _, ok := fault.(interface{ Addr() uintptr }); ok {
			m.lost = true // SIGBUS: there is no such page any more, mmap(2)
			err = errChanged
		} else if fault != nil {
			panic(fault)
		}
	}()
	at := m.view[m.end-m.base : until-m.base]
	pcapng.PutFillerTail(at[len(at)-pcapng.FillerTail:], len(at))
	pcapng.PutFillerHead(at, len(at))
	copy(at[pcapng.FillerHead:], blocks[pcapng.FillerHead:])
	tail := binary.LittleEndian.Uint32(blocks[len(blocks)-pcapng.FillerTail:])
	if rest := len(at) - len(blocks); rest > 0 {
		pcapng.PutFillerHead(at[len(blocks):], rest)
		tail = uint32(rest)
	}
	show(at, blocks, tail)
	m.end = after
	return len(blocks), nil
}

// show replaces the head of a filler by that of blocks, and its tail. As it is
// not inlined, these stores are the last ones.
//
//go:noinline
func show(at, blocks []byte, tail uint32) {
	head := binary.LittleEndian.Uint64(blocks)
	binary.LittleEndian.PutUint64(at, head)
	binary.LittleEndian.PutUint32(at[len(at)-pcapng.FillerTail:], tail)
}

// cell is the end of the cell that offset at is in, such that nothing or a
// filler fits between.
func cell(at int64) int64 {
	end := (at + cellSize - 1) / cellSize * cellSize
	if end > at && end-at < pcapng.MinFiller {
		end += cellSize
	}
	return end
}

// reserve sees to it that the file has a filler up to until, and pages up to
// after and where that filler ends.
func (m *mapped) reserve(after, until int64) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(m.file.Fd()), &stat); err != nil {
		return err
	}
	if stat.Size != m.size {
		m.lost = true
		return errChanged
	}
	if until > m.base+m.width {
		if until-m.end > m.width-pageSize {
			return fmt.Errorf("%d bytes at once: %w", after-m.end, unix.EFBIG)
		}
		if err := m.look(m.end); err != nil {
			return err
		}
	}
	if until > m.size {
		if err := m.grow(until); err != nil {
			return err
		}
	}
	if after <= m.ready {
		return nil
	}
	return m.populate(min((after+stepSize-1)&^(stepSize-1), until))
}

// grow adds a filler to the file, up to until.
func (m *mapped) grow(until int64) error {
	if err := putFiller(m.file, m.size, until); err != nil {
		return errors.Join(bare(err), m.shrink())
	}
	m.size = until
	return nil
}

// putFiller writes the ends of a filler: its tail first, which makes the page
// that it is in.
func putFiller(f *os.File, from, until int64) error {
	var head [pcapng.FillerHead]byte
	var tail [pcapng.FillerTail]byte
	pcapng.PutFillerHead(head[:], int(until-from))
	pcapng.PutFillerTail(tail[:], int(until-from))
	if _, err := f.WriteAt(tail[:], until-pcapng.FillerTail); err != nil {
		return err
	}
	_, err := f.WriteAt(head[:], from)
	return err
}

// populate makes the pages up to until, which costs less at once than one by
// one, and fails where a store would end the process: when there is no memory.
func (m *mapped) populate(until int64) error {
	from := m.ready &^ (pageSize - 1)
	err := unix.Madvise(m.view[from-m.base:until-m.base], unix.MADV_POPULATE_WRITE)
	if err == nil {
		m.ready = until
		return nil
	}
	if errors.Is(err, unix.EFAULT) { // instead of SIGBUS, madvise(2)
		err = unix.ENOSPC
	}
	return errors.Join(err, m.shrink())
}

// shrink gives back what is behind the blocks.
func (m *mapped) shrink() error {
	m.size, m.ready = m.end, min(m.ready, m.end)
	return m.file.Truncate(m.end)
}

func (m *mapped) close() error {
	var err error
	if m.view != nil {
		err = unix.Munmap(m.view)
	}
	if !m.lost {
		err = errors.Join(err, m.shrink())
	}
	return errors.Join(err, m.file.Close())
}
