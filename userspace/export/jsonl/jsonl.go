// Package jsonl writes flow records as JSON lines: one object a line, the
// columns of export.Row. They go to a file, to standard output, or to a
// directory in which a file is begun for each stretch of time.
package jsonl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Config says where lines go: one of Out, Path and Files.Dir.
type Config struct {
	// Out takes the lines; it is not closed.
	Out io.Writer
	// Path is a file that is appended to, so that it may be rotated by copying
	// and truncating.
	Path string
	// Files makes a file for each stretch of time; its Ext is set.
	Files export.Files
	// Labels names what records have as numbers; nil: nothing.
	Labels *export.Labels
}

func (c *Config) validate() error {
	switch {
	case c.Out == nil && c.Path == "" && c.Files.Dir == "":
		return errors.New("JSON lines: no path: give a file, a directory, or - for standard output")
	case c.Files.Dir != "" && c.Files.Interval < time.Second:
		return fmt.Errorf("JSON lines interval: %v is below a second", c.Files.Interval)
	}
	return nil
}

// Sink appends to one file at a time. One goroutine owns it.
type Sink struct {
	config Config
	now    func() time.Time
	file   *os.File
	begun  time.Time // of the stretch the file belongs to
	buffer bytes.Buffer
	ends   []int // where each line of the buffer ends
}

// New makes a sink that opens its file when there is something to write.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.Files.Ext = ".jsonl"
	return &Sink{config: config, now: time.Now}, nil
}

// Write appends records. Of a batch that does not fit on the disk the whole
// lines stay, and what there is of another one is taken back.
func (s *Sink) Write(_ context.Context, records []flow.Flow) (int, error) {
	if s.file != nil && s.config.Files.Dir != "" && !s.begun.Equal(s.config.Files.Stretch(s.now())) {
		if err := errors.Join(s.Close(), s.config.Files.Prune()); err != nil {
			return 0, err
		}
	}
	if len(records) == 0 {
		return 0, nil
	}
	out, err := s.open()
	if err != nil {
		return 0, err
	}
	s.buffer.Reset()
	s.ends = s.ends[:0]
	encoder := json.NewEncoder(&s.buffer)
	for i := range records {
		if err := encoder.Encode(export.RowOf(&records[i], s.config.Labels)); err != nil {
			return 0, fmt.Errorf("encoding flow %d: %w", records[i].ID, err)
		}
		s.ends = append(s.ends, s.buffer.Len())
	}
	n, err := out.Write(s.buffer.Bytes())
	if err == nil {
		return len(records), nil
	}
	whole, end := 0, 0
	for whole < len(s.ends) && s.ends[whole] <= n {
		end = s.ends[whole]
		whole++
	}
	return whole, errors.Join(fmt.Errorf("writing flows: %w", err), s.takeBack(int64(n-end)), s.Close())
}

// takeBack cuts the last bytes off again, where that is possible.
func (s *Sink) takeBack(n int64) error {
	if s.file == nil || n == 0 {
		return nil
	}
	info, err := s.file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return s.file.Truncate(info.Size() - n)
}

func (s *Sink) open() (io.Writer, error) {
	if s.config.Out != nil {
		return s.config.Out, nil
	}
	if s.file != nil {
		return s.file, nil
	}
	path := s.config.Path
	if s.config.Files.Dir != "" {
		now := s.now()
		path, s.begun = s.config.Files.Next(now), s.config.Files.Stretch(now)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("opening flow file: %w", err)
	}
	s.file = file
	return file, nil
}

// Close closes the file; the next Write opens one again.
func (s *Sink) Close() error {
	file := s.file
	s.file = nil
	if file == nil {
		return nil
	}
	return file.Close()
}
