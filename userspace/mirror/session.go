package mirror

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/unspan/unspan/bpf"
)

// Session says how one mirror session wraps what it copies. DefaultSession gives
// one that lacks only its addresses. Fields that the encapsulation has no place for
// are ignored.
type Session struct {
	Encap bpf.Encap

	// The outer frame.
	SourceMAC          net.HardwareAddr
	DestinationMAC     net.HardwareAddr
	OuterVLANs         []uint16   // 802.1Q tag controls, outermost first; of two the first is 802.1ad
	Source             netip.Addr // IPv4 or IPv6
	Destination        netip.Addr // of the same family
	TTL                uint8      // IPv6: hop limit
	DSCP               uint8      // 6 bits
	DontFragment       bool       // IPv4 DF
	IPOptions          []byte     // IPv4, a multiple of 4 bytes
	EncapsulationLimit uint8      // IPv6: destination option of RFC 2473, 4.1.1, as Linux sends it; 0: none

	// GRE.
	Protocol     uint16 // 0: the encapsulation's own
	Checksum     bool
	Keyed        bool
	Key          uint32 // GRE key; VNI of VXLAN and Geneve
	Sequenced    bool   // ERSPAN II always is, ERSPAN I never: the S bit tells them apart
	Sequence     uint32 // of the first packet
	SequenceBits int    // 32, or 30 as the Nexus 3548 counts

	// ERSPAN.
	ID          uint16 // session id, 10 bits; RSPAN: the mirror's VLAN
	Tags        Tags
	VLAN        uint16 // 12 bits, see Tags
	COS         uint8  // 3 bits, see Tags
	En          uint8  // II: 2 bits, see Tags
	Index       uint32 // II: 20 bits
	BSO         uint8  // III: 0 good, 1 short, 2 oversized, 3 bad
	SGT         uint16 // III
	FrameType   uint8  // III: 5 bits; 2 sends the IP packet without its Ethernet header
	HardwareID  uint8  // III: 6 bits
	Egress      bool   // III: D
	Granularity Granularity
	Tick        uint32 // III: what the clock really counts in, ps; 0: what Granularity says
	Platform    uint8  // III: subheader 0, 1, 3, 4, 5, 6 or 7; bpf.NoPlatform: none
	SwitchID    uint16 // subheader 1: VSM domain, 12 bits; 5 and 6: switch, 10 bits
	Port        uint32 // subheader: port or source index; 14 to 32 bits

	// UDP.
	UDPPort       uint16 // destination; 0: the encapsulation's own
	GeneveOptions []byte // a multiple of 4 bytes, 252 at most

	// How much of a frame is sent, and how.
	SnapLength int      // bytes of a frame that are kept; 0: all
	FCS        bool     // the frame check sequence is copied too, as the Nexus 3548 does
	MTU        int      // bytes of an outer IP packet; 0: the device's
	Oversize   Oversize // what becomes of a packet over the MTU

	// Faults on the way, each once in so many packets; 0: never, else 2 or more.
	LoseEvery      int // the packet is not sent, its sequence number is used up
	DuplicateEvery int // the packet is sent twice
	ReorderEvery   int // the packet is sent after its successor
}

// Tags says what becomes of the 802.1Q tag of a mirrored frame, and what the
// VLAN, COS and En fields of ERSPAN say about it.
type Tags uint8

const (
	// TagsLiteral leaves frames alone; VLAN, COS and En are sent as set.
	TagsLiteral Tags = iota
	// TagsKept leaves frames alone; the fields repeat the outermost tag (En 3), or
	// are as set when there is none.
	TagsKept
	// TagsStripped moves the outermost tag out of the frame into the fields (En 2),
	// which are as set when there is none.
	TagsStripped
)

// Oversize says what becomes of a wrapped packet that is longer than the MTU.
type Oversize uint8

const (
	// OversizeFragment sends IP fragments, as hypervisors do. With DontFragment it
	// is OversizeDrop.
	OversizeFragment Oversize = iota
	// OversizeTruncate cuts the mirrored frame and sets the T bit, as the Catalyst 9500 does.
	OversizeTruncate
	// OversizeDrop sends nothing, as the Nexus 3000 does.
	OversizeDrop
)

// DefaultSession is a session as a usual sender of the encapsulation configures
// it. It lacks the addresses.
func DefaultSession(encap bpf.Encap) Session {
	return Session{
		Encap:        encap,
		TTL:          64,
		Sequenced:    encap == bpf.EncapERSPAN2 || encap == bpf.EncapERSPAN3,
		SequenceBits: 32,
		ID:           1,
		Granularity:  Granularity100ns,
		Platform:     bpf.NoPlatform,
	}
}

// carriedByIP reports whether the wrapping has an outer IP header.
func (s *Session) carriedByIP() bool {
	return s.Encap != bpf.EncapRSPAN && s.Encap != bpf.EncapNative
}

func (s *Session) carriedByUDP() bool {
	return s.Encap == bpf.EncapVXLAN || s.Encap == bpf.EncapGeneve
}

func (s *Session) erspan() bool {
	return s.Encap == bpf.EncapERSPAN2 || s.Encap == bpf.EncapERSPAN3
}

// bareIP reports whether frames are sent without their Ethernet header.
func (s *Session) bareIP() bool {
	return s.Encap == bpf.EncapGREIP || s.Encap == bpf.EncapERSPAN3 && s.FrameType == frameTypeIP
}

// The smallest MTUs that leave the headers of any session in the first fragment:
// RFC 791 asks every host for 576, RFC 8200 every link for 1280.
const (
	minMTU4 = 576
	minMTU6 = 1280
)

