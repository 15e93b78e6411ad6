// Package store is where the packets go: pcapng files, valid at every moment.
//
//	worker ──► Lane ── chunk ──► series ── whole blocks ──► medium
//	           no lock, no        header, rotation,          page cache, disk,
//	           allocation         statistics, keep           pipe
//
// Each worker owns a [Lane] and appends packets to a chunk of memory that is
// its own; a full chunk goes on as one. With an inline writer the worker itself
// writes it and uses it again; with a writer thread it travels to the writer's
// goroutine and comes back empty. When none comes back in time, the packets
// meanwhile are counted as lost to backlog: the worker never waits for the disk.
// A directory takes a series of files per lane. A single file, or a pipe, of
// several lanes is merged by time.
//
// A file shows up with its header in it, and a chunk shows up in it as a whole
// or not at all, even when the process is killed in the middle of a write. What
// is not ready to be seen lies in a filler, a block of a type that every reader
// skips (see [pcapng.PutFillerHead]): while a capture is running its files may
// end in one, and one may stand where a disk was written in whole pages. How a
// chunk gets into a file depends on what the file is:
//
//	mapped   in memory (tmpfs): copied; rotation uses old pages again
//	direct   on a disk: past the page cache, page by page
//	cached   where neither is to be had
//	stream   a pipe or device
//
// A chunk that the medium refuses, because the disk is full, is counted packet
// by packet, and the next one is tried again. After Run has returned,
//
//	packets appended = written + backlog + refused
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unspan/unspan/pcapng"
)

// maxDiscards is how many files may wait to be removed.
const maxDiscards = 1024

// maxErrors is how many errors Run returns at most.
const maxErrors = 16

// Store writes the packets of all lanes. A Lane is its worker's; the methods of
// a Store may be called by any goroutine.
type Store struct {
	cfg      Config
	target   target
	interval uint64 // RotateInterval in ns
	lanes    []*Lane
	writers  []*writer
	merger   *merger // of several lanes into one file

	mu         sync.Mutex
	ids        map[pcapng.Interface]uint32
	interfaces []pcapng.Interface // append only
	errs       []error            // what Run returns
	once       sync.Once

	count    atomic.Int64  // of interfaces
	files    atomic.Uint64 // opened
	size     atomic.Uint64 // bytes written to all files
	discards chan string   // files to remove
	failed   chan struct{} // closed when the output is broken for good
}

// writer is a series and the channel its chunks come through. An inline series
// gets only the last, empty one that way.
type writer struct {
	series *series
	in     chan *chunk
}

// Open makes the store of a configuration and opens its output, so that what
// cannot be written is known before the capture begins. Run must be called to
// have it written.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("output configuration: %w", err)
	}
	target, err := resolve(cfg.Path, cfg.RotateSize)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:      cfg,
		target:   target,
		interval: uint64(cfg.RotateInterval),
		ids:      map[pcapng.Interface]uint32{},
		discards: make(chan string, maxDiscards),
		failed:   make(chan struct{}),
	}
	apart := target.dir || cfg.Lanes == 1 // each lane has a series of its own
	inline := cfg.Writer == Inline || cfg.Writer == Auto && apart && target.memory
	if inline && !apart {
		return nil, errors.New("output configuration: writer inline: several lanes into one file are merged by a thread")
	}
	if s.cfg.Chunk == 0 {
		s.cfg.Chunk = max(minChunk, min(target.chunk(), cfg.Backlog/4&^(minChunk-1)))
	}
	if limit := cfg.RotateSize / 4; limit > 0 {
		s.cfg.Chunk = min(s.cfg.Chunk, int(limit)&^(minChunk-1))
	}
	chunks := s.cfg.Backlog / s.cfg.Chunk
	if inline {
		chunks = 1
	}
	for range cfg.Lanes {
		s.lanes = append(s.lanes, s.newLane(chunks))
	}
	if !apart {
		if err := s.merge(); err != nil {
			return nil, err
		}
		return s, nil
	}
	for i, l := range s.lanes {
		w, err := s.newWriter(i, cap(l.free)+1)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		l.out = w.in
		if inline {
			l.series = w.series
		}
	}
	return s, nil
}

