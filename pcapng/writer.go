package pcapng

import (
	"fmt"
	"io"
)

// writerBuffer is what a Writer gathers before it writes.
const writerBuffer = 64 << 10

// Writer writes one section to an [io.Writer]. It hands over whole blocks only,
// so that what arrived is a valid file after every write. A Writer is for one
// goroutine, and does not close what it writes to.
type Writer struct {
	w          io.Writer
	buf        []byte
	interfaces uint32
	err        error
}

// NewWriter returns a Writer whose file begins with the section header.
// Nothing is written before the buffer is full or Flush is called.
func NewWriter(w io.Writer, s Section) *Writer {
	return &Writer{w: w, buf: AppendSection(make([]byte, 0, writerBuffer), s)}
}

// AddInterface writes an interface and returns the id its packets carry.
func (w *Writer) AddInterface(i Interface) (uint32, error) {
	id := w.interfaces
	w.interfaces++
	w.buf = AppendInterface(w.buf, i)
	return id, w.flushAt(writerBuffer)
}

// WritePacket writes a packet as [AppendPacket] does. The interface must have
// been added.
func (w *Writer) WritePacket(id uint32, time uint64, length uint32, flags Flags, dropped uint64, data []byte) error {
	if id >= w.interfaces {
		return fmt.Errorf("writing packet: interface %d was never added, %d were", id, w.interfaces)
	}
	if len(w.buf)+len(data)+PacketOverhead > cap(w.buf) {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	w.buf = AppendPacket(w.buf, id, time, length, flags, dropped, data)
	return w.err
}

// WriteStatistics writes the figures of an interface.
func (w *Writer) WriteStatistics(s Statistics) error {
	w.buf = AppendStatistics(w.buf, s)
	return w.flushAt(writerBuffer)
}

// WriteNames writes what addresses are called.
func (w *Writer) WriteNames(names []Name) error {
	w.buf = AppendNames(w.buf, names)
	return w.flushAt(writerBuffer)
}

// Flush hands over what is gathered. After an error the Writer is done: every
// later call returns that error.
func (w *Writer) Flush() error { return w.flushAt(0) }

func (w *Writer) flushAt(n int) error {
	if w.err != nil || len(w.buf) <= n {
		return w.err
	}
	if _, err := w.w.Write(w.buf); err != nil {
		w.err = fmt.Errorf("writing capture: %w", err)
	}
	w.buf = w.buf[:0]
	return w.err
}
