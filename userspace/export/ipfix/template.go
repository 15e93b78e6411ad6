package ipfix

import (
	"encoding/binary"

	"github.com/unspan/unspan/userspace/flow"
)

// reversePEN marks the same element counted for the other direction (RFC 5103 6.1).
const reversePEN = 29305

// Information elements, IANA's registry "ipfix".
const (
	octetDeltaCount          = 1
	packetDeltaCount         = 2
	protocolIdentifier       = 4
	tcpControlBits           = 6
	sourceTransportPort      = 7
	sourceIPv4Address        = 8
	destinationTransportPort = 11
	destinationIPv4Address   = 12
	sourceIPv6Address        = 27
	destinationIPv6Address   = 28
	icmpTypeCodeIPv4         = 32
	sourceMacAddress         = 56
	vlanID                   = 58
	destinationMacAddress    = 80
	flowEndReason            = 136
	observationPointID       = 138
	icmpTypeCodeIPv6         = 139
	flowID                   = 148
	observationDomainID      = 149
	flowStartMilliseconds    = 152
	flowEndMilliseconds      = 153
	biflowDirection          = 239
	dot1qCustomerVlanID      = 245
	ethernetType             = 256
	selectorAlgorithm        = 304
	samplingPacketInterval   = 305
	samplingPacketSpace      = 306
	samplingInterval         = 34 // deprecated, and the only one that some collectors read
)

// Set IDs (RFC 7011 3.3.2) and ours.
const (
	templateSet        = 2
	optionsTemplateSet = 3
	ipv4Template       = 256
	ipv6Template       = 257
	ethernetTemplate   = 258
	samplingTemplate   = 259
	psampTemplate      = 260
)

// element is a field of a template: what, how many bytes, and how a flow tells it.
type element struct {
	id      uint16
	length  uint16
	reverse bool
	append  func(b []byte, f *flow.Flow) []byte
}

func u8(value func(*flow.Flow) uint8) func([]byte, *flow.Flow) []byte {
	return func(b []byte, f *flow.Flow) []byte { return append(b, value(f)) }
}

func u16(value func(*flow.Flow) uint16) func([]byte, *flow.Flow) []byte {
	return func(b []byte, f *flow.Flow) []byte { return binary.BigEndian.AppendUint16(b, value(f)) }
}

func u32(value func(*flow.Flow) uint32) func([]byte, *flow.Flow) []byte {
	return func(b []byte, f *flow.Flow) []byte { return binary.BigEndian.AppendUint32(b, value(f)) }
}

func u64(value func(*flow.Flow) uint64) func([]byte, *flow.Flow) []byte {
	return func(b []byte, f *flow.Flow) []byte { return binary.BigEndian.AppendUint64(b, value(f)) }
}

func bytes(value func(*flow.Flow) []byte) func([]byte, *flow.Flow) []byte {
	return func(b []byte, f *flow.Flow) []byte { return append(b, value(f)...) }
}

// common is what all flows have. The client's direction is the forward one. A
// reverse element stands in front of its forward one: nfdump 1.7 knows the
// reverse of counters only and takes the last of the others.
var common = []element{
	{flowID, 8, false, u64(func(f *flow.Flow) uint64 { return f.ID })},
	{flowStartMilliseconds, 8, false, u64(func(f *flow.Flow) uint64 { return f.First / 1e6 })},
	{flowEndMilliseconds, 8, false, u64(func(f *flow.Flow) uint64 { return f.Last / 1e6 })},
	{octetDeltaCount, 8, false, u64(func(f *flow.Flow) uint64 { return unscaled(f.Bytes[0], f.Weight) })},
	{packetDeltaCount, 8, false, u64(func(f *flow.Flow) uint64 { return unscaled(f.Packets[0], f.Weight) })},
	{octetDeltaCount, 8, true, u64(func(f *flow.Flow) uint64 { return unscaled(f.Bytes[1], f.Weight) })},
	{packetDeltaCount, 8, true, u64(func(f *flow.Flow) uint64 { return unscaled(f.Packets[1], f.Weight) })},
	{sourceMacAddress, 6, false, bytes(func(f *flow.Flow) []byte { return f.MAC[0][:] })},
	{destinationMacAddress, 6, false, bytes(func(f *flow.Flow) []byte { return f.MAC[1][:] })},
	{vlanID, 2, false, u16(func(f *flow.Flow) uint16 { return f.VLAN[0] })},
	{dot1qCustomerVlanID, 2, false, u16(func(f *flow.Flow) uint16 { return f.VLAN[1] })},
	{flowEndReason, 1, false, u8(func(f *flow.Flow) uint8 { return uint8(f.End) })},
	{biflowDirection, 1, false, u8(direction)},
	{observationPointID, 4, true, u32(func(f *flow.Flow) uint32 { return f.Feed[1] })},
	{observationPointID, 4, false, u32(func(f *flow.Flow) uint32 { return f.Feed[0] })},
}

