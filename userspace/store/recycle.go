package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepare makes an old file that never was one: its pages are there.
func prepare(path string, size, width int64) (old, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return old{}, err
	}
	m, err := openMapped(f, 0, width)
	if err != nil {
		return old{}, errors.Join(err, os.Remove(path))
	}
	size = cell(size)
	if err = f.Truncate(size); err == nil {
		err = m.populate(size)
	}
	if err != nil {
		return old{}, errors.Join(bare(err), m.close(), os.Remove(path))
	}
	m.size = size
	return old{path, m}, nil
}

// retire ends a file as close does, but keeps it at hand for recycle.
func (m *mapped) retire() error { return m.shrink() }

// gone says whether the file has no name any more: then it is kept in memory
// only by being open here.
func (m *mapped) gone() bool {
	var stat unix.Stat_t
	return unix.Fstat(int(m.file.Fd()), &stat) != nil || stat.Nlink == 0
}

// errInUse is in the error of an old file that somebody else wants.
var errInUse = errors.New("file is in use")

// recycle makes a new file out of an old one in memory, whose pages need not be
// made again. The old one is gone when it returns, as if it had been removed,
// and left to others if they have it open or have another name for it.
func recycle(o old, path string, header []byte, width int64) (medium, error) {
	m := o.mapped
	if m == nil {
		f, err := os.OpenFile(o.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		m = &mapped{file: f, width: width}
	}
	if err := m.reuse(o.path, path, header); err != nil {
		return nil, errors.Join(err, m.abandon())
	}
	return m, nil
}

// abandon closes a file that is not to be changed any more.
func (m *mapped) abandon() error {
	m.lost = true
	return m.close()
}

func (m *mapped) reuse(from, to string, header []byte) error {
	info, err := m.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(from)
	if err != nil {
		return err
	}
	first := cell(int64(len(header)))
	size := max(first, cell(info.Size()))
	if !os.SameFile(info, named) || !info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink > 1 {
		return fmt.Errorf("%s: %w", from, errInUse)
	}
	// Under this name nobody looks at it while it is neither old nor new.
	making := hidden(to)
	if err := os.Rename(from, making); err != nil {
		return err
	}
	err = m.reform(header, first, size)
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, making, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return errors.Join(err, os.Remove(making))
	}
	return nil
}

// reform writes a header and, behind it, fillers over what the file held.
func (m *mapped) reform(header []byte, first, size int64) error {
	// A lease is given only on a file that nobody else has open, fcntl(2).
	if _, err := unix.FcntlInt(m.file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return fmt.Errorf("%w: %w", errInUse, err)
	}
	if _, err := unix.FcntlInt(m.file.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
		return err
	}
	if err := m.file.Truncate(size); err != nil {
		return err
	}
	if err := begin(m.file, header); err != nil {
		return err
	}
	m.end, m.size, m.ready = int64(len(header)), size, min(m.ready, size)
	for from, until := m.end, first; until <= size; from, until = until, until+cellSize {
		if from == until {
			continue
		}
		if err := putFiller(m.file, from, until); err != nil {
			return err
		}
	}
	if m.view == nil || m.base > 0 {
		return m.look(0)
	}
	return nil
}
