// Package web is the page to look at a running collector: what comes in, what
// was lost and where, and who talks to whom.
//
//	/            the page, its style and its script: files of this package
//	/api/ledger  the lines of the ledger and the busiest feeds, with rates
//	/api/flows   talkers, services, conversations: a question to the flow tables
//
// The page needs nothing from elsewhere and may not ask for it: the headers
// forbid every other source, and markup made from strings. What the network
// says (names, addresses) reaches the page as JSON and becomes text, never
// markup.
//
// Nothing is computed while nobody looks. However many look, the ledger is read
// at most twice a second and two questions are with the flow tables at once.
package web

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"
)

// Config says where the page has its numbers from. Ledger and Log are needed.
type Config struct {
	Ledger func() (ledger.Snapshot, error)
	// Flows answers a question to the flow tables; nil when none are kept.
	Flows  func(context.Context, flow.Query) (flow.Answer, error)
	Labels func() *export.Labels    // what rows have as numbers; needed with Flows
	FeedID func(name string) uint32 // 0: no such feed; needed with Flows
	// Guarded says that whoever asks has shown a password or a certificate.
	// If not, only requests to an address or to localhost are answered.
	Guarded bool
	Log     *slog.Logger // what went wrong with a request
}

func (c *Config) validate() error {
	switch {
	case c.Ledger == nil:
		return errors.New("setting up the web page: no ledger given")
	case c.Flows != nil && (c.Labels == nil || c.FeedID == nil):
		return errors.New("setting up the web page: flows without labels and feeds")
	case c.Log == nil:
		return errors.New("setting up the web page: no log given")
	}
	return nil
}

//go:embed page
var page embed.FS

// Page answers requests for the page and for its numbers. It is safe for use by
// any number of goroutines.
type Page struct {
	config  Config
	mux     *http.ServeMux
	sampler sampler
	asking  chan struct{} // held by who asks the flow tables
}

// New makes the page. It holds nothing that must be closed.
func New(c Config) (*Page, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	files, err := fs.Sub(page, "page")
	if err != nil {
		return nil, err
	}
	p := &Page{config: c, mux: http.NewServeMux(), asking: make(chan struct{}, questions)}
	p.sampler.read = c.Ledger
	p.mux.Handle("GET /", http.FileServerFS(files))
	p.mux.HandleFunc("GET /api/ledger", p.ledger)
	p.mux.HandleFunc("GET /api/flows", p.flows)
	return p, nil
}

// headers of every answer. Nothing from elsewhere is loaded, nobody frames the
// page or reads its numbers from another origin, and a script that turns a
// string into markup fails (W3C Content Security Policy 3, Trusted Types).
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-cache", // a new version is seen at once
}

// ServeHTTP answers a request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if !p.config.Guarded && !local(r.Host) {
		fail(w, http.StatusMisdirectedRequest, errors.New("this page answers to its address and to localhost only: ask for it by one of them"))
		return
	}
	p.mux.ServeHTTP(w, r)
}

// local reports whether a request was made to an address or to localhost, or
// to nobody by name (HTTP/1.0): no browser does that. A page
// from elsewhere whose name was pointed at this machine after it was loaded (DNS
// rebinding) asks by that name, and would read who talks on the network.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 6.3
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// limit reads how many rows are asked for.
func limit(r *http.Request, normal, most int) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return normal, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, errors.New("limit is not a number above 0: leave it out, or give one up to " + strconv.Itoa(most))
	}
	return min(n, most), nil
}

// answer writes a value as JSON.
func (p *Page) answer(w http.ResponseWriter, value any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(value); err != nil {
		p.config.Log.Warn("answering the web page", "err", err)
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // whoever has gone does not want it
}

// fail says why there is no answer, in the form of one.
func fail(w http.ResponseWriter, status int, err error) {
	text, _ := json.Marshal(map[string]string{"error": err.Error()}) // strings always can
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // as above
}
