package traffic

import "time"

// Flags of a TCP segment.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// tcp is one connection.
type tcp struct {
	m                      *mixer
	path                   *path
	clientPort, serverPort uint16
	clientNext, serverNext uint32 // sequence numbers
}

// dial opens a connection: SYN, SYN-ACK, ACK.
func (m *mixer) dial(p *path, port uint16) *tcp {
	c := &tcp{
		m: m, path: p,
		clientPort: uint16(m.between(32768, 60999)), serverPort: port,
		clientNext: m.Uint32(), serverNext: m.Uint32(),
	}
	mss := be.AppendUint16([]byte{2, 4}, uint16(p.client.mss)) // RFC 9293, 3.2
	options := append(mss, 1, 3, 3, 7, 4, 2, 1, 1)             // window scale 7, SACK permitted
	c.segment(false, syn, options, nil)
	m.wait(p.delay)
	c.segment(true, syn|ack, options, nil)
	m.wait(30 * time.Microsecond)
	c.segment(false, ack, nil, nil)
	return c
}

// segment sends one segment and moves the sequence number on.
func (c *tcp) segment(fromServer bool, flags byte, options, payload []byte) {
	from, to := c.path.ends(fromServer)
	fromPort, toPort := c.clientPort, c.serverPort
	next, acknowledged := &c.clientNext, c.serverNext
	if fromServer {
		fromPort, toPort = toPort, fromPort
		next, acknowledged = &c.serverNext, c.clientNext
	}
	if flags&ack == 0 {
		acknowledged = 0
	}
	s := tcpSegment(from.address, to.address, fromPort, toPort, *next, acknowledged, flags, options, payload)
	*next += uint32(len(payload))
	if flags&(syn|fin) != 0 {
		*next++
	}
	c.m.emit(c.path.packet(fromServer, protocolTCP, s))
}

// send transfers data. The other side acknowledges every second segment and the
// last (RFC 9293, 3.8.6.3).
func (c *tcp) send(fromServer bool, data []byte) {
	from, _ := c.path.ends(fromServer)
	c.m.wait(c.path.delay)
	for i := 1; len(data) > 0; i++ {
		part := data[:min(from.mss, len(data))]
		data = data[len(part):]
		flags := byte(ack)
		if len(data) == 0 {
			flags |= psh
		}
		c.segment(fromServer, flags, nil, part)
		c.m.wait(15 * time.Microsecond)
		if i%2 == 0 || len(data) == 0 {
			c.segment(!fromServer, ack, nil, nil)
		}
	}
}

// close ends the connection from both sides.
func (c *tcp) close() {
	c.m.wait(c.path.delay)
	c.segment(false, fin|ack, nil, nil)
	c.m.wait(c.path.delay)
	c.segment(true, fin|ack, nil, nil)
	c.m.wait(30 * time.Microsecond)
	c.segment(false, ack, nil, nil)
}

// refused is a connection to a port where nobody listens.
func (m *mixer) refused(p *path) {
	c := &tcp{m: m, path: p, clientPort: uint16(m.between(32768, 60999)), serverPort: 8443, clientNext: m.Uint32()}
	c.segment(false, syn, []byte{2, 4, 5, 0xb4}, nil)
	m.wait(p.delay)
	c.segment(true, rst|ack, nil, nil)
}
