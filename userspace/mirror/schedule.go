package mirror

// A schedule is the order in which the packets of all feeds leave, faults
// included. Both senders follow it: one asks for packet after packet, the other
// unrolls a pass and repeats it.
type schedule struct {
	feeds []feedSchedule
	order []ref // one round over all frames
	at    int   // next in order
	ready []event
}

// ref names one frame of one feed.
type ref struct {
	feed  uint32
	frame uint32
}

// event is one packet to send.
type event struct {
	ref
	number uint64 // of the feed, counted from 0
	kind   kind
}

// kind says what a packet means to whoever counts sequence numbers.
type kind uint8

const (
	onTime kind = iota
	late        // sent after its successor
	again       // sent a second time
)

// feedSchedule is the state of one feed.
type feedSchedule struct {
	lose, duplicate, reorder int
	next                     uint64 // number of the next packet
	held                     event
	holding                  bool
}

// newSchedule interleaves the feeds so that each advances evenly through its
// frames.
func newSchedule(feeds []plannedFeed) *schedule {
	s := &schedule{feeds: make([]feedSchedule, len(feeds))}
	total := 0
	for i, f := range feeds {
		session := &f.wrapper.session
		s.feeds[i].lose = session.LoseEvery
		s.feeds[i].duplicate = session.DuplicateEvery
		s.feeds[i].reorder = session.ReorderEvery
		total += len(f.usable)
	}
	s.order = make([]ref, 0, total)
	taken := make([]int, len(feeds))
	for range total {
		// The feed whose next frame lies earliest in the round: (taken + 1/2) / length.
		first := -1
		for i := range feeds {
			if taken[i] == len(feeds[i].usable) {
				continue
			}
			if first < 0 || (2*taken[i]+1)*len(feeds[first].usable) < (2*taken[first]+1)*len(feeds[i].usable) {
				first = i
			}
		}
		s.order = append(s.order, ref{uint32(first), feeds[first].usable[taken[first]]})
		taken[first]++
	}
	return s
}

// every reports whether the n-th packet, counted from 1, is one of 1 in period.
func every(n uint64, period int) bool { return period > 0 && n%uint64(period) == 0 }

// next is the next packet to send; false at the end of a round, after which the
// next round begins. There must be frames.
func (s *schedule) next() (event, bool) {
	for len(s.ready) == 0 {
		if s.at == len(s.order) {
			s.at = 0
			return event{}, false
		}
		s.advance(s.order[s.at])
		s.at++
		if s.at == len(s.order) {
			s.release()
		}
	}
	e := s.ready[0]
	s.ready = append(s.ready[:0], s.ready[1:]...)
	return e, true
}

// advance takes the next frame of a feed and decides what becomes of it.
func (s *schedule) advance(r ref) {
	f := &s.feeds[r.feed]
	e := event{ref: r, number: f.next}
	f.next++
	switch n := f.next; {
	case every(n, f.lose):
		return
	case every(n, f.reorder) && !f.holding:
		f.held, f.holding = e, true
		return
	case every(n, f.duplicate):
		copied := e
		copied.kind = again
		s.ready = append(s.ready, e, copied)
	default:
		s.ready = append(s.ready, e)
	}
	if f.holding {
		f.held.kind = late
		s.ready = append(s.ready, f.held)
		f.holding = false
	}
}

// release sends what is still held, so that a round is complete in itself.
func (s *schedule) release() {
	for i := range s.feeds {
		if f := &s.feeds[i]; f.holding {
			s.ready = append(s.ready, f.held)
			f.holding = false
		}
	}
}

// inPhase reports whether the next round would bring the same faults as the
// first one.
func (s *schedule) inPhase() bool {
	for _, f := range s.feeds {
		for _, period := range []int{f.lose, f.duplicate, f.reorder} {
			if period > 0 && !every(f.next, period) {
				return false
			}
		}
	}
	return true
}

// unroll is one pass that may be repeated as it is: so many rounds that the
// faults come out even, or as many as most packets allow. strides says how many
// numbers each feed uses up in the pass.
func (s *schedule) unroll(rounds, most int) (pass []event, strides []uint64) {
	for round := 1; ; round++ {
		for {
			e, ok := s.next()
			if !ok {
				break
			}
			pass = append(pass, e)
		}
		if round == rounds || s.inPhase() || len(pass)+len(s.order) > most {
			break
		}
	}
	for _, f := range s.feeds {
		strides = append(strides, f.next)
	}
	return pass, strides
}
