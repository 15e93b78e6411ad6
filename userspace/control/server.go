package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
)

// Config says where to listen and whom to ask. Path, Ledger and Log are needed.
type Config struct {
	Path   string                          // of the socket
	Ledger func() (ledger.Snapshot, error) // as it stands
	Log    *slog.Logger

	// Flows answers a question about the flows as they are, whose rows have the
	// names that Labels gives; FeedID is the id of a feed's name, 0 when there is
	// none. Flows nil: no flows are rebuilt.
	Flows  func(context.Context, flow.Query) (flow.Answer, error)
	Labels func() *export.Labels
	FeedID func(name string) uint32

	// ShowPolicy prints the policy in force and what its rules have met; nil:
	// the collector has none.
	ShowPolicy func(w io.Writer, asJSON bool) error

	// ApplyPolicy puts a policy file's content in the place of the one in force,
	// which stays when there is an error; name stands in it. It may be called
	// by several goroutines. nil: policies cannot be changed.
	ApplyPolicy func(ctx context.Context, name string, file []byte) error
}

// Server answers on the socket.
type Server struct {
	config   Config
	listener *net.UnixListener
	http     *http.Server

	mu    sync.Mutex // one request at a time: each copies the feed table
	rates Rates
}

// Open takes the socket, so that one that cannot be had is known before anything
// else is set up. Nothing is answered before Run.
func Open(c Config) (*Server, error) {
	listener, err := listen(c.Path)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, listener: listener}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", s.stats)
	mux.HandleFunc("GET /sessions", s.sessions)
	mux.HandleFunc("GET /flows", s.flows)
	mux.HandleFunc("GET /top", s.top)
	mux.HandleFunc("GET /policy", s.showPolicy)
	mux.HandleFunc("PUT /policy", s.applyPolicy)
	s.http = &http.Server{
		Handler:           s.admit(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a policy's filters are compiled one by one
		IdleTimeout:       time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ConnContext:       withPeer,
	}
	return s, nil
}

// Run answers until ctx ends, lets requests under way finish for up to five
// seconds, and removes the socket. It runs once.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(s.listener) }()
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serving on control socket %s: %w", s.config.Path, err), s.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // it is cut by Close
	}
	err = errors.Join(err, s.Close())
	<-done
	return err
}

// Close removes the socket and cuts what is under way. A second call does nothing.
func (s *Server) Close() error {
	err := s.http.Close()
	if closing := s.listener.Close(); !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

// peerKey is where a request's context has the peer of its connection.
type peerKey struct{}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	peer, err := peerOf(conn.(*net.UnixConn))
	if err != nil {
		return ctx // nobody's: not admitted
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// admit lets root and the collector's own user ask, one at a time.
func (s *Server) admit(next http.Handler) http.Handler {
	own := uint32(os.Geteuid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, known := r.Context().Value(peerKey{}).(*unix.Ucred)
		if !known || peer.Uid != 0 && peer.Uid != own {
			http.Error(w, fmt.Sprintf("this collector answers root and user %d: ask as one of them", own), http.StatusForbidden)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	snapshot, err := s.config.Ledger()
	if err != nil {
		unavailable(w, err)
		return
	}
	answer(w, r, func(out io.Writer, asJSON bool) error {
		if asJSON {
			return indented(out, snapshot)
		}
		return snapshot.WriteText(out, ledger.TextOptions{Feeds: 50})
	})
}

func (s *Server) sessions(w http.ResponseWriter, r *http.Request) {
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
	answer(w, r, func(out io.Writer, asJSON bool) error {
		if asJSON {
			return indented(out, &list)
		}
		return list.writeText(out)
	})
}

func (s *Server) showPolicy(w http.ResponseWriter, r *http.Request) {
	if s.config.ShowPolicy == nil {
		http.Error(w, "this collector runs without a policy: every frame is kept", http.StatusNotFound)
		return
	}
	answer(w, r, s.config.ShowPolicy)
}

func (s *Server) applyPolicy(w http.ResponseWriter, r *http.Request) {
	if s.config.ApplyPolicy == nil {
		http.Error(w, "this collector cannot change its policy while it runs", http.StatusNotImplemented)
		return
	}
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPolicy))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		http.Error(w, fmt.Sprintf("the policy has more than %d bytes", maxPolicy), http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "reading the policy: "+err.Error(), http.StatusBadRequest)
		return
	}
	name := r.URL.Query().Get("name")
	if err := s.config.ApplyPolicy(r.Context(), name, file); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.config.Log.Info("policy applied", "file", name)
}

// answer renders in the form that was asked for. What cannot be rendered as a
// whole is an error and not half an answer.
func answer(w http.ResponseWriter, r *http.Request, render func(w io.Writer, asJSON bool) error) {
	asJSON := strings.Contains(r.Header.Get("Accept"), typeJSON)
	var b bytes.Buffer
	if err := render(&b, asJSON); err != nil {
		unavailable(w, err)
		return
	}
	w.Header().Set("Content-Type", typeText)
	if asJSON {
		w.Header().Set("Content-Type", typeJSON)
	}
	_, _ = w.Write(b.Bytes()) // a client that has gone is not told so
}

func unavailable(w http.ResponseWriter, err error) {
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

func indented(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
