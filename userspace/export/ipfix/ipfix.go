// Package ipfix exports flow records by IPFIX (RFC 7011) over UDP or TCP.
//
// A flow is one record with both directions (RFC 5103). Records go out under an
// observation domain; what was sampled 1 in N goes out under another one, next
// to the first, whose options say N and whose counts are those observed: so a
// collector scales it right and leaves the rest alone, even one that knows but
// one rate per domain.
//
// Over UDP templates and options are sent again and again, for nobody says
// whether they arrived; over TCP once per connection.
package ipfix

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/unspan/unspan/userspace/flow"
)

// Config says where to and how.
type Config struct {
	// Network is "udp" or "tcp".
	Network string
	// Address is the collector's host:port; IANA's port for IPFIX is 4739.
	Address string
	// Domain is the observation domain of unsampled flows; the 15 above it are
	// taken for sampled ones, one per sampling factor.
	Domain uint32
	// Templates is how often templates are sent again over UDP.
	Templates time.Duration
	// Message is the largest message in bytes. Over UDP it should fit a packet:
	// fragments are lost together.
	Message int
	// Timeout bounds connecting and each write.
	Timeout time.Duration
}

// Default fits a message into an Ethernet packet of a tunnelled path.
func Default() Config {
	return Config{
		Network:   "udp",
		Domain:    1,
		Templates: 30 * time.Second,
		Message:   1400,
		Timeout:   5 * time.Second,
	}
}

const (
	headerLength = 16
	// minMessage holds the templates.
	minMessage = 512
	// burst is how many datagrams go out before a pause of a millisecond: a
	// collector's socket with Linux's default buffer holds about 90.
	burst = 32
	// maxDomains is how many sampling factors get a domain of their own.
	maxDomains = 16
)

func (c *Config) validate() error {
	switch {
	case c.Network != "udp" && c.Network != "tcp":
		return fmt.Errorf("IPFIX network: %q is neither udp nor tcp", c.Network)
	case c.Templates <= 0:
		return fmt.Errorf("IPFIX template interval: %v is not above 0", c.Templates)
	case c.Message < minMessage || c.Message > 65535:
		return fmt.Errorf("IPFIX message: %d is not between %d and 65535", c.Message, minMessage)
	case c.Timeout <= 0:
		return fmt.Errorf("IPFIX timeout: %v is not above 0", c.Timeout)
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("IPFIX address %q: %w", c.Address, err)
	}
	return nil
}

// Sink sends records to one collector. One goroutine owns it.
type Sink struct {
	config  Config
	conn    net.Conn
	domains []*domain
	message []byte
}

// domain is an observation domain of this connection.
type domain struct {
	id        uint32
	weight    uint32 // flows of this sampling factor
	sequence  uint32 // data records sent
	templates time.Time
}

// New makes a sink that connects when there is something to send.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Sink{config: config}, nil
}

// Write sends records. Over UDP that says nothing about their arrival; a
// collector that is not there is noticed from the second message on, when its
// host says so.
func (s *Sink) Write(ctx context.Context, records []flow.Flow) (int, error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	// A collector that does not read must not hold up the end.
	defer context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) })()
	sent := 0
	for messages := 1; sent < len(records); messages++ {
		if s.config.Network == "udp" && messages%burst == 0 {
			time.Sleep(time.Millisecond)
		}
		n, err := s.send(s.domainOf(&records[sent]), records[sent:])
		if err != nil {
			return sent, errors.Join(err, s.disconnect())
		}
		sent += n
	}
	return sent, s.refresh()
}

// Close ends the connection.
func (s *Sink) Close() error { return s.disconnect() }

func (s *Sink) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: s.config.Timeout}
	conn, err := dialer.DialContext(ctx, s.config.Network, s.config.Address)
	if err != nil {
		return fmt.Errorf("connecting to IPFIX collector: %w", err)
	}
	s.conn = conn
	s.domains = nil // a new transport session: sequence and templates begin anew
	return nil
}

func (s *Sink) disconnect() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// domainOf returns the domain for a flow's sampling factor.
func (s *Sink) domainOf(f *flow.Flow) *domain {
	weight := max(f.Weight, 1)
	if len(s.domains) == 0 {
		s.domains = append(s.domains, &domain{id: s.config.Domain, weight: 1})
	}
	for _, d := range s.domains {
		if d.weight == weight {
			return d
		}
	}
	if len(s.domains) == maxDomains {
		// The last domain changes its factor, and says so first.
		d := s.domains[maxDomains-1]
		d.weight, d.templates = weight, time.Time{}
		return d
	}
	d := &domain{id: s.config.Domain + uint32(len(s.domains)), weight: weight}
	s.domains = append(s.domains, d)
	return d
}

// refresh sends templates that are due though there is no record.
func (s *Sink) refresh() error {
	for _, d := range s.domains {
		if d.templates.IsZero() || s.config.Network == "udp" && time.Since(d.templates) >= s.config.Templates {
			if _, err := s.send(d, nil); err != nil {
				return errors.Join(err, s.disconnect())
			}
		}
	}
	return nil
}

// send sends one message of the first records, as many as fit and belong to the
// domain, and returns how many.
func (s *Sink) send(d *domain, records []flow.Flow) (int, error) {
	b := append(s.message[:0], make([]byte, headerLength)...)
	options := uint32(0)
	if d.templates.IsZero() || s.config.Network == "udp" && time.Since(d.templates) >= s.config.Templates {
		b = appendTemplates(b)
		if d.weight > 1 {
			b = appendSampling(b, d.id, d.weight)
			options = samplingRecords
		}
		d.templates = time.Now()
	}
	n, set, setID := 0, 0, uint16(0)
	for n < len(records) && max(records[n].Weight, 1) == d.weight {
		f := &records[n]
		id, fields, length := templateOf(f)
		if id != setID {
			length += 4
		}
		if len(b)+length > s.config.Message {
			break
		}
		if id != setID {
			if setID != 0 {
				endSet(b, set)
			}
			set, setID = len(b), id
			b = appendSetHeader(b, id)
		}
		for _, e := range fields {
			b = e.append(b, f)
		}
		n++
	}
	if setID != 0 {
		endSet(b, set)
	}
	s.message = b

	binary.BigEndian.PutUint16(b, 10) // version
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], uint32(time.Now().Unix()))
	binary.BigEndian.PutUint32(b[8:], d.sequence)
	binary.BigEndian.PutUint32(b[12:], d.id)
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.config.Timeout)); err != nil {
		return 0, fmt.Errorf("sending IPFIX: %w", err)
	}
	if _, err := s.conn.Write(b); err != nil {
		return 0, fmt.Errorf("sending IPFIX: %w", err)
	}
	d.sequence += uint32(n) + options
	return n, nil
}
