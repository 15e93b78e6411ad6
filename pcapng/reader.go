package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// ErrTruncated is in the error of a capture that ends inside a block or
// record: it was cut, or is still being written. All packets before the cut
// have been delivered.
var ErrTruncated = errors.New("capture ends inside a packet or block")

// Reader reads a capture file, pcap or pcapng, from front to end. It needs no
// seeking, so it reads pipes, and delivers a packet as soon as it is there.
// Memory is bounded by MaxBlock, what the interfaces of a section say of
// themselves, and some megabytes of names. A Reader is for one goroutine, and does not close its input.
type Reader struct {
	window
	swap   bool // the bytes of this section are big-endian
	legacy *savefile
	section
	packets uint64
	failed  error // the first error; there is no way on after it
}

// NewReader reads the head of a capture and tells its kind by it.
func NewReader(input io.Reader) (*Reader, error) {
	r := &Reader{window: window{input: input}}
	if err := r.fill(4); err != nil {
		if err == io.EOF {
			return nil, fmt.Errorf("reading capture: it has %d bytes, too few for a file header: %w", len(r.buf), ErrTruncated)
		}
		return nil, fmt.Errorf("reading capture: %w", err)
	}
	open := r.openSavefile
	if order.Uint32(r.buf) == blockSection {
		open = r.openSection
	}
	if err := open(); err != nil {
		return nil, err
	}
	return r, nil
}

// Next returns the next packet, which is the caller's until the following call.
// At the end of the capture the error is io.EOF; of a capture that was cut it
// contains [ErrTruncated]. Every error says at which byte of the input it
// arose, and is final: later calls return it again.
func (r *Reader) Next(p *Packet) error {
	if r.failed != nil {
		return r.failed
	}
	var err error
	if r.legacy != nil {
		err = r.nextRecord(p)
	} else {
		err = r.nextPacket(p)
	}
	if err != nil {
		r.failed = err
		return err
	}
	r.packets++
	return nil
}

// Offset is how many bytes of the input are behind the last packet.
func (r *Reader) Offset() int64 { return r.passed }

// Section is what the current section says of its writer; empty for pcap.
func (r *Reader) Section() Section { return r.about }

// Interfaces are those the current section has described so far; pcap has one.
func (r *Reader) Interfaces() []*Interface {
	all := make([]*Interface, len(r.sources))
	for i, s := range r.sources {
		all[i] = &s.Interface
	}
	return all
}

// Statistics are the newest figures the current section has given so far of
// each interface that has any.
func (r *Reader) Statistics() []Statistics {
	var all []Statistics
	for _, s := range r.sources {
		if s.statistics != nil {
			all = append(all, *s.statistics)
		}
	}
	return all
}

// Names are those the current section has given to addresses so far, as far as
// there are not very many and they are well-formed.
func (r *Reader) Names() []Name { return r.names }

// malformed is the error of a file that contradicts itself.
func (r *Reader) malformed(format string, args ...any) error {
	return fmt.Errorf("reading capture at byte %d: %s: the file is damaged from there on, %d packets before it were read",
		r.passed, fmt.Sprintf(format, args...), r.packets)
}

// ended turns the reason why fill had no n bytes into the error to return.
func (r *Reader) ended(what string, n int) error {
	if r.err != io.EOF {
		return fmt.Errorf("reading capture at byte %d: %w", r.passed+int64(len(r.buf)), r.err)
	}
	return fmt.Errorf("reading capture at byte %d: %s of %d bytes, %d are there: %w: it was cut, or is still being written; %d packets before it were read",
		r.passed, what, n, len(r.buf), ErrTruncated, r.packets)
}

func (r *Reader) uint16(b []byte) uint16 { return swap16(order.Uint16(b), r.swap) }
func (r *Reader) uint32(b []byte) uint32 { return swap32(order.Uint32(b), r.swap) }

// time64 reads a time, whose high half comes first in either byte order.
func (r *Reader) time64(b []byte) uint64 {
	return uint64(r.uint32(b))<<32 | uint64(r.uint32(b[4:]))
}

func swap16(v uint16, swap bool) uint16 {
	if swap {
		return bits.ReverseBytes16(v)
	}
	return v
}

func swap32(v uint32, swap bool) uint32 {
	if swap {
		return bits.ReverseBytes32(v)
	}
	return v
}

func swap64(v uint64, swap bool) uint64 {
	if swap {
		return bits.ReverseBytes64(v)
	}
	return v
}

// foreign names the cure for input that is no capture but known.
func foreign(head []byte) string {
	big := binary.BigEndian.Uint32(head)
	switch {
	case big>>16 == 0x1f8b:
		return "it is compressed with gzip: give it through zcat"
	case big == 0x28b52ffd:
		return "it is compressed with zstd: give it through zstdcat"
	case big == 0xfd377a58:
		return "it is compressed with xz: give it through xzcat"
	case big>>8 == 0x425a68:
		return "it is compressed with bzip2: give it through bzcat"
	case big == 0x04224d18:
		return "it is compressed with lz4: give it through lz4cat"
	case big == 0xa1b2cd34 || big == 0x34cdb2a1:
		return "it is a pcap with the extra fields of an old patch: convert it with editcap -F pcapng"
	case big == 0x736e6f6f:
		return "it is a snoop file: convert it with editcap -F pcapng"
	}
	return "convert it with editcap -F pcapng if Wireshark can read it"
}
