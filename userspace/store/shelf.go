package store

import (
	"errors"
	"os"
)

// maxRetired is how many finished files of a series stay mapped.
const maxRetired = 64

// old is a file that is not written now: finished, or made in advance.
type old struct {
	path   string
	mapped *mapped // nil: it is closed
}

// reserve makes files in advance.
func (s *series) reserve() error {
	t, cfg := &s.store.target, &s.store.cfg
	if !t.memory {
		return nil
	}
	for range cfg.Prepare {
		path := hidden(s.names.spare(len(s.spare)))
		o, err := prepare(path, cfg.RotateSize, t.width)
		if err != nil {
			return explain("preparing output", path, err)
		}
		s.spare = append(s.spare, o)
	}
	return nil
}

// waste removes files that were made in advance and not needed.
func (s *series) waste() {
	for _, o := range s.spare {
		s.store.note(errors.Join(o.mapped.abandon(), os.Remove(o.path)))
	}
	s.spare = nil
}

// begin opens the file at path: in the memory of an old one that Keep has no
// room for, or anew.
func (s *series) begin(path string) (medium, error) {
	s.release(func(m *mapped) bool { return m.gone() })
	t := &s.store.target
	for len(s.spare) > 0 {
		o := s.spare[0]
		s.spare = s.spare[1:]
		if file, err := recycle(o, path, s.block, t.width); err == nil {
			return file, nil
		}
	}
	keep := s.store.cfg.Keep
	for keep > 0 && len(s.kept) >= keep {
		if t.memory {
			file, err := recycle(s.kept[0], path, s.block, t.width)
			if err == nil {
				s.kept = s.kept[1:]
				return file, nil
			}
			s.kept[0].mapped = nil // closed
		}
		if !s.store.discard(s.kept[0].path) {
			break
		}
		s.kept = s.kept[1:]
	}
	return t.open(path, s.names != nil, s.block)
}

// release closes those old files that are still mapped and of which is says so.
func (s *series) release(is func(*mapped) bool) {
	for i := range s.kept {
		if m := s.kept[i].mapped; m != nil && is(m) {
			s.store.note(m.abandon())
			s.kept[i].mapped = nil
		}
	}
}

// retired is how many old files are still mapped.
func (s *series) retired() int {
	n := 0
	for _, o := range s.kept {
		if o.mapped != nil {
			n++
		}
	}
	return n
}
