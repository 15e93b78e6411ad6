package export

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Files are those of a sink that begins a new one for each stretch of time:
// DIR/flows-20261122T030500Z.EXT, the time, UTC, when it was begun.
type Files struct {
	Dir      string
	Ext      string        // with its dot
	Interval time.Duration // by the clock: with an hour, files begin on the hour
	Keep     int           // of these files the newest so many stay; 0: all
}

// Check says why no file could be made in the directory.
func (f *Files) Check() error {
	info, err := os.Stat(f.Dir)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, f.Dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("flow files in %s: there is no such directory: make it first: mkdir -p %s", f.Dir, f.Dir)
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("flow files in %s: %w: give a directory that this user may write to", f.Dir, err)
}

// Stretch is the beginning of the stretch of time that now is in.
func (f *Files) Stretch(now time.Time) time.Time { return now.Truncate(f.Interval) }

// Next is a name that no file has yet.
func (f *Files) Next(now time.Time) string {
	stamp := now.UTC().Format("20060102T150405Z")
	name := filepath.Join(f.Dir, "flows-"+stamp+f.Ext)
	for n := 1; exists(name); n++ {
		name = filepath.Join(f.Dir, fmt.Sprintf("flows-%s-%d%s", stamp, n, f.Ext))
	}
	return name
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// Prune removes the oldest files, by their names, beyond those to keep. No other
// file is touched.
func (f *Files) Prune() error {
	if f.Keep == 0 {
		return nil
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return fmt.Errorf("removing old flow files: %w", err)
	}
	pattern := regexp.MustCompile(`^flows-(\d{8}T\d{6}Z)(?:-(\d{1,9}))?` + regexp.QuoteMeta(f.Ext) + `$`)
	type file struct {
		name, stamp string
		number      int
	}
	var files []file
	for _, e := range entries {
		if m := pattern.FindStringSubmatch(e.Name()); m != nil && e.Type().IsRegular() {
			number, _ := strconv.Atoi(m[2]) // nothing there is the first of its second
			files = append(files, file{e.Name(), m[1], number})
		}
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.number, b.number))
	})
	var errs []error
	for _, old := range files[:max(0, len(files)-f.Keep)] {
		if err := os.Remove(filepath.Join(f.Dir, old.name)); err != nil {
			errs = append(errs, fmt.Errorf("removing old flow file: %w", err))
		}
	}
	return errors.Join(errs...)
}