func (s *Store) newLane(chunks int) *Lane {
	l := &Lane{
		flush: uint64(s.cfg.Flush),
		free:  make(chan *chunk, chunks),
	}
	for range chunks {
		c := newChunk(s.cfg.Chunk, l.free)
		c.shares = []share{{lane: l}}
		l.fresh = append(l.fresh, c)
	}
	return l
}

// newWriter makes the series of a lane, or of all when there is one, and the
// channel that n chunks at most come through.
func (s *Store) newWriter(lane, n int) (*writer, error) {
	w := &writer{
		series: &series{store: s, names: s.target.names(&s.cfg, lane)},
		in:     make(chan *chunk, n),
	}
	s.writers = append(s.writers, w)
	return w, w.series.prepare()
}

// merge puts a merger between all lanes and the one writer.
func (s *Store) merge() error {
	w, err := s.newWriter(0, mergeChunks+1)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.merger = newMerger(s, w.in)
	for _, l := range s.lanes {
		l.out, l.merged = s.merger.in, true
	}
	return nil
}

// Lane is that of worker i, counted from 0.
func (s *Store) Lane(i int) *Lane { return s.lanes[i] }

// AddInterface returns the id under which packets of an interface are appended,
// the same for the same interface whoever asks, in all files.
func (s *Store) AddInterface(i pcapng.Interface) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.ids[i]
	if !known {
		id = uint32(len(s.interfaces))
		s.ids[i] = id
		s.interfaces = append(s.interfaces, i)
		s.count.Store(int64(len(s.interfaces)))
	}
	return id
}

// known are the interfaces added so far.
func (s *Store) known() []pcapng.Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.interfaces)
}

// Run writes until all lanes are closed, then ends the files with statistics.
// The error is of what could not be done; packets refused for want of space are
// no error, they are counted.
func (s *Store) Run() error {
	var writers, keeper sync.WaitGroup
	if s.merger != nil {
		writers.Go(s.merger.run)
	}
	for _, w := range s.writers {
		writers.Go(func() {
			for c := range w.in {
				if c.end {
					break
				}
				w.series.write(c)
				c.home <- c
			}
		})
	}
	keeper.Go(func() {
		for path := range s.discards {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.note(explain("removing old output", path, err))
			}
		}
	})
	writers.Wait()
	for _, w := range s.writers {
		if w.series.path == "" { // no packet came: leave a file that says so
			s.note(w.series.open(uint64(time.Now().UnixNano())))
		}
	}
	s.end()
	keeper.Wait()
	return s.Close()
}

// Close ends the files and returns what went wrong with them. Run does so
// itself: Close is for a Store that was opened and is not run after all.
func (s *Store) Close() error {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

func (s *Store) end() {
	s.once.Do(func() {
		for _, w := range s.writers {
			w.series.finish()
			w.series.release(func(*mapped) bool { return true })
			w.series.waste()
		}
		close(s.discards)
	})
}

// Failed is closed when nothing can be written any more, such as to a pipe
// whose reader has gone. Run then says why, once the lanes are closed.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Counters are those of all lanes together.
func (s *Store) Counters() Counters {
	var sum Counters
	for _, l := range s.lanes {
		c := l.Counters()
		sum.Written += c.Written
		sum.WrittenBytes += c.WrittenBytes
		sum.Backlog += c.Backlog
		sum.Refused += c.Refused
	}
	return sum
}

// Files is how many files were opened, and Size the bytes written to them.
func (s *Store) Files() uint64 { return s.files.Load() }
func (s *Store) Size() uint64  { return s.size.Load() }

// fail says that nothing can be written any more.
func (s *Store) fail(err error) {
	s.note(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.failed:
	default:
		close(s.failed)
	}
}

// note keeps an error for Run to return. What ails an output ails its statistics
// blocks as well, and is told once.
func (s *Store) note(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	told := slices.ContainsFunc(s.errs, func(e error) bool { return e.Error() == err.Error() })
	if len(s.errs) < maxErrors && !told {
		s.errs = append(s.errs, err)
	}
}

// discard has a file removed, elsewhere: to give back a large file takes time.
func (s *Store) discard(path string) bool {
	select {
	case s.discards <- path:
		return true
	default:
		return false
	}
}
