package bpf

import (
	"fmt"
	"strings"
)

// The contract's constants under the names Go uses; contract.h says what each means.
const (
	EncapNone    = DecapEncapENCAP_NONE
	EncapERSPAN1 = DecapEncapENCAP_ERSPAN1
	EncapERSPAN2 = DecapEncapENCAP_ERSPAN2
	EncapERSPAN3 = DecapEncapENCAP_ERSPAN3
	EncapGRE     = DecapEncapENCAP_GRE
	EncapGREIP   = DecapEncapENCAP_GRE_IP
	EncapVXLAN   = DecapEncapENCAP_VXLAN
	EncapGeneve  = DecapEncapENCAP_GENEVE
	EncapRSPAN   = DecapEncapENCAP_RSPAN
	EncapNative  = DecapEncapENCAP_NATIVE
	EncapCount   = DecapEncapENCAP_COUNT
)

// Verdicts, in the order of the contract.
const (
	VerdictNone        = DecapVerdictVERDICT_NONE
	PassNotIP          = DecapVerdictVERDICT_PASS_NOT_IP
	PassBadIP          = DecapVerdictVERDICT_PASS_BAD_IP
	PassNotCollector   = DecapVerdictVERDICT_PASS_NOT_COLLECTOR
	PassNotTunnel      = DecapVerdictVERDICT_PASS_NOT_TUNNEL
	PassFragment       = DecapVerdictVERDICT_PASS_FRAGMENT
	PassGREVersion     = DecapVerdictVERDICT_PASS_GRE_VERSION
	PassGREProtocol    = DecapVerdictVERDICT_PASS_GRE_PROTOCOL
	PassNotAccepted    = DecapVerdictVERDICT_PASS_NOT_ACCEPTED
	PassStranger       = DecapVerdictVERDICT_PASS_STRANGER
	PassNoSocket       = DecapVerdictVERDICT_PASS_NO_SOCKET
	DropGRERouting     = DecapVerdictVERDICT_DROP_GRE_ROUTING
	DropGREShort       = DecapVerdictVERDICT_DROP_GRE_SHORT
	DropERSPANShort    = DecapVerdictVERDICT_DROP_ERSPAN_SHORT
	DropERSPANVersion  = DecapVerdictVERDICT_DROP_ERSPAN_VERSION
	DropFrameType      = DecapVerdictVERDICT_DROP_FRAME_TYPE
	DropUDPShort       = DecapVerdictVERDICT_DROP_UDP_SHORT
	DropVXLANFlags     = DecapVerdictVERDICT_DROP_VXLAN_FLAGS
	DropGeneveVersion  = DecapVerdictVERDICT_DROP_GENEVE_VERSION
	DropGeneveProtocol = DecapVerdictVERDICT_DROP_GENEVE_PROTOCOL
	DropInnerShort     = DecapVerdictVERDICT_DROP_INNER_SHORT
	DropTooBig         = DecapVerdictVERDICT_DROP_TOO_BIG
	DropStranger       = DecapVerdictVERDICT_DROP_STRANGER
	DropPolicy         = DecapVerdictVERDICT_DROP_POLICY
	DropSampled        = DecapVerdictVERDICT_DROP_SAMPLED
	DropLoop           = DecapVerdictVERDICT_DROP_LOOP
	DropDuplicate      = DecapVerdictVERDICT_DROP_DUPLICATE
	DropStrip          = DecapVerdictVERDICT_DROP_STRIP
	RedirectFragment   = DecapVerdictVERDICT_REDIRECT_FRAGMENT
	RedirectInner      = DecapVerdictVERDICT_REDIRECT_INNER
	VerdictCount       = DecapVerdictVERDICT_COUNT
)

// Flags of a Record.
const (
	RecordSequence   = uint32(DecapRecordFlagRECORD_SEQUENCE)
	RecordSourceTime = uint32(DecapRecordFlagRECORD_SOURCE_TIME)
	RecordVLAN       = uint32(DecapRecordFlagRECORD_VLAN)
	RecordTagRemoved = uint32(DecapRecordFlagRECORD_TAG_REMOVED)
	RecordTruncated  = uint32(DecapRecordFlagRECORD_TRUNCATED)
	RecordDirection  = uint32(DecapRecordFlagRECORD_DIRECTION)
	RecordEgress     = uint32(DecapRecordFlagRECORD_EGRESS)
	RecordShort      = uint32(DecapRecordFlagRECORD_SHORT)
	RecordOversized  = uint32(DecapRecordFlagRECORD_OVERSIZED)
	RecordBad        = uint32(DecapRecordFlagRECORD_BAD)
	RecordRawIP      = uint32(DecapRecordFlagRECORD_RAW_IP)
	RecordFragment   = uint32(DecapRecordFlagRECORD_FRAGMENT)
	RecordClipped    = uint32(DecapRecordFlagRECORD_CLIPPED)
	RecordCut        = uint32(DecapRecordFlagRECORD_CUT)
	RecordNICTime    = uint32(DecapRecordFlagRECORD_NIC_TIME)
	RecordNested     = uint32(DecapRecordFlagRECORD_NESTED)
	RecordCritical   = uint32(DecapRecordFlagRECORD_CRITICAL)
)

