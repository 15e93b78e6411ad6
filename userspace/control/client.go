package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Client asks the collector behind a socket.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client; nothing is connected before the first question.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true, // a question a connection
	}}}
}

// Stats prints the ledger.
func (c *Client) Stats(ctx context.Context, w io.Writer, asJSON bool) error {
	return c.get(ctx, "/stats", w, asJSON)
}

// Sessions prints the feeds.
func (c *Client) Sessions(ctx context.Context, w io.Writer, asJSON bool) error {
	return c.get(ctx, "/sessions", w, asJSON)
}

// Flows prints flows, or what they add up to.
func (c *Client) Flows(ctx context.Context, w io.Writer, l Looking, asJSON bool) error {
	return c.get(ctx, "/flows?"+l.values(), w, asJSON)
}

// Top prints a screen of feeds, losses and flows.
func (c *Client) Top(ctx context.Context, w io.Writer, l Looking) error {
	return c.get(ctx, "/top?"+l.values(), w, false)
}

// Policy prints the policy in force.
func (c *Client) Policy(ctx context.Context, w io.Writer, asJSON bool) error {
	return c.get(ctx, "/policy", w, asJSON)
}

// ApplyPolicy puts a policy file's content into force; name stands in errors.
func (c *Client) ApplyPolicy(ctx context.Context, name string, file []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://unspan/policy?name="+url.QueryEscape(name), bytes.NewReader(file))
	if err != nil {
		return err
	}
	return c.do(r, io.Discard)
}

func (c *Client) get(ctx context.Context, resource string, w io.Writer, asJSON bool) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unspan"+resource, nil)
	if err != nil {
		return err
	}
	if asJSON {
		r.Header.Set("Accept", typeJSON)
	}
	return c.do(r, w)
}

// do asks, and copies the answer to w; the text of an error is the error.
func (c *Client) do(r *http.Request, w io.Writer) error {
	response, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, maxError))
		if err != nil {
			return c.explain(err)
		}
		return errors.New(strings.TrimSpace(string(text)))
	}
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.path, err)
	}
	return nil
}

func (c *Client) explain(err error) error {
	err = bare(err)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("no collector answers on %s: start one: unspan run -i %s", c.path, interfaceOf(c.path))
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("asking the collector on %s: %w: run as root, or as the collector's user", c.path, err)
	}
	return fmt.Errorf("asking the collector on %s: %w", c.path, err)
}

// Find gives the socket of the one collector whose socket is in dir.
func Find(dir string) (string, error) {
	none := fmt.Errorf("no collector is running here (nothing answers in %s): start one: unspan run -i IF", dir)
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", none
	case err != nil:
		return "", fmt.Errorf("looking for collectors in %s: %w: run as root, or as the collector's user", dir, bare(err))
	}
	var found, interfaces []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Type() != fs.ModeSocket || filepath.Ext(path) != suffix {
			continue
		}
		conn, err := net.DialTimeout("unix", path, time.Second)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // a killed one's
		}
		if err == nil {
			conn.Close()
		}
		found, interfaces = append(found, path), append(interfaces, interfaceOf(path))
	}
	switch len(found) {
	case 0:
		return "", none
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("collectors are running on %s: name one with -i", strings.Join(interfaces, ", "))
}
