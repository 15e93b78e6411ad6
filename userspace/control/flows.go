package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/view"
)

// Looking is a question to the flow tables as it is asked over the socket.
type Looking struct {
	By, Order string // see view.Group and view.Order; "": by flow, most rate first
	Limit     int    // rows; 0: as many as the collector likes
	Search    string // see view.Search
	Feeds     int    // of top: rows of its table of feeds
}

func (l *Looking) values() string {
	v := url.Values{"by": {l.By}, "order": {l.Order}, "q": {l.Search}}
	if l.Limit > 0 {
		v.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.Feeds > 0 {
		v.Set("feeds", strconv.Itoa(l.Feeds))
	}
	return v.Encode()
}

// someRows is how many rows there are when nobody says how many.
const someRows = 25

// query reads a question.
func (s *Server) query(r *http.Request) (q flow.Query, err error) {
	var errs [4]error
	q.By, errs[0] = view.Group(r.FormValue("by"))
	q.Order, errs[1] = view.Order(r.FormValue("order"))
	q.Limit, errs[2] = number(r, "limit", someRows)
	q.Match, errs[3] = view.Search(r.FormValue("q"), s.config.FeedID)
	return q, errors.Join(errs[:]...)
}

// number reads a parameter that is a number above 0.
func number(r *http.Request, name string, normal int) (int, error) {
	text := r.FormValue(name)
	if text == "" {
		return normal, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s %q is not a number above 0", name, text)
	}
	return n, nil
}

// errNoFlows is said where none are rebuilt.
var errNoFlows = errors.New("this collector does not rebuild flows: start it with --flows")

func (s *Server) flows(w http.ResponseWriter, r *http.Request) {
	if s.config.Flows == nil {
		http.Error(w, errNoFlows.Error(), http.StatusNotFound)
		return
	}
	q, err := s.query(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found, err := s.config.Flows(r.Context(), q)
	if err != nil {
		unavailable(w, err)
		return
	}
	answer(w, r, func(out io.Writer, asJSON bool) error {
		if asJSON {
			return indented(out, view.Of(&found, s.config.Labels()))
		}
		return view.WriteText(out, &found, q.By, s.config.Labels(), true)
	})
}

// top is a screen: what is lost, the busiest feeds, and flows if there are any.
func (s *Server) top(w http.ResponseWriter, r *http.Request) {
	feeds, err := number(r, "feeds", someRows)
	q, queryErr := s.query(r)
	if err = errors.Join(err, queryErr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	snapshot, err := s.config.Ledger()
	if err != nil {
		unavailable(w, err)
		return
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		unavailable(w, fmt.Errorf("reading the monotonic clock: %w", err))
		return
	}
	list := s.rates.List(&snapshot, uint64(now.Nano()))
	more := max(0, len(list.Sessions)-feeds)
	list.Sessions = list.Sessions[:len(list.Sessions)-more]

	var b bytes.Buffer
	err = list.writeText(&b)
	if more > 0 {
		fmt.Fprintf(&b, "And %d more.\n", more)
	}
	b.WriteByte('\n')
	snapshot.WriteLosses(&b)
	if s.config.Flows == nil {
		fmt.Fprintln(&b, "No flows:", errNoFlows)
	} else {
		found, asked := s.config.Flows(r.Context(), q)
		if asked == nil {
			asked = view.WriteText(&b, &found, q.By, s.config.Labels(), true)
		}
		err = errors.Join(err, asked)
	}
	answer(w, r, func(out io.Writer, asJSON bool) error {
		if err == nil {
			_, err = out.Write(b.Bytes())
		}
		return err
	})
}
