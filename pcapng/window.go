package pcapng

import "io"

const (
	// windowSize is what is asked of the input at a time: enough to make the
	// cost of a read small, and little enough to stay in a core's cache.
	windowSize = 256 << 10

	// maxEmptyReads bounds an input that gives neither bytes nor an error.
	maxEmptyReads = 100
)

// window is the part of the input that is in memory. Blocks are used where
// they lie: a slice into it is good until the next fill.
type window struct {
	input  io.Reader
	buf    []byte // unread bytes
	memory []byte // what buf lies in
	passed int64  // offset of buf in the input
	err    error  // why the input has no more
}

// fill reads until n bytes are unread, which must be at most MaxBlock, or the
// input ends. It never asks for more than is needed to go on, so that packets
// of a live stream are seen as they come, and memory grows only as fast as the
// bytes that fill it: a length that lies costs nothing.
func (w *window) fill(n int) error {
	for empty := 0; len(w.buf) < n; {
		if w.err != nil {
			return w.err
		}
		if cap(w.buf) == len(w.buf) || cap(w.buf) < min(n, len(w.memory)) {
			w.move(n)
		}
		m, err := w.input.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+m]
		w.err = err
		if empty++; m > 0 {
			empty = 0
		}
		if empty == maxEmptyReads && err == nil {
			w.err = io.ErrNoProgress
		}
	}
	return nil
}

// move makes room behind the unread bytes: at the front of the memory, or in
// twice as much of it when they fill it.
func (w *window) move(n int) {
	if len(w.buf) == len(w.memory) {
		w.memory = make([]byte, max(windowSize, min(n, 2*len(w.memory))))
	}
	w.buf = w.memory[:copy(w.memory, w.buf)]
}

func (w *window) skip(n int) {
	w.buf = w.buf[n:]
	w.passed += int64(n)
}

// discard skips n bytes that may be more than memory holds.
func (w *window) discard(n int64) error {
	for n > 0 {
		if err := w.fill(1); err != nil {
			return err
		}
		m := int(min(n, int64(len(w.buf))))
		w.skip(m)
		n -= int64(m)
	}
	return nil
}
