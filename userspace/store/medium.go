package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// medium is what holds a capture file. Its first bytes are the file header.
type medium interface {
	// append adds whole blocks, or nothing: after an error the file is what it
	// was. Full says that blocks fill their chunk, and that the memory behind
	// them, at least spare bytes, may be used. It returns by how many bytes
	// the file has grown, a filler included.
	append(blocks []byte, full bool) (int, error)

	// close leaves a file of the blocks that were appended.
	close() error
}

// errBroken is in the error of a medium that cannot take anything any more.
var errBroken = errors.New("output is broken for good")

// stream is a pipe, a terminal or a device: there is no going back.
type stream struct{ *os.File }

func (s stream) append(blocks []byte, _ bool) (int, error) {
	n, err := s.Write(blocks)
	if err != nil {
		// Half a block may have gone out, and nothing can follow it.
		return n, fmt.Errorf("%w: %w", errBroken, bare(err))
	}
	return n, nil
}

func (s stream) close() error { return s.Close() }

func openStream(path string, header []byte) (medium, error) {
	f, err := openPipe(path)
	if err != nil {
		return nil, err
	}
	s := stream{f}
	if _, err := s.append(header, false); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func openPipe(path string) (*os.File, error) {
	if path != "-" {
		return os.OpenFile(path, os.O_WRONLY, 0)
	}
	if _, err := unix.IoctlGetTermios(1, unix.TCGETS); err == nil {
		return nil, errors.New("it is a terminal: pipe it into tshark -r - or the like")
	}
	// A copy, because the runtime ends the process on EPIPE of descriptor 1.
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "standard output"), nil
}

const (
	fileMode = 0o640 // what the network said is not for everyone
	dirMode  = 0o750
)

// create makes a new file that shows up under its name with the header in it:
// nobody ever sees a capture without one. It fails with fs.ErrExist rather than
// touch a file that is there.
func create(path string, header []byte) (*os.File, error) {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, fileMode)
	switch {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, fs.ErrNotExist):
		// The file system has no nameless files (open(2), O_TMPFILE).
		return createNamed(path, header)
	default:
		return nil, err
	}
	if err := begin(f, header); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	from := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	err = unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, fs.ErrExist) {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return createNamed(path, header) // no /proc
}

func createNamed(path string, header []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := begin(f, header); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// overwrite empties the file at path and begins it anew.
func overwrite(path string, header []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_TRUNC|os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := begin(f, header); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func begin(f *os.File, header []byte) error {
	_, err := f.WriteAt(header, 0)
	return err
}

// undo cuts a file where its last good block ends, after a write that failed.
func undo(f *os.File, end int64, err error) error {
	return errors.Join(bare(err), f.Truncate(end))
}

// cure adds what to do about an error that users meet.
func cure(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "free space, or limit it with rotation and keep"
	case errors.Is(err, syscall.EDQUOT):
		return "the quota is used up: free space or raise it"
	case errors.Is(err, syscall.EFBIG):
		return "the file may not grow further: rotate by size, or raise ulimit -f"
	case errors.Is(err, fs.ErrPermission):
		return "run as a user who may write there, or write elsewhere"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: write elsewhere, or mount it read-write"
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory first"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of the path is a file"
	case errors.Is(err, syscall.EPIPE):
		return "the reader of the pipe has gone"
	}
	return ""
}

// explain names file, cause and, where there is one, cure.
func explain(what, path string, err error) error {
	if path == "-" {
		path = "standard output"
	}
	text := cure(err)
	if text != "" {
		text = ": " + text
	}
	return fmt.Errorf("%s %s: %w%s", what, path, bare(err), text)
}

// bare takes operation and path off an error: they are told already.
func bare(err error) error {
	if path, ok := err.(*os.PathError); ok {
		return path.Err
	}
	return err
}
