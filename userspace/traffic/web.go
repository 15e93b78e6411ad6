package traffic

import (
	"fmt"
	"math"
)

// names are those of RFC 2606.
var names = [...]string{
	"www.example.com", "api.example.com", "cdn.example.net", "mail.example.org",
	"static.example.net", "login.example.com", "updates.example.org", "shop.example",
}

func (m *mixer) name() string { return names[m.IntN(len(names))] }

// bodySize is like sizes on the web: mostly small, now and then large. Over a
// path for jumbo frames it fills some.
func (m *mixer) bodySize(p *path) int {
	size := int(200 * math.Exp(1.8*math.Abs(m.NormFloat64())))
	if p.server.mss > 8000 {
		size += 2 * p.server.mss
	}
	return min(m.cfg.MaxBody, size)
}

// http is a few requests over one connection.
func (m *mixer) http(p *path) {
	name := m.name()
	c := m.dial(p, 80)
	for i := range m.between(1, 3) {
		c.send(false, fmt.Appendf(nil, "GET /files/%d.bin HTTP/1.1\r\nHost: %s\r\nUser-Agent: unspan-traffic\r\nAccept: */*\r\n\r\n", i, name))
		body := m.bytes(m.bodySize(p))
		c.send(true, append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: unspan-traffic\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", len(body)), body...))
	}
	c.close()
}

// tls is a TLS 1.3 connection (RFC 8446): a readable hello each way, ciphertext
// after that.
func (m *mixer) tls(p *path) {
	c := m.dial(p, 443)
	session := m.bytes(32)
	c.send(false, m.clientHello(m.name(), session))
	flight := m.serverHello(session)
	flight = append(flight, 20, 3, 3, 0, 1, 1) // change cipher spec, for middleboxes
	flight = m.appendCiphertext(flight, 64)
	flight = m.appendCiphertext(flight, m.between(2200, 3800)) // certificates
	c.send(true, m.appendCiphertext(flight, 74))
	c.send(false, m.appendCiphertext([]byte{20, 3, 3, 0, 1, 1}, 53))
	for range m.between(1, 3) {
		c.send(false, m.appendCiphertext(nil, m.between(80, 700)))
		var answer []byte
		for left := m.bodySize(p); left > 0; left -= 16384 {
			answer = m.appendCiphertext(answer, min(left, 16384)+17)
		}
		c.send(true, answer)
	}
	c.send(false, m.appendCiphertext(nil, 19)) // close notify
	c.close()
}

// appendCiphertext appends a record of application data.
func (m *mixer) appendCiphertext(b []byte, n int) []byte {
	b = append(b, 23, 3, 3)
	b = be.AppendUint16(b, uint16(n))
	return append(b, m.bytes(n)...)
}

// clientHello is a record with a ClientHello that names the server (RFC 6066, 3).
func (m *mixer) clientHello(name string, session []byte) []byte {
	var hello []byte
	hello = append(hello, 3, 3)
	hello = append(hello, m.bytes(32)...)
	hello = appendVector8(hello, session)
	hello = appendVector16(hello, []byte{0x13, 0x01, 0x13, 0x02, 0x13, 0x03, 0xc0, 0x2b, 0xc0, 0x2f})
	hello = append(hello, 1, 0) // no compression

	var extensions []byte
	extensions = appendExtension(extensions, 0, appendVector16(nil, appendVector16([]byte{0}, []byte(name))))
	extensions = appendExtension(extensions, 10, appendVector16(nil, []byte{0x00, 0x1d, 0x00, 0x17})) // x25519, P-256
	extensions = appendExtension(extensions, 13, appendVector16(nil, []byte{0x04, 0x03, 0x08, 0x04, 0x04, 0x01}))
	extensions = appendExtension(extensions, 16, appendVector16(nil, append(appendVector8(nil, []byte("h2")), appendVector8(nil, []byte("http/1.1"))...)))
	extensions = appendExtension(extensions, 43, appendVector8(nil, []byte{3, 4})) // TLS 1.3
	extensions = appendExtension(extensions, 51, appendVector16(nil, appendVector16([]byte{0x00, 0x1d}, m.bytes(32))))
	return handshake(1, appendVector16(hello, extensions))
}

func (m *mixer) serverHello(session []byte) []byte {
	var hello []byte
	hello = append(hello, 3, 3)
	hello = append(hello, m.bytes(32)...)
	hello = appendVector8(hello, session)
	hello = append(hello, 0x13, 0x01, 0)
	extensions := appendExtension(nil, 43, []byte{3, 4})
	extensions = appendExtension(extensions, 51, appendVector16([]byte{0x00, 0x1d}, m.bytes(32)))
	return handshake(2, appendVector16(hello, extensions))
}

// handshake is a record with one handshake message.
func handshake(kind byte, body []byte) []byte {
	message := append([]byte{kind, 0}, be.AppendUint16(nil, uint16(len(body)))...)
	return append([]byte{22, 3, 1}, appendVector16(nil, append(message, body...))...)
}

func appendExtension(b []byte, kind uint16, body []byte) []byte {
	return appendVector16(be.AppendUint16(b, kind), body)
}

// appendVector8 and appendVector16 append a vector behind its length (RFC 8446, 3.4).
func appendVector8(b, vector []byte) []byte {
	return append(append(b, byte(len(vector))), vector...)
}

func appendVector16(b, vector []byte) []byte {
	return append(be.AppendUint16(b, uint16(len(vector))), vector...)
}
