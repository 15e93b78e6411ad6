// Package jsonl writes flow records as JSON lines: one object a line, the
// columns of export.Row.
package jsonl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Stdout is the path that stands for standard output.
const Stdout = "-"

// Sink appends to one file. One goroutine owns it.
type Sink struct {
	path   string
	file   *os.File
	buffer bytes.Buffer
	ends   []int // where each line of the buffer ends
}

// New makes a sink that opens its file when there is something to write. The
// file is appended to, so that it may be rotated by copying and truncating.
func New(path string) (*Sink, error) {
	if path == "" {
		return nil, errors.New("JSON lines: no path: give a file, or - for standard output")
	}
	return &Sink{path: path}, nil
}

// Write appends records. Of a batch that does not fit on the disk the whole
// lines stay, and what there is of another one is taken back.
func (s *Sink) Write(_ context.Context, records []flow.Flow) (int, error) {
	if len(records) == 0 {
		return 0, nil
	}
	if err := s.open(); err != nil {
		return 0, err
	}
	s.buffer.Reset()
	s.ends = s.ends[:0]
	encoder := json.NewEncoder(&s.buffer)
	for i := range records {
		if err := encoder.Encode(export.RowOf(&records[i])); err != nil {
			return 0, fmt.Errorf("encoding flow %d: %w", records[i].ID, err)
		}
		s.ends = append(s.ends, s.buffer.Len())
	}
	n, err := s.file.Write(s.buffer.Bytes())
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
	info, err := s.file.Stat()
	if err != nil || !info.Mode().IsRegular() || n == 0 {
		return err
	}
	return s.file.Truncate(info.Size() - n)
}

func (s *Sink) open() error {
	if s.file != nil {
		return nil
	}
	if s.path == Stdout {
		s.file = os.Stdout
		return nil
	}
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening flow file: %w", err)
	}
	s.file = file
	return nil
}

// Close closes the file; the next Write opens it again.
func (s *Sink) Close() error {
	file := s.file
	s.file = nil
	if file == nil || file == os.Stdout {
		return nil
	}
	return file.Close()
}
