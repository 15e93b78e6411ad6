package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/unspan/unspan/pcapng"
)

// Writer says who writes: the worker itself, or a goroutine of the store.
type Writer string

// Inline costs no second core and suits files in memory; Thread keeps a worker
// from waiting for a disk. Auto takes Inline where the file is in memory and
// each lane has its own, else Thread.
const (
	Auto   Writer = "auto"
	Inline Writer = "inline"
	Thread Writer = "thread"
)

// Config says where packets go. Start from Default.
type Config struct {
	// Path is a file, a directory (one that exists, or a name with / at its
	// end), or - for standard output.
	//
	// A file without rotation is that file, emptied if it exists. With
	// rotation, DIR/NAME.EXT gives DIR/NAME-yyyymmddThhmmss.mmm-NNNNN.EXT, and
	// a directory DIR/PREFIX-yyyymmddThhmmss.mmm-NNNNN.pcapng, or with several
	// lanes DIR/PREFIX-LANE-...: the time, UTC, of the first packet or of the
	// opening, and a number that counts up.
	Path   string
	Prefix string

	// RotateSize begins a new file before the packets of one have more bytes
	// than this; 0: never.
	RotateSize int64

	// RotateInterval begins a new file with the first packet of every interval,
	// counted from 1970, so that an interval of an hour begins on the hour;
	// 0: never. A file without packets after it stays open.
	RotateInterval time.Duration

	// Keep is how many files of one lane stay; 0: all. The oldest are removed:
	// those that this store wrote, and those whose name says that an earlier
	// run with the same Path and Prefix did. No other file is touched.
	Keep int

	// Prepare is how many files of RotateSize are made in memory before the
	// capture begins, if the output is in memory: to make its pages can cost a
	// packet several times what it costs to copy it there. Keep at a time are
	// enough for a ring, since old files are used again.
	Prepare int

	Lanes   int           // workers that append packets
	Writer  Writer        // who writes
	Chunk   int           // bytes written at a time; 0: what suits the medium
	Backlog int           // bytes of a lane that may wait for the writer's thread
	Flush   time.Duration // packets are handed over at the latest after this

	// Lateness is how much older than the Tick of a lane that found nothing
	// its next packet may be: what lies between a packet's time and its being
	// there to be found. Several lanes into one file are put in order of time,
	// and one without packets holds up the others for so long.
	Lateness time.Duration

	// Unordered says that packets of a lane do not come in order of time, such
	// as when their senders' clocks disagree. They are then written as they
	// come.
	Unordered bool

	// Section is what files say of their writer.
	Section pcapng.Section

	// Names are written at the beginning of each file.
	Names []pcapng.Name

	// Statistics gives the figures of an interface for the end of a file. It
	// is called by the goroutine that writes; nil: files have none.
	Statistics func(id uint32) pcapng.Statistics

	// Log is told when the output begins and ceases to refuse packets; nil:
	// nobody is.
	Log *slog.Logger
}

const (
	chunkMemory = 256 << 10 // stays in a core's cache between filling and writing
	chunkPipe   = 1 << 20
	chunkDisk   = 4 << 20 // keeps a disk busy until the next comes

	// A chunk and what media add to it is at times one block to a reader, which
	// takes no more than pcapng.MaxBlock.
	minChunk = 4 << 10
	maxChunk = 8 << 20
)

// Default returns the configuration of a store without a Path.
func Default() Config {
	return Config{
		Prefix:  "unspan",
		Lanes:   1,
		Writer:  Auto,
		Backlog: 64 << 20,
		Flush:   200 * time.Millisecond,

		Lateness: 20 * time.Millisecond,
	}
}

func (c *Config) validate() error {
	switch {
	case c.Path == "":
		return errors.New("path is empty: name a file, a directory, or - for standard output")
	case c.Prefix == "" || strings.ContainsRune(c.Prefix, '/'):
		return fmt.Errorf("prefix %q must be a part of a file name", c.Prefix)
	case c.RotateSize < 0 || c.RotateSize > 0 && c.RotateSize < 4*minChunk:
		return fmt.Errorf("rotate size %d: must be at least %d bytes", c.RotateSize, 4*minChunk)
	case c.RotateInterval < 0 || c.RotateInterval > 0 && c.RotateInterval < time.Millisecond:
		return fmt.Errorf("rotate interval %v: must be at least 1ms", c.RotateInterval)
	case c.Keep < 0:
		return fmt.Errorf("keep %d: must not be negative", c.Keep)
	case c.Keep > 0 && !c.rotates():
		return errors.New("keep: needs a rotate size or a rotate interval, one file is all there is without")
	case c.Prepare < 0:
		return fmt.Errorf("prepare %d: must not be negative", c.Prepare)
	case c.Prepare > 0 && c.RotateSize == 0:
		return errors.New("prepare: needs a rotate size, nobody knows how large files get without")
	case c.Path == "-" && c.rotates():
		return errors.New("rotation: standard output is one stream, write to a file or directory")
	case c.Lanes < 1:
		return fmt.Errorf("lanes %d: must be at least 1", c.Lanes)
	case c.Writer != Auto && c.Writer != Inline && c.Writer != Thread:
		return fmt.Errorf("writer %q is none of auto, inline, thread", c.Writer)
	case c.Chunk != 0 && (c.Chunk < minChunk || c.Chunk > maxChunk || c.Chunk%minChunk != 0):
		return fmt.Errorf("chunk %d: must be a multiple of %d from %d to %d bytes", c.Chunk, minChunk, minChunk, maxChunk)
	case c.Backlog < 2*c.Chunk || c.Backlog < 2*minChunk:
		return fmt.Errorf("backlog %d: must hold two chunks", c.Backlog)
	case c.Flush <= 0:
		return fmt.Errorf("flush %v: must be positive", c.Flush)
	case c.Lateness < 0:
		return fmt.Errorf("lateness %v: must not be negative", c.Lateness)
	}
	return nil
}

func (c *Config) rotates() bool { return c.RotateSize > 0 || c.RotateInterval > 0 }
