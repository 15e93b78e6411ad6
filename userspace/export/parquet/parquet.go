// Package parquet writes flow records to Parquet files, one per stretch of
// time, with the columns of export.Row: "SELECT * FROM 'flows-*.parquet'" in
// DuckDB.
//
// A Parquet file can be read when its footer is written, not before. So a file
// grows under a hidden name, .flows-20261122T030500Z.parquet.part, and gets its
// own when it is whole and on the disk.
package parquet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Config says where files go and how long they grow.
type Config struct {
	// Files are those to make; Ext is set. The Interval is about when records
	// were written, not when flows ran.
	Files export.Files
	// Labels names what records have as numbers; nil: nothing.
	Labels *export.Labels
	// Rows ends a file early.
	Rows int
	// Group is how many rows are gathered before they go to the disk; they are
	// held in memory, about 700 bytes each, and compressed together.
	Group int
}

// Default makes a file every five minutes.
func Default() Config {
	return Config{Files: export.Files{Interval: 5 * time.Minute}, Rows: 5_000_000, Group: 1 << 16}
}

func (c *Config) validate() error {
	switch {
	case c.Files.Dir == "":
		return errors.New("parquet directory: none given")
	case c.Files.Interval < time.Second:
		return fmt.Errorf("parquet interval: %v is below a second", c.Files.Interval)
	case c.Rows < 1:
		return fmt.Errorf("parquet rows: %d is not above 0", c.Rows)
	case c.Group < 1:
		return fmt.Errorf("parquet row group: %d is not above 0", c.Group)
	}
	return nil
}

// Sink writes files into one directory. One goroutine owns it.
type Sink struct {
	config Config
	now    func() time.Time
	file   *os.File
	name   string // final
	writer *parquet.GenericWriter[export.Row]
	begun  time.Time // of the stretch the file belongs to
	rows   int       // in the file
	loose  int       // of them, not yet in a row group on the disk
	batch  []export.Row
}

// New makes a sink that makes a file when there is a record.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.Files.Ext = ".parquet"
	return &Sink{config: config, now: time.Now}, nil
}

// Write adds records to the file and ends it when its time has come. Should a
// file not be finished for want of space, its records are lost although they
// were said to be written; the error tells how many.
func (s *Sink) Write(_ context.Context, records []flow.Flow) (int, error) {
	if s.file != nil && !s.begun.Equal(s.config.Files.Stretch(s.now())) {
		if err := s.finish(); err != nil {
			return 0, err
		}
	}
	written := 0
	for written < len(records) {
		if err := s.open(); err != nil {
			return written, err
		}
		part := records[written:]
		part = part[:min(len(part), s.config.Rows-s.rows, s.config.Group-s.loose)]
		s.batch = s.batch[:0]
		for i := range part {
			s.batch = append(s.batch, export.RowOf(&part[i], s.config.Labels))
		}
		if _, err := s.writer.Write(s.batch); err != nil {
			return written, s.give(err)
		}
		written += len(part)
		s.rows += len(part)
		if s.loose += len(part); s.loose == s.config.Group {
			if err := s.writer.Flush(); err != nil {
				return written, s.give(err)
			}
			s.loose = 0
		}
		if s.rows == s.config.Rows {
			if err := s.finish(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// Close ends the file.
func (s *Sink) Close() error { return s.finish() }

const hidden = ".part"

// open begins a file if there is none.
func (s *Sink) open() error {
	if s.file != nil {
		return nil
	}
	now := s.now()
	s.name = s.config.Files.Next(now)
	file, err := os.OpenFile(s.partial(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening flow file: %w", err)
	}
	s.file, s.rows, s.loose = file, 0, 0
	s.begun = s.config.Files.Stretch(now)
	s.writer = parquet.NewGenericWriter[export.Row](file,
		parquet.Compression(&parquet.Zstd),
		parquet.CreatedBy("unspan", "", ""),
	)
	return nil
}

func (s *Sink) partial() string {
	return filepath.Join(filepath.Dir(s.name), "."+filepath.Base(s.name)+hidden)
}

// finish writes the footer, brings the file to the disk and gives it its name.
func (s *Sink) finish() error {
	if s.file == nil {
		return nil
	}
	if err := s.writer.Close(); err != nil {
		return s.give(err)
	}
	if err := s.file.Sync(); err != nil {
		return s.give(err)
	}
	if err := s.file.Close(); err != nil {
		return s.give(err)
	}
	s.file, s.writer = nil, nil
	if err := os.Rename(s.partial(), s.name); err != nil {
		return fmt.Errorf("naming flow file: %w", err)
	}
	return errors.Join(syncDir(s.config.Files.Dir), s.config.Files.Prune())
}

// give gives the file up and lets the disk have its space back: without a
// footer nobody can read it.
func (s *Sink) give(cause error) error {
	err := fmt.Errorf("writing flow file %s, %d flows lost: %w", filepath.Base(s.name), s.rows, cause)
	_ = s.file.Close() // closed already, or as broken as before
	s.file, s.writer = nil, nil
	return errors.Join(err, os.Remove(s.partial()))
}

// syncDir makes a new name last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("naming flow file: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
