package store

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// names are those of the files of one series: DIR/PREFIX-TIME-NUMBER.EXT.
type names struct {
	dir, prefix, ext string
	number           int // of the last file
}

const nameTime = "20060102T150405.000"

// next is the name of the file whose first packet is of time ns.
func (n *names) next(ns uint64) string {
	n.number++
	at := time.Unix(0, int64(ns)).UTC().Format(nameTime)
	return filepath.Join(n.dir, fmt.Sprintf("%s-%s-%05d%s", n.prefix, at, n.number, n.ext))
}

// spare is a name that no packet has: of the i-th file that is made in advance.
func (n *names) spare(i int) string {
	return filepath.Join(n.dir, fmt.Sprintf("%s-00000000T000000.000-%05d%s", n.prefix, i, n.ext))
}

// hidden is the name of a file that is being made.
func hidden(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
}

// earlier returns the files of this series that are there already, oldest
// first, and goes on counting where they end. What was being made when an
// earlier run was killed is removed.
func (n *names) earlier() ([]string, error) {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return nil, err
	}
	pattern := regexp.MustCompile(`^\.?` + regexp.QuoteMeta(n.prefix) +
		`-\d{8}T\d{6}\.\d{3}-(\d{5,9})` + regexp.QuoteMeta(n.ext) + `$`)
	type found struct {
		path   string
		number int
	}
	var all []found
	for _, e := range entries {
		m := pattern.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		if e.Name()[0] == '.' {
			if err := os.Remove(filepath.Join(n.dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		number, _ := strconv.Atoi(m[1]) // the pattern lets only digits in, and few
		all = append(all, found{filepath.Join(n.dir, e.Name()), number})
		n.number = max(n.number, number)
	}
	slices.SortFunc(all, func(a, b found) int { return a.number - b.number })
	paths := make([]string, len(all))
	for i, f := range all {
		paths[i] = f.path
	}
	return paths, nil
}
