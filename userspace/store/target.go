package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// target is what Path turned out to be.
type target struct {
	path   string
	dir    bool  // a directory: a series per lane
	stream bool  // a pipe or device
	memory bool  // files are in memory: writing is copying
	width  int64 // of the view of a file in memory
}

// resolve looks at Path. A directory that is asked for with a / and missing is
// made.
func resolve(path string, rotateSize int64) (target, error) {
	t := target{path: path, width: viewSize}
	if rotateSize > 0 {
		t.width = cell(rotateSize) + maxChunk + cellSize // a file is seen as a whole
	}
	if path == "-" {
		t.stream = true
		return t, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path, "/"):
		if err := os.Mkdir(path, dirMode); err != nil {
			return t, explain("making output directory", path, err)
		}
		t.dir = true
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return t, explain("opening output", path, err)
	case info.IsDir():
		t.dir = true
	case !info.Mode().IsRegular():
		t.stream = true
		return t, nil
	}
	t.memory = inMemory(t.folder())
	return t, nil
}

// folder is where the files are.
func (t *target) folder() string {
	if t.dir {
		return t.path
	}
	return filepath.Dir(t.path)
}

func inMemory(path string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return false
	}
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
}

// open begins a file with its header. One that must be fresh fails with
// fs.ErrExist where there is one of its name; another is emptied.
func (t *target) open(path string, fresh bool, header []byte) (medium, error) {
	if t.stream {
		return openStream(path, header)
	}
	f, err := create(path, header)
	if errors.Is(err, fs.ErrExist) && !fresh {
		f, err = overwrite(path, header)
	}
	if err != nil {
		return nil, err
	}
	if t.memory {
		return openMapped(f, len(header), t.width)
	}
	if d, err := openDirect(f, header); err == nil {
		return d, nil
	}
	return &cached{file: f, end: int64(len(header))}, nil
}

// chunk is how much is written at a time.
func (t *target) chunk() int {
	switch {
	case t.stream:
		return chunkPipe
	case t.memory:
		return chunkMemory
	}
	return chunkDisk
}

// names are those of the series of a lane; nil for a single file.
func (t *target) names(cfg *Config, lane int) *names {
	switch {
	case t.stream || !t.dir && !cfg.rotates():
		return nil
	case !t.dir:
		ext := filepath.Ext(t.path)
		return &names{dir: t.folder(), prefix: strings.TrimSuffix(filepath.Base(t.path), ext), ext: ext}
	case cfg.Lanes > 1:
		return &names{dir: t.path, prefix: cfg.Prefix + "-" + strconv.Itoa(lane), ext: ".pcapng"}
	}
	return &names{dir: t.path, prefix: cfg.Prefix, ext: ".pcapng"}
}
