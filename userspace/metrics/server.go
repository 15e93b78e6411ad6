package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
)

// Config says where to serve, and what. All but WebConfig and Home are needed.
type Config struct {
	Listen    string       // host:port; anything but loopback needs WebConfig
	WebConfig string       // file with TLS and users, in the form of Prometheus exporter-toolkit
	Collector *Collector   // the ledger's
	Ready     func() error // why packets are not being received; nil when they are
	Home      http.Handler // what is at /; nil: a page that names the others
	Log       *slog.Logger // what went wrong with a request
}

// DefaultListen is the address to serve on when nobody says otherwise.
const DefaultListen = "127.0.0.1:9477"

// Server serves /metrics, /healthz, /readyz and the home page.
type Server struct {
	listener net.Listener
	http     *http.Server
	config   Config
}

// Open takes the address, so that one that cannot be had is known before
// anything else is set up. Nothing is answered before [Server.Run].
func Open(c Config) (*Server, error) {
	addr, err := admit(c.Listen, c.WebConfig)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", c.Listen, err)
	}
	listener, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", c.Listen, cure(err))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		c.Collector,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return &Server{
		listener: listener,
		config:   c,
		http: &http.Server{
			Handler:           c.mux(registry),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		},
	}, nil
}

func (c *Config) mux(registry *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	// A scrape copies the whole ledger: two at a time are plenty.
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 2,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := c.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "receiving")
	})
	if c.Home != nil {
		mux.Handle("/", c.Home)
	} else {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "unspan\n\n/metrics  the ledger, for Prometheus\n/healthz  is the process alive\n/readyz   are packets being received\n")
		})
	}
	return mux
}

// Addr is the address taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run answers requests until ctx ends, lets those under way finish for up to
// five seconds, and closes the server. It runs once.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		done <- s.serve()
	}()
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serving on %s: %w", s.config.Listen, err), s.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // whoever still reads does so for longer than we wait
	}
	err = errors.Join(err, s.Close())
	<-done
	return err
}

func (s *Server) serve() error {
	if s.config.WebConfig == "" {
		return s.http.Serve(s.listener)
	}
	return web.Serve(s.listener, s.http, &web.FlagConfig{WebConfigFile: &s.config.WebConfig}, s.config.Log)
}

// Close gives the address back and cuts what is under way. A second call does
// nothing.
func (s *Server) Close() error {
	err := s.http.Close()
	if closing := s.listener.Close(); !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}
