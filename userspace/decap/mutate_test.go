package decap_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/unspan/unspan/userspace/decap"
)

// A mutator makes frames that are nearly right: it knows where the headers of a
// frame begin and what the fields in them mean, and changes few of them.
type mutator struct {
	random *rand.Rand
	seeds  []mutationSeed
	frame  []byte
}

// mutationSeed is a frame and where its fields are.
type mutationSeed struct {
	frame   []byte
	fields  []field
	headers []int // where each header begins, the inner frame the last
}

// field is a part of a header: values are those at which something changes.
type field struct {
	at, size int
	values   []uint64
}

// Values at which parsers turn, by field.
var (
	anyBytes     = []uint64{0, 1, 7, 8, 0x7f, 0x80, 0xff}
	ethertypes   = []uint64{0x0800, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x0806, 0x88cc, 0}
	vlanTags     = []uint64{300, 0xe000 | 300, 0, 5, 4095, 301}
	versionIHL   = []uint64{0x45, 0x44, 0x46, 0x4f, 0x40, 0x55, 0x60, 0x35}
	lengths      = []uint64{0, 1, 7, 8, 19, 20, 21, 23, 24, 28, 40, 60, 0x7fff, 0x8000, 0xffff}
	fragmentBits = []uint64{0, 0x2000, 0x4000, 0x8000, 1, 185, 0x2001, 0x1fff, 0x3fff, 0xffff}
	fragment6Off = []uint64{0, 1, 6, 7, 8, 9, 0xfff8, 0xfff9, 0xfff6}
	protocols    = []uint64{47, 17, 6, 1, 58, 44, 0, 43, 60, 59, 51, 132, 4, 41}
	extensionLen = []uint64{0, 1, 2, 31, 255}
	addresses    = []uint64{0, 7, 8, 9, 10, 127, 128, 255}
	greFlags     = []uint64{0, 0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x9000, 0xb000, 0xf000, 1, 2, 7, 0x1001, 0x0800, 0x0ff8, 0xffff}
	greProtocols = []uint64{0x88be, 0x22eb, 0x6558, 0x0800, 0x86dd, 0x8949, 0x880b, 0x8847, 0}
	sequences    = []uint64{0, 1, 2, 76, 77, 78, 79, 80, 100, 141, 142, 1 << 24, 1<<24 + 77, 1<<30 - 2, 1<<30 - 1, 1 << 30, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	keys         = []uint64{0, 1, 42, 0x02000000, 1<<32 - 1}
	erspanHead   = []uint64{0x1064, 0x2064, 0x0064, 0xf064, 0x1000, 0x2fff, 0x1fff}
	erspanMiddle = []uint64{0, 0x03e8, 0x07e8, 0x0be8, 0x13e8, 0x1be8, 0xe3e8, 0x0400, 0xffff}
	erspan3Flag  = []uint64{0, 1, 8, 9, 0x0800, 0x0801, 0x1c00, 0x8000, 0x8007, 0x0c00, 0x7c00, 0xffff, 2, 4, 6}
	ports        = []uint64{4789, 8472, 6081, 53, 0, 4790, 65535}
	vxlanFlags   = []uint64{0x08, 0x00, 0xf7, 0xff, 0x0c}
	geneveFirst  = []uint64{0, 1, 2, 0x3f, 0x40, 0x80, 0xc0, 0x41}
	geneveSecond = []uint64{0, 0x40, 0x80, 0xc0, 0x3f}
)

// mutationSeeds are the frames that mutations begin with: those of the tables
// here, and of each capture those whose headers no frame before them had.
func mutationSeeds(t testing.TB) []mutationSeed {
	t.Helper()
	var seeds []mutationSeed
	for _, frame := range rowFrames() {
		if len(frame) >= 14 {
			seeds = append(seeds, newSeed(frame))
		}
	}
	_, files := findCaptures(t)
	for _, path := range files {
		shapes := map[string]bool{}
		for _, p := range readCapture(t, path) {
			if p.link != decap.Ethernet || len(p.data) < 14 || len(p.data) > linear-200 {
				continue
			}
			seed := newSeed(p.data)
			if shape := fmt.Sprint(seed.headers); len(seed.headers) > 2 && !shapes[shape] {
				shapes[shape] = true
				seeds = append(seeds, seed)
			}
		}
	}
	return seeds
}

// newSeed finds the headers of a frame, as far as they are where they should be.
func newSeed(frame []byte) mutationSeed {
	w := walk{frame: frame}
	w.ethernet()
	w.header() // where the walk ended: the inner frame
	return mutationSeed{frame, w.fields, w.headers}
}

// walk goes over a frame that is taken to be right.
type walk struct {
	frame   []byte
	at      int
	fields  []field
	headers []int
}

func (w *walk) header() { w.headers = append(w.headers, min(w.at, len(w.frame))) }

// field notes one and returns what is in it.
func (w *walk) field(offset, size int, values []uint64) uint64 {
	at := w.at + offset
	if at+size > len(w.frame) {
		return 0
	}
	w.fields = append(w.fields, field{at, size, values})
	return read(w.frame[at : at+size])
}

func (w *walk) ethernet() {
	w.header()
	ethertype := w.field(12, 2, ethertypes)
	w.at += 14
	for ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100 {
		w.header()
		w.field(0, 2, vlanTags)
		ethertype = w.field(2, 2, ethertypes)
		w.at += 4
	}
	switch ethertype {
	case 0x0800:
		w.ip4()
	case 0x86dd:
		w.ip6()
	}
}

func (w *walk) ip4() {
	w.header()
	size := int(w.field(0, 1, versionIHL)&0xf) * 4
	w.field(2, 2, lengths)
	w.field(5, 1, anyBytes) // low half of the id: few datagrams, many fragments of each
	w.field(6, 2, fragmentBits)
	protocol := w.field(9, 1, protocols)
	w.field(15, 1, addresses)
	w.field(19, 1, addresses)
	w.at += max(size, 20)
	w.transport(protocol)
}

func (w *walk) ip6() {
	w.header()
	w.field(0, 1, versionIHL)
	w.field(4, 2, lengths)
	protocol := w.field(6, 1, protocols)
	w.field(23, 1, addresses)
	w.field(39, 1, addresses)
	w.at += 40
	for range 8 {
		switch protocol {
		case 0, 43, 60:
			w.header()
			protocol = w.field(0, 1, protocols)
			w.at += int(w.field(1, 1, extensionLen)+1) * 8
		case 44:
			w.header()
			protocol = w.field(0, 1, protocols)
			w.field(2, 2, fragment6Off)
			w.field(7, 1, anyBytes)
			w.at += 8
		}
	}
	w.transport(protocol)
}

func (w *walk) transport(protocol uint64) {
	switch protocol {
	case 47:
		w.gre()
	case 17:
		w.udp()
	}
}

func (w *walk) gre() {
	w.header()
	flags := w.field(0, 2, greFlags)
	protocol := w.field(2, 2, greProtocols)
	w.at += 4
	if flags&0x8000 != 0 {
		w.at += 4
	}
	if flags&0x2000 != 0 {
		w.field(0, 4, keys)
		w.at += 4
	}
	if flags&0x1000 != 0 {
		w.field(0, 4, sequences)
		w.at += 4
	}
	switch {
	case protocol == 0x88be && flags&0x1000 != 0:
		w.header()
		w.field(0, 2, erspanHead)
		w.field(2, 2, erspanMiddle)
		w.at += 8
	case protocol == 0x22eb:
		w.header()
		w.field(0, 2, erspanHead)
		w.field(2, 2, erspanMiddle)
		w.field(4, 4, sequences)
		subheader := w.field(10, 2, erspan3Flag)&1 != 0
		w.at += 12
		if subheader {
			w.header()
			w.field(0, 1, anyBytes)
			w.at += 8
		}
	}
	w.inner()
}

func (w *walk) udp() {
	w.header()
	port := w.field(2, 2, ports)
	w.field(4, 2, lengths)
	w.at += 8
	switch port {
	case 4789, 8472:
		w.header()
		w.field(0, 1, vxlanFlags)
		w.field(6, 1, anyBytes)
		w.at += 8
	case 6081:
		w.header()
		options := w.field(0, 1, geneveFirst) & 0x3f
		w.field(1, 1, geneveSecond)
		w.field(2, 2, greProtocols)
		w.field(6, 1, anyBytes)
		w.at += 8 + int(options)*4
	}
	w.inner()
}

// inner notes what the flow hash reads: inside an Ethernet frame or an IP packet.
func (w *walk) inner() {
	w.field(0, 1, versionIHL)
	w.field(9, 1, protocols)
	if w.field(12, 2, ethertypes) == 0x0800 {
		w.field(14, 1, versionIHL)
		w.field(20, 2, fragmentBits)
		w.field(23, 1, protocols)
	}
}

func read(b []byte) uint64 {
	var wide [8]byte
	copy(wide[8-len(b):], b)
	return binary.BigEndian.Uint64(wide[:])
}

func write(b []byte, v uint64) {
	var wide [8]byte
	binary.BigEndian.PutUint64(wide[:], v)
	copy(b, wide[8-len(b):])
}

// next makes a frame, valid until the call after.
func (m *mutator) next() []byte {
	seed := &m.seeds[m.random.IntN(len(m.seeds))]
	m.frame = append(m.frame[:0], seed.frame...)
	for range m.random.IntN(5) {
		m.change(seed)
	}
	for len(m.frame) < 14 {
		m.frame = append(m.frame, 0)
	}
	return m.frame
}

// change does one thing to the frame. Where an earlier change moved the headers,
// it hits something else, which is as good.
func (m *mutator) change(seed *mutationSeed) {
	switch n := m.random.IntN(100); {
	case n < 60:
		m.setField(seed)
	case n < 72: // a bit, most often of a header
		if reach := min(len(m.frame), seed.headers[len(seed.headers)-1]+60); reach > 0 {
			m.frame[m.random.IntN(reach)] ^= 1 << m.random.IntN(8)
		}
	case n < 84:
		m.frame = m.frame[:m.boundary(seed)]
	case n < 88:
		m.frame = append(m.frame, make([]byte, m.random.IntN(64))...)
	case n < 94: // bytes between two headers: options, words, tags
		at := m.boundary(seed)
		for range 4 * (1 + m.random.IntN(4)) {
			m.frame = slices.Insert(m.frame, at, byte(m.random.Uint32()))
		}
	default: // the rest of another frame
		other := &m.seeds[m.random.IntN(len(m.seeds))]
		from := min(other.headers[m.random.IntN(len(other.headers))], len(other.frame))
		m.frame = append(m.frame[:m.boundary(seed)], other.frame[from:]...)
	}
	// The kernel half looks for headers in the first buffer. Only a chain of
	// IPv6 extension headers can reach out of it, and no sender makes one.
	if len(m.frame) > linear && !(m.frame[12] == 8 && m.frame[13] == 0 && m.frame[14]>>4 == 4) {
		m.frame = m.frame[:linear]
	}
	if len(m.frame) > jumbo {
		m.frame = m.frame[:jumbo]
	}
}

// jumbo is as long as frames get here: several buffers.
const jumbo = 9216

func (m *mutator) setField(seed *mutationSeed) {
	f := seed.fields[m.random.IntN(len(seed.fields))]
	if f.at+f.size > len(m.frame) {
		return
	}
	b := m.frame[f.at : f.at+f.size]
	switch m.random.IntN(8) {
	case 0:
		write(b, read(b)+1)
	case 1:
		write(b, read(b)-1)
	case 2:
		write(b, m.random.Uint64())
	default:
		write(b, f.values[m.random.IntN(len(f.values))])
	}
}

// boundary is where a header begins, or close to it.
func (m *mutator) boundary(seed *mutationSeed) int {
	at := seed.headers[m.random.IntN(len(seed.headers))] + m.random.IntN(5) - 2
	return max(0, min(at, len(m.frame)))
}