// transport is what IP flows have besides.
var transport = []element{
	{sourceTransportPort, 2, false, u16(func(f *flow.Flow) uint16 { return f.Port[0] })},
	{destinationTransportPort, 2, false, u16(func(f *flow.Flow) uint16 { return f.Port[1] })},
	{protocolIdentifier, 1, false, u8(func(f *flow.Flow) uint8 { return f.Protocol })},
	{tcpControlBits, 2, true, u16(func(f *flow.Flow) uint16 { return uint16(f.TCPFlags[1]) })},
	{tcpControlBits, 2, false, u16(func(f *flow.Flow) uint16 { return uint16(f.TCPFlags[0]) })},
}

var ipv4 = append([]element{
	{sourceIPv4Address, 4, false, bytes(func(f *flow.Flow) []byte { return f.Address[0][12:] })},
	{destinationIPv4Address, 4, false, bytes(func(f *flow.Flow) []byte { return f.Address[1][12:] })},
	{icmpTypeCodeIPv4, 2, false, u16(icmp)},
}, append(transport, common...)...)

var ipv6 = append([]element{
	{sourceIPv6Address, 16, false, bytes(func(f *flow.Flow) []byte { return f.Address[0][:] })},
	{destinationIPv6Address, 16, false, bytes(func(f *flow.Flow) []byte { return f.Address[1][:] })},
	{icmpTypeCodeIPv6, 2, false, u16(icmp)},
}, append(transport, common...)...)

var ethernet = append([]element{
	{ethernetType, 2, false, u16(func(f *flow.Flow) uint16 { return f.EtherType })},
}, common...)

func icmp(f *flow.Flow) uint16 { return uint16(f.ICMPType)<<8 | uint16(f.ICMPCode) }

// direction says how the source was chosen (RFC 5103 6.3): by who began, or by chance.
func direction(f *flow.Flow) uint8 {
	if f.Certain {
		return 1 // initiator
	}
	return 0 // arbitrary
}

// unscaled is what was observed: a collector scales by the sampling that the
// observation domain's options tell, as for any exporter.
func unscaled(n uint64, weight uint32) uint64 {
	if weight <= 1 {
		return n
	}
	return (n + uint64(weight) - 1) / uint64(weight)
}

// templateOf returns the template that describes a flow.
func templateOf(f *flow.Flow) (id uint16, fields []element, length int) {
	switch {
	case !f.IsIP():
		return ethernetTemplate, ethernet, lengthOf(ethernet)
	case f.IsIPv4():
		return ipv4Template, ipv4, lengthOf(ipv4)
	}
	return ipv6Template, ipv6, lengthOf(ipv6)
}

func lengthOf(fields []element) (n int) {
	for _, e := range fields {
		n += int(e.length)
	}
	return n
}

// appendTemplates writes the template set (RFC 7011 3.4.1).
func appendTemplates(b []byte) []byte {
	start := len(b)
	b = appendSetHeader(b, templateSet)
	for _, t := range []struct {
		id     uint16
		fields []element
	}{{ipv4Template, ipv4}, {ipv6Template, ipv6}, {ethernetTemplate, ethernet}} {
		b = binary.BigEndian.AppendUint16(b, t.id)
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.fields)))
		for _, e := range t.fields {
			if !e.reverse {
				b = appendSpecifier(b, e.id, e.length)
				continue
			}
			b = appendSpecifier(b, e.id|0x8000, e.length)
			b = binary.BigEndian.AppendUint32(b, reversePEN)
		}
	}
	endSet(b, start)
	return b
}

// samplingRecords is how many data records appendSampling writes.
const samplingRecords = 2

// appendSampling writes the sampling options of a domain, their templates
// first: of each weight packets one was taken. They are said twice, in the old
// element alone, as nfdump 1.7.1 and goflow2 want it, and as RFC 5477 8.2.1 has
// it: one packet, then a space of weight-1.
func appendSampling(b []byte, domain, weight uint32) []byte {
	for _, t := range []struct {
		id     uint16
		fields [][2]uint16
	}{
		{samplingTemplate, [][2]uint16{{observationDomainID, 4}, {samplingInterval, 4}}},
		{psampTemplate, [][2]uint16{{observationDomainID, 4}, {selectorAlgorithm, 2}, {samplingPacketInterval, 4}, {samplingPacketSpace, 4}}},
	} {
		start := len(b)
		b = appendSetHeader(b, optionsTemplateSet)
		b = binary.BigEndian.AppendUint16(b, t.id)
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.fields)))
		b = binary.BigEndian.AppendUint16(b, 1) // scope fields
		for _, f := range t.fields {
			b = appendSpecifier(b, f[0], f[1])
		}
		endSet(b, start)
	}

	start := len(b)
	b = appendSetHeader(b, samplingTemplate)
	b = binary.BigEndian.AppendUint32(b, domain)
	b = binary.BigEndian.AppendUint32(b, weight)
	endSet(b, start)

	start = len(b)
	b = appendSetHeader(b, psampTemplate)
	b = binary.BigEndian.AppendUint32(b, domain)
	b = binary.BigEndian.AppendUint16(b, 1) // systematic count-based sampling
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, weight-1)
	endSet(b, start)
	return b
}

func appendSpecifier(b []byte, id, length uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint16(b, length)
}

func appendSetHeader(b []byte, id uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	return append(b, 0, 0)
}

// endSet writes the set's length, its header included.
func endSet(b []byte, start int) {
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
}
