package collector

import "sync/atomic"

// limit counts the inner frames of all workers against Config.Count.
type limit struct {
	left   atomic.Int64
	on     bool
	enough chan struct{} // closed when the last one was taken
}

func newLimit(count uint64) *limit {
	l := &limit{on: count > 0, enough: make(chan struct{})}
	l.left.Store(int64(min(count, 1<<62)))
	return l
}

// take reports whether one more is wanted.
func (l *limit) take() bool {
	if !l.on {
		return true
	}
	left := l.left.Add(-1)
	if left == 0 {
		close(l.enough)
	}
	return left >= 0
}
