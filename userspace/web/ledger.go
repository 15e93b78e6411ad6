package web

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/control"
	"github.com/unspan/unspan/userspace/ledger"
)

const (
	fresh    = 500 * time.Millisecond // a reading is given to all who ask within it
	shortest = time.Second            // the shortest time that a rate is taken over
)

// The ledger as the page draws it: the lines in their order, with the titles
// that the terminal prints and the boxes that it would.
type (
	ledgerAnswer struct {
		Subject string            `json:"subject"`
		Start   time.Time         `json:"start"`
		Seconds float64           `json:"seconds"`
		Final   bool              `json:"final"`
		Adds    bool              `json:"adds_up"`
		Over    float64           `json:"rate_seconds"` // the time that rates are means over
		Lines   []lineAnswer      `json:"lines"`
		Feeds   []control.Session `json:"feeds"` // busiest first
		Known   int               `json:"feeds_known"`
		Flows   bool              `json:"flows"` // there are flow tables to ask
	}

	lineAnswer struct {
		Name    string      `json:"name"`
		Title   string      `json:"title"`
		In      boxAnswer   `json:"in"`
		Boxes   []boxAnswer `json:"boxes"`
		Balance int64       `json:"balance"` // in less boxes
		Adds    bool        `json:"adds_up"`
		Notes   []string    `json:"notes,omitempty"`
	}

	boxAnswer struct {
		Name    string  `json:"name"`
		Title   string  `json:"title"`
		Kind    string  `json:"kind,omitempty"` // not of the left side
		Packets uint64  `json:"packets"`
		Bytes   uint64  `json:"bytes,omitempty"`
		Rate    float64 `json:"rate"` // packets a second
	}
)

// boxKey names a box of the ledger: line and box, an empty box the left side.
type boxKey struct{ line, box string }

// reading is what was in the boxes at a time of the run.
type reading struct {
	at    time.Duration
	boxes map[boxKey]uint64
}

// sampler reads the ledger for all who look, and remembers two readings to take
// rates from: the latest one, and the one before, for whoever looks at once.
type sampler struct {
	read func() (ledger.Snapshot, error)

	mu             sync.Mutex
	taken          time.Time // when the answer was made; zero: there is none
	answer         ledgerAnswer
	before, latest reading
	feeds          control.Rates
}

// look returns the ledger with all feeds. The answer is shared: to be read only.
func (s *sampler) look(now time.Time) (ledgerAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.taken.IsZero() && now.Sub(s.taken) < fresh {
		return s.answer, nil
	}
	snapshot, err := s.read()
	if err != nil {
		return ledgerAnswer{}, err
	}
	var clock unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock); err != nil {
		return ledgerAnswer{}, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	lines := snapshot.Lines()
	over := s.note(snapshot.Elapsed, lines)
	s.taken = now
	s.answer = ledgerAnswer{
		Subject: snapshot.Subject, Start: snapshot.Start, Seconds: snapshot.Elapsed.Seconds(),
		Final: snapshot.Final, Adds: true, Over: over,
		Feeds: s.feeds.List(&snapshot, uint64(clock.Nano())).Sessions, Known: len(snapshot.Feeds),
	}
	for i := range lines {
		l := s.line(&lines[i], over)
		s.answer.Lines = append(s.answer.Lines, l)
		s.answer.Adds = s.answer.Adds && l.Adds
	}
	return s.answer, nil
}

// note remembers a reading and returns the seconds since the one before.
func (s *sampler) note(at time.Duration, lines []ledger.Line) float64 {
	if at-s.latest.at >= shortest {
		this := reading{at: at, boxes: map[boxKey]uint64{}}
		for i := range lines {
			this.boxes[boxKey{line: lines[i].Name}] = lines[i].In.Packets
			for _, b := range lines[i].Boxes {
				this.boxes[boxKey{lines[i].Name, b.Name}] = b.Packets
			}
		}
		s.before, s.latest = s.latest, this
	}
	return (at - s.before.at).Seconds()
}

// line has the boxes that the terminal prints: those that are not empty, or the
// first when all are.
func (s *sampler) line(l *ledger.Line, over float64) lineAnswer {
	answer := lineAnswer{
		Name: l.Name, Title: l.Title, Balance: l.Balance(), Adds: l.Adds(), Notes: l.Notes,
		In: s.box(l.Name, "", &l.In, over),
	}
	answer.In.Name, answer.In.Kind = l.In.Name, ""
	for i := range l.Boxes {
		if b := &l.Boxes[i]; b.Packets > 0 {
			answer.Boxes = append(answer.Boxes, s.box(l.Name, b.Name, b, over))
		}
	}
	if answer.Boxes == nil {
		answer.Boxes = []boxAnswer{s.box(l.Name, l.Boxes[0].Name, &l.Boxes[0], over)}
	}
	return answer
}

func (s *sampler) box(line, name string, b *ledger.Box, over float64) boxAnswer {
	answer := boxAnswer{Name: b.Name, Title: b.Title, Kind: b.Kind.String(), Packets: b.Packets, Bytes: b.Bytes}
	// What was lost falls when it comes late after all: that is no rate.
	if before := s.before.boxes[boxKey{line, name}]; over > 0 && b.Packets > before {
		answer.Rate = float64(b.Packets-before) / over
	}
	return answer
}

func (p *Page) ledger(w http.ResponseWriter, r *http.Request) {
	rows, err := limit(r, 50, 1000)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	answer, err := p.sampler.look(time.Now())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	answer.Feeds = answer.Feeds[:min(rows, len(answer.Feeds))]
	answer.Flows = p.config.Flows != nil
	p.answer(w, &answer)
}