func (s *Session) validate() error {
	if s.Encap <= bpf.EncapNone || s.Encap >= bpf.EncapCount {
		return fmt.Errorf("encap %d: no such encapsulation", s.Encap)
	}
	for _, field := range []struct {
		name       string
		value, max uint64
	}{
		{"dscp", uint64(s.DSCP), 1<<6 - 1},
		{"vlan", uint64(s.VLAN), 1<<12 - 1},
		{"cos", uint64(s.COS), 1<<3 - 1},
		{"en", uint64(s.En), 1<<2 - 1},
		{"index", uint64(s.Index), 1<<20 - 1},
		{"bso", uint64(s.BSO), 1<<2 - 1},
		{"frame type", uint64(s.FrameType), 1<<5 - 1},
		{"hardware id", uint64(s.HardwareID), 1<<6 - 1},
		{"granularity", uint64(s.Granularity), uint64(GranularityNS)},
		{"tags", uint64(s.Tags), uint64(TagsStripped)},
		{"oversize", uint64(s.Oversize), uint64(OversizeDrop)},
	} {
		if field.value > field.max {
			return fmt.Errorf("%s %d: must be at most %d", field.name, field.value, field.max)
		}
	}
	idMax := uint16(1<<10 - 1)
	if s.Encap == bpf.EncapRSPAN {
		idMax = 1<<12 - 2
	}
	if s.ID > idMax {
		return fmt.Errorf("session id %d: must be at most %d", s.ID, idMax)
	}
	if s.carriedByUDP() && s.Key > 1<<24-1 {
		return fmt.Errorf("key %d: a VNI must be at most %d", s.Key, 1<<24-1)
	}
	if s.SequenceBits != 32 && s.SequenceBits != 30 {
		return fmt.Errorf("sequence bits %d: must be 32 or 30", s.SequenceBits)
	}
	if len(s.OuterVLANs) > 2 {
		return fmt.Errorf("outer VLANs: %d tags: must be at most 2", len(s.OuterVLANs))
	}
	if s.SnapLength < 0 {
		return fmt.Errorf("snap length %d: must not be negative", s.SnapLength)
	}
	for _, fault := range []struct {
		name  string
		every int
	}{{"lose", s.LoseEvery}, {"duplicate", s.DuplicateEvery}, {"reorder", s.ReorderEvery}} {
		if fault.every < 0 || fault.every == 1 {
			return fmt.Errorf("%s one in %d: must be 2 or more, or 0 for never", fault.name, fault.every)
		}
	}
	if s.Granularity == Granularity1588 && s.Tick != 0 {
		return fmt.Errorf("tick %d: granularity 1588 is seconds and nanoseconds", s.Tick)
	}
	if err := s.validatePlatform(); err != nil {
		return err
	}
	if s.carriedByIP() {
		return s.validateOuter()
	}
	return nil
}

func (s *Session) validateOuter() error {
	for _, mac := range []struct {
		name string
		mac  net.HardwareAddr
	}{{"source MAC", s.SourceMAC}, {"destination MAC", s.DestinationMAC}} {
		if len(mac.mac) != 6 {
			return fmt.Errorf("%s %q: must have 6 bytes", mac.name, mac.mac)
		}
	}
	if !s.Source.IsValid() || !s.Destination.IsValid() {
		return errors.New("source and destination: both addresses must be set")
	}
	if s.Source.Is4() != s.Destination.Is4() {
		return fmt.Errorf("source %s and destination %s: must be of one family", s.Source, s.Destination)
	}
	if s.TTL == 0 {
		return errors.New("ttl 0: no router would let it through")
	}
	minMTU := minMTU6
	if s.Source.Is4() {
		minMTU = minMTU4
	}
	if s.MTU != 0 && (s.MTU < minMTU || s.MTU > math.MaxUint16) {
		return fmt.Errorf("mtu %d: must be %d to %d", s.MTU, minMTU, math.MaxUint16)
	}
	if n := len(s.IPOptions); n%4 != 0 || n > 40 {
		return fmt.Errorf("IP options of %d bytes: must be a multiple of 4, at most 40", n)
	}
	if n := len(s.GeneveOptions); n%4 != 0 || n > 252 {
		return fmt.Errorf("geneve options of %d bytes: must be a multiple of 4, at most 252", n)
	}
	return nil
}

func (s *Session) validatePlatform() error {
	var switchMax uint16
	var portMax uint32
	switch s.Platform {
	case bpf.NoPlatform, 4:
		return nil
	case 1:
		switchMax, portMax = 1<<12-1, math.MaxUint32
	case 3:
		portMax = 1<<14 - 1
	case 5, 6:
		if s.Encap == bpf.EncapERSPAN3 && s.Granularity != Granularity1588 {
			return fmt.Errorf("platform %d: its subheader carries seconds, which go with granularity 1588", s.Platform)
		}
		switchMax, portMax = 1<<10-1, math.MaxUint16
	case 0, 7:
		portMax = 1<<20 - 1
	default:
		return fmt.Errorf("platform %d: must be 0, 1, 3, 4, 5, 6 or 7", s.Platform)
	}
	if s.SwitchID > switchMax {
		return fmt.Errorf("switch id %d: must be at most %d with platform %d", s.SwitchID, switchMax, s.Platform)
	}
	if s.Port > portMax {
		return fmt.Errorf("port %d: must be at most %d with platform %d", s.Port, portMax, s.Platform)
	}
	return nil
}

// clone makes a copy that shares no memory with the original.
func (s Session) clone() Session {
	s.SourceMAC = slices.Clone(s.SourceMAC)
	s.DestinationMAC = slices.Clone(s.DestinationMAC)
	s.OuterVLANs = slices.Clone(s.OuterVLANs)
	s.IPOptions = slices.Clone(s.IPOptions)
	s.GeneveOptions = slices.Clone(s.GeneveOptions)
	return s
}
