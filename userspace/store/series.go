package store

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/pcapng"
)

// maxTold is how often in a minute the log is told that the output refuses
// packets, or no longer does: a disk that is all but full goes back and forth.
const maxTold = 10

// series is the files that one writer writes, one after the other. It belongs
// to the goroutine that writes.
type series struct {
	store *Store
	names *names // nil: a single file

	file     medium // nil: none is open
	path     string // of the file, or of the last one
	declared int    // interfaces that the file knows
	size     int64  // of the file
	empty    bool   // the file has no packets yet
	interval uint64 // number of the interval that the file is for
	block    []byte // for what is not packets

	spare    []old // files that were made in advance
	kept     []old // files that are finished, oldest first
	refusing bool  // the last chunk was refused
	broken   error // nothing can be written any more

	told  int // times that the log was told of refusing, since
	since time.Time
}

// prepare opens a single file and takes stock of a folder. A file with a name of
// its own is opened with the first packet, whose time is in the name.
func (s *series) prepare() error {
	if s.names == nil {
		return s.open(0)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, s.names.dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return explain("opening output", s.names.dir, err)
	}
	earlier, err := s.names.earlier()
	if err != nil {
		return explain("opening output", s.names.dir, err)
	}
	for _, path := range earlier {
		if s.store.cfg.Keep > 0 {
			s.kept = append(s.kept, old{path: path})
		}
	}
	return s.reserve()
}

// write puts the packets of a chunk into files and counts them.
func (s *series) write(c *chunk) {
	for rest := c.buf; len(rest) > 0; {
		blocks, shares := s.split(c, rest)
		rest = rest[len(blocks):]
		// Memory behind blocks is free only if they are all of the chunk.
		err := s.put(blocks, c.full && len(blocks) == len(c.buf))
		s.outcome(err)
		settle(shares, err == nil)
	}
}

// split returns the packets at the head of rest that belong to one interval,
// and how many of them are whose.
func (s *series) split(c *chunk, rest []byte) ([]byte, []share) {
	if s.store.interval == 0 {
		return rest, c.shares
	}
	size, captured, time := pcapng.PacketHead(rest)
	number := s.number(time)
	if s.number(c.last) == number {
		return rest, c.shares
	}
	part := share{lane: c.shares[0].lane, packets: 1, bytes: uint64(captured)}
	at := size
	for at < len(rest) {
		size, captured, time = pcapng.PacketHead(rest[at:])
		if s.number(time) > number {
			break
		}
		part.packets++
		part.bytes += uint64(captured)
		at += size
	}
	c.shares[0].packets -= part.packets
	c.shares[0].bytes -= part.bytes
	return rest[:at], []share{part}
}

// put appends blocks to the file, or to the next one when it is time for that.
func (s *series) put(blocks []byte, full bool) error {
	if s.broken != nil {
		return s.broken
	}
	_, _, first := pcapng.PacketHead(blocks)
	if s.file != nil && s.due(len(blocks), first) {
		s.finish()
	}
	if s.file == nil {
		if err := s.open(first); err != nil {
			return err
		}
	}
	if err := s.declare(); err != nil {
		return err
	}
	if err := s.append(blocks, full); err != nil {
		return err
	}
	if s.empty {
		s.empty = false
		s.interval = s.number(first)
	}
	return nil
}

// due says whether the file is over before n bytes of packets, the first of
// them of time first.
func (s *series) due(n int, first uint64) bool {
	if s.names == nil || s.empty {
		return false
	}
	limit := s.store.cfg.RotateSize
	return limit > 0 && s.size+int64(paged(n)) > limit || s.number(first) > s.interval
}

func (s *series) number(time uint64) uint64 {
	if s.store.interval == 0 {
		return 0
	}
	return time / s.store.interval
}

// open begins a file with the section and all interfaces known by now.
func (s *series) open(first uint64) error {
	interfaces := s.store.known()
	s.block = pcapng.AppendSection(s.block[:0], s.store.cfg.Section)
	s.block = pcapng.AppendNames(s.block, s.store.cfg.Names)
	for _, i := range interfaces {
		s.block = pcapng.AppendInterface(s.block, i)
	}
	path := s.store.target.path
	for {
		if s.names != nil {
			path = s.names.next(first)
		}
		file, err := s.begin(path)
		if errors.Is(err, fs.ErrExist) && s.names != nil {
			continue // another's: the number counts on
		}
		if err != nil {
			return explain("opening output", path, err)
		}
		s.file = file
		break
	}
	s.path, s.declared, s.size, s.empty = path, len(interfaces), int64(len(s.block)), true
	s.store.files.Add(1)
	s.store.size.Add(uint64(len(s.block)))
	return nil
}

// outcome takes note of whether the last packets could be written.
func (s *series) outcome(err error) {
	if (err != nil) == s.refusing {
		return
	}
	s.refusing = err != nil
	if errors.Is(err, errBroken) {
		s.store.fail(err)
		return
	}
	if now := time.Now(); now.Sub(s.since) > time.Minute {
		s.since, s.told = now, 0
	}
	if s.told++; s.told > maxTold || s.store.cfg.Log == nil {
		return
	}
	if err != nil {
		s.store.cfg.Log.Error("output refuses packets", "error", err)
	} else {
		s.store.cfg.Log.Info("output takes packets again", "file", s.path)
	}
}

// declare adds the interfaces that were added since the file began.
func (s *series) declare() error {
	if int(s.store.count.Load()) == s.declared {
		return nil
	}
	interfaces := s.store.known()
	s.block = s.block[:0]
	for _, i := range interfaces[s.declared:] {
		s.block = pcapng.AppendInterface(s.block, i)
	}
	if err := s.append(s.block, false); err != nil {
		return err
	}
	s.declared = len(interfaces)
	return nil
}

func (s *series) append(blocks []byte, full bool) error {
	grown, err := s.file.append(blocks, full)
	if err != nil {
		if errors.Is(err, errChanged) {
			s.store.note(s.file.close())
			s.file = nil // the next packet begins another
		}
		err = explain("writing output", s.path, err)
		if errors.Is(err, errBroken) {
			s.broken = err
		}
		return err
	}
	s.size += int64(grown)
	s.store.size.Add(uint64(grown))
	return nil
}

// finish ends the file with the statistics of its interfaces.
func (s *series) finish() {
	if s.file == nil {
		return
	}
	s.store.note(s.statistics())
	o := old{path: s.path}
	var err error
	m, ok := s.file.(*mapped)
	if ok && s.store.cfg.Keep > 0 && s.retired() < maxRetired {
		o.mapped = m
		err = m.retire()
	} else {
		err = s.file.close()
	}
	if err != nil {
		s.store.note(explain("finishing output", s.path, err))
	}
	s.file = nil
	if s.store.cfg.Keep > 0 {
		s.kept = append(s.kept, o)
	}
}

func (s *series) statistics() error {
	if s.store.cfg.Statistics == nil {
		return nil
	}
	s.block = s.block[:0]
	for id := range s.declared {
		figures := s.store.cfg.Statistics(uint32(id))
		figures.Interface = uint32(id)
		s.block = pcapng.AppendStatistics(s.block, figures)
	}
	if len(s.block) == 0 {
		return nil
	}
	return s.append(s.block, false)
}
