package export

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unspan/unspan/userspace/flow"
)

// queue is where records wait for one sink. It is far from the packets: a lock
// is all it needs.
type queue struct {
	ready chan struct{} // something to take, or the end
	room  chan struct{} // something was taken

	mu      sync.Mutex
	records []flow.Flow
	head    int
	waiting int
	written uint64
	dropped uint64
	ended   bool
}

func newQueue(records int) *queue {
	return &queue{
		ready:   make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		records: make([]flow.Flow, records),
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// offer takes what there is room for and drops the rest.
func (q *queue) offer(batch []flow.Flow) {
	if len(batch) == 0 {
		return
	}
	q.mu.Lock()
	n := q.push(batch)
	q.dropped += uint64(len(batch) - n)
	q.mu.Unlock()
	signal(q.ready)
}

// again is how long put waits before it looks again whether the sink fails.
const again = 10 * time.Millisecond

// put waits for room for one record, unless the sink fails.
func (q *queue) put(ctx context.Context, failing *atomic.Bool, f *flow.Flow) {
	one := []flow.Flow{*f}
	for {
		q.mu.Lock()
		n := q.push(one)
		if n == 0 && (ctx.Err() != nil || failing.Load()) {
			q.dropped++
			n = 1
		}
		q.mu.Unlock()
		signal(q.ready)
		if n == 1 {
			return
		}
		timer := time.NewTimer(again)
		select {
		case <-q.room:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// push copies in as many as fit. The lock is held.
func (q *queue) push(batch []flow.Flow) int {
	n := min(len(batch), len(q.records)-q.waiting)
	for i := range n {
		q.records[(q.head+q.waiting+i)%len(q.records)] = batch[i]
	}
	q.waiting += n
	return n
}

// peek copies out the oldest records; they wait until they are done with.
func (q *queue) peek(batch []flow.Flow) (n int, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(len(batch), q.waiting)
	for i := range n {
		batch[i] = q.records[(q.head+i)%len(q.records)]
	}
	return n, q.ended
}

// done takes the oldest n records out: they were written.
func (q *queue) done(n int) {
	q.mu.Lock()
	q.written += uint64(n)
	q.head = (q.head + n) % len(q.records)
	q.waiting -= n
	q.mu.Unlock()
	signal(q.room)
}

// end says that nothing more will be offered.
func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	signal(q.ready)
}

// abandon drops all that waits.
func (q *queue) abandon() {
	q.mu.Lock()
	q.dropped += uint64(q.waiting)
	q.waiting = 0
	q.mu.Unlock()
}

func (q *queue) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Written: q.written, Dropped: q.dropped, Waiting: uint64(q.waiting)}
}