// Flags of a Sequence.
const (
	SequenceSeen    = uint32(DecapSequenceFlagSEQUENCE_SEEN)
	SequenceSuspect = uint32(DecapSequenceFlagSEQUENCE_SUSPECT)
	Sequence30Bit   = uint32(DecapSequenceFlagSEQUENCE_30BIT)
)

// Numbers both halves agree on.
const (
	// RecordVersion is the version of the contract this package was built from.
	RecordVersion = uint8(DecapLimitCONTRACT_VERSION)
	// MaxWorkers is the number of AF_XDP sockets one receive queue can feed.
	MaxWorkers = int(DecapLimitMAX_WORKERS)
	// MaxCollectors is the number of addresses the collector can have.
	MaxCollectors = int(DecapLimitMAX_COLLECTORS)
	// MaxQueues is the number of receive queues of one interface that can be served.
	MaxQueues = int(DecapLimitMAX_QUEUES)
	// NoPlatform in Record.Platform: the frame carried no ERSPAN III subheader.
	NoPlatform = uint8(DecapLimitNO_PLATFORM)
	// NoRule in Record.Rule: no rule of the policy matched.
	NoRule = uint16(DecapLimitNO_RULE)
)

var encapNames = [EncapCount]string{
	EncapNone:    "none",
	EncapERSPAN1: "erspan1",
	EncapERSPAN2: "erspan2",
	EncapERSPAN3: "erspan3",
	EncapGRE:     "gre",
	EncapGREIP:   "gre-ip",
	EncapVXLAN:   "vxlan",
	EncapGeneve:  "geneve",
	EncapRSPAN:   "rspan",
	EncapNative:  "native",
}

// EncapName is the encapsulation's name as --accept, interface names and metrics
// write it.
func EncapName(e Encap) string {
	if int(e) < len(encapNames) {
		return encapNames[e]
	}
	return fmt.Sprintf("encap(%d)", uint32(e))
}

// ParseEncap is the inverse of EncapName. It returns false for a name that is not one.
func ParseEncap(name string) (Encap, bool) {
	for e, n := range encapNames {
		if n == name && Encap(e) != EncapNone {
			return Encap(e), true
		}
	}
	return EncapNone, false
}

var verdictNames = [VerdictCount]string{
	VerdictNone:        "none",
	PassNotIP:          "pass_not_ip",
	PassBadIP:          "pass_bad_ip",
	PassNotCollector:   "pass_not_collector",
	PassNotTunnel:      "pass_not_tunnel",
	PassFragment:       "pass_fragment",
	PassGREVersion:     "pass_gre_version",
	PassGREProtocol:    "pass_gre_protocol",
	PassNotAccepted:    "pass_not_accepted",
	PassStranger:       "pass_stranger",
	PassNoSocket:       "pass_no_socket",
	DropGRERouting:     "drop_gre_routing",
	DropGREShort:       "drop_gre_short",
	DropERSPANShort:    "drop_erspan_short",
	DropERSPANVersion:  "drop_erspan_version",
	DropFrameType:      "drop_frame_type",
	DropUDPShort:       "drop_udp_short",
	DropVXLANFlags:     "drop_vxlan_flags",
	DropGeneveVersion:  "drop_geneve_version",
	DropGeneveProtocol: "drop_geneve_protocol",
	DropInnerShort:     "drop_inner_short",
	DropTooBig:         "drop_too_big",
	DropStranger:       "drop_stranger",
	DropPolicy:         "drop_policy",
	DropSampled:        "drop_sampled",
	DropLoop:           "drop_loop",
	DropDuplicate:      "drop_duplicate",
	DropStrip:          "drop_strip",
	RedirectFragment:   "redirect_fragment",
	RedirectInner:      "redirect_inner",
}

// VerdictName is the verdict's name as the ledger and the metrics write it:
// what happens to the packet, then why ("drop_gre_short").
func VerdictName(v Verdict) string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint32(v))
}

// Passes reports whether the host gets the packet, untouched.
func Passes(v Verdict) bool { return strings.HasPrefix(VerdictName(v), "pass_") }

// Drops reports whether nobody gets the packet.
func Drops(v Verdict) bool { return strings.HasPrefix(VerdictName(v), "drop_") }
