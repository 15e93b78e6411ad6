package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/unspan/unspan/bpf"
)

// Numbers of the headers that a Wrapper writes.
const (
	etherTypeIPv4  = 0x0800
	etherTypeIPv6  = 0x86dd
	etherTypeVLAN  = 0x8100
	etherTypeQinQ  = 0x88a8
	etherTypeTEB   = 0x6558 // transparent Ethernet bridging, RFC 7637
	protocolERSPAN = 0x88be // types I and II
	protocolIII    = 0x22eb // type III

	ipProtocolUDP         = 17
	ipProtocolGRE         = 47
	ipProtocolFragment    = 44
	ipProtocolDestination = 60

	portVXLAN  = 4789
	portGeneve = 6081

	greChecksum = 0x8000
	greKey      = 0x2000
	greSequence = 0x1000

	frameTypeIP = 2 // FT of ERSPAN III

	ethernetLen     = 14
	minFrame        = 60 // without FCS; IEEE 802.3
	ipv4HeaderLen   = 20
	ipv6HeaderLen   = 40
	ipv6FragmentLen = 8
)

// Why a frame is not wrapped.
var (
	ErrNotIP    = errors.New("wrapping a frame: the session carries bare IP, and this frame has none")
	ErrTooShort = errors.New("wrapping a frame: shorter than an Ethernet header")
	ErrTooLong  = errors.New("wrapping a frame: longer than an outer packet can be")
	ErrOversize = errors.New("wrapping a frame: over the session's MTU, and the session drops those")
)

// Stamp is what differs between packets of a session that carry the same frame.
type Stamp struct {
	Number uint32 // GRE sequence number before it is cut to SequenceBits; IP identification
	Time   uint64 // ns since the Unix epoch, for the timestamp of ERSPAN III
}

// Wrapper writes the packets of one session. It does not change after
// NewWrapper: any number of goroutines may use it.
type Wrapper struct {
	session Session
	clock   clock
	header  []byte // everything in front of the frame; what a packet changes is 0

	// Offsets into header; 0: the session has no such field.
	ip       int // outer IP header
	udp      int
	gre      int
	checksum int // of GRE
	sequence int
	erspan   int
	time     int // ERSPAN III timestamp
	timeHigh int // its upper half in the subheader
	protocol int // GRE protocol where it depends on the frame
}

// NewWrapper prepares the headers of a session. The error names the field that
// does not fit.
func NewWrapper(s Session) (*Wrapper, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("setting up session of %s: %w", bpf.EncapName(s.Encap), err)
	}
	w := &Wrapper{session: s.clone(), clock: newClock(&s)}
	if s.carriedByIP() {
		w.putEthernet()
		w.putIP()
		if s.carriedByUDP() {
			w.putUDP()
		} else {
			w.putGRE()
			w.putERSPAN()
		}
	}
	return w, nil
}

// Wrap appends to dst the outer frame that the session sends for inner, and
// returns the extended slice. It does not allocate when dst has room. The result
// may be longer than the MTU; AppendFragment cuts it.
//
// On error, ErrNotIP, ErrTooShort, ErrTooLong or ErrOversize, dst is as it was.
func (w *Wrapper) Wrap(dst, inner []byte, stamp Stamp) ([]byte, error) {
	if len(inner) < ethernetLen {
		return dst, ErrTooShort
	}
	s := &w.session
	start := len(dst)
	switch s.Encap {
	case bpf.EncapNative:
		return pad(append(dst, inner...), start), nil
	case bpf.EncapRSPAN:
		dst = append(dst, inner[:12]...)
		dst = be.AppendUint16(dst, etherTypeVLAN)
		dst = be.AppendUint16(dst, uint16(s.COS)<<13|s.ID)
		return pad(append(dst, inner[12:]...), start), nil
	}

	// What of the frame is sent: inner[skip:], less the tag at inner[12:16] if untag.
	tci, tagged := tag(inner)
	untag := tagged && s.Tags == TagsStripped
	skip, protocol := 0, uint16(0)
	if s.bareIP() {
		if skip, protocol = network(inner); skip == 0 {
			return dst, ErrNotIP
		}
		untag = false
	}

	dst = append(dst, w.header...)
	payload := len(dst)
	if untag {
		dst = append(dst, inner[:12]...)
		skip = 16
	}
	dst = append(dst, inner[skip:]...)
	if s.FCS && !s.bareIP() {
		dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[payload:]))
	}
	whole := len(dst)
	if s.SnapLength > 0 && len(dst) > payload+s.SnapLength {
		dst = dst[:payload+s.SnapLength]
	}
	if s.MTU > 0 && len(dst)-start-w.ip > s.MTU {
		switch {
		case s.Oversize == OversizeTruncate:
			dst = dst[:start+w.ip+s.MTU]
		case s.Oversize == OversizeDrop, s.DontFragment && s.Source.Is4():
			return dst[:start], ErrOversize
		}
	}
	if len(dst)-start-w.ip > math.MaxUint16 {
		return dst[:start], ErrTooLong
	}

	packet := dst[start:]
	if w.erspan != 0 {
		w.stampERSPAN(packet, tci, tagged, len(dst) < whole, stamp)
	}
	if w.protocol != 0 {
		be.PutUint16(packet[w.protocol:], protocol)
	}
	if w.sequence != 0 {
		be.PutUint32(packet[w.sequence:], w.number(stamp))
	}
	if w.udp != 0 {
		be.PutUint16(packet[w.udp:], sourcePort(inner))
		be.PutUint16(packet[w.udp+4:], uint16(len(packet)-w.udp))
	}
	if w.checksum != 0 {
		be.PutUint16(packet[w.checksum:], ^fold(sum(packet[w.gre:])))
	}
	w.stampIP(packet, stamp)
	return pad(dst, start), nil
}

// number is the GRE sequence number.
func (w *Wrapper) number(stamp Stamp) uint32 { return stamp.Number & w.sequenceMask() }

func (w *Wrapper) sequenceMask() uint32 { return 1<<w.session.SequenceBits - 1 }

// pad fills the frame that begins at start up to the shortest that Ethernet sends.
func pad(dst []byte, start int) []byte {
	for len(dst)-start < minFrame {
		dst = append(dst, 0)
	}
	return dst
}
