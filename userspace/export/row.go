package export

import (
	"net"
	"time"

	"github.com/unspan/unspan/userspace/flow"
)

// Row is a flow record as JSON, Parquet and Kafka carry it: flat, one name for
// a thing everywhere. The client is the side that began, its columns count what
// it sent. Durations are ns. Counts are scaled by sampling, of which the row
// tells the factor. No name is a word of SQL.
type Row struct {
	FlowID    uint64    `json:"flow_id" parquet:"flow_id"`
	First     time.Time `json:"first_seen" parquet:"first_seen,timestamp(nanosecond)"`
	Last      time.Time `json:"last_seen" parquet:"last_seen,timestamp(nanosecond)"`
	End       string    `json:"end_reason" parquet:"end_reason,dict"`
	Continued bool      `json:"continued" parquet:"continued"`
	Certain   bool      `json:"client_certain" parquet:"client_certain"`
	Sampling  uint32    `json:"sampling" parquet:"sampling"`

	Domain     uint32 `json:"domain" parquet:"domain"`
	ClientFeed string `json:"client_feed" parquet:"client_feed,dict"` // its name: 192.0.2.7/erspan2/1000
	ServerFeed string `json:"server_feed" parquet:"server_feed,dict"`
	VLAN       uint32 `json:"vlan" parquet:"vlan"`
	InnerVLAN  uint32 `json:"inner_vlan" parquet:"inner_vlan"`
	EtherType  uint32 `json:"ether_type" parquet:"ether_type"`
	ClientMAC  string `json:"client_mac" parquet:"client_mac,dict"`
	ServerMAC  string `json:"server_mac" parquet:"server_mac,dict"`

	ClientIP   string `json:"client_ip,omitempty" parquet:"client_ip,dict"`
	ServerIP   string `json:"server_ip,omitempty" parquet:"server_ip,dict"`
	ClientName string `json:"client_name,omitempty" parquet:"client_name,dict"`
	ServerName string `json:"server_name,omitempty" parquet:"server_name,dict"`
	Protocol   uint32 `json:"protocol" parquet:"protocol"` // 255: not IP
	ClientPort uint32 `json:"client_port" parquet:"client_port"`
	ServerPort uint32 `json:"server_port" parquet:"server_port"`
	ICMPType   uint32 `json:"icmp_type" parquet:"icmp_type"`
	ICMPCode   uint32 `json:"icmp_code" parquet:"icmp_code"`
	ICMPID     uint32 `json:"icmp_id" parquet:"icmp_id"`

	ClientPackets uint64 `json:"client_packets" parquet:"client_packets"`
	ServerPackets uint64 `json:"server_packets" parquet:"server_packets"`
	ClientBytes   uint64 `json:"client_bytes" parquet:"client_bytes"`
	ServerBytes   uint64 `json:"server_bytes" parquet:"server_bytes"`

	TCPState       string `json:"tcp_state" parquet:"tcp_state,dict"`
	ClientTCPFlags uint32 `json:"client_tcp_flags" parquet:"client_tcp_flags"`
	ServerTCPFlags uint32 `json:"server_tcp_flags" parquet:"server_tcp_flags"`
	Handshake      uint64 `json:"handshake_ns" parquet:"handshake_ns"`
	ServerRTT      uint64 `json:"server_rtt_ns" parquet:"server_rtt_ns"`
	ClientRTT      uint64 `json:"client_rtt_ns" parquet:"client_rtt_ns"`
	FirstByte      uint64 `json:"first_byte_ns" parquet:"first_byte_ns"`

	ClientRetransmissions uint32 `json:"client_retransmissions" parquet:"client_retransmissions"`
	ServerRetransmissions uint32 `json:"server_retransmissions" parquet:"server_retransmissions"`
	ClientOutOfOrder      uint32 `json:"client_out_of_order" parquet:"client_out_of_order"`
	ServerOutOfOrder      uint32 `json:"server_out_of_order" parquet:"server_out_of_order"`
	ClientZeroWindows     uint32 `json:"client_zero_windows" parquet:"client_zero_windows"`
	ServerZeroWindows     uint32 `json:"server_zero_windows" parquet:"server_zero_windows"`
	ClientResets          uint32 `json:"client_resets" parquet:"client_resets"`
	ServerResets          uint32 `json:"server_resets" parquet:"server_resets"`
	ClientGaps            uint32 `json:"client_gaps" parquet:"client_gaps"`
	ServerGaps            uint32 `json:"server_gaps" parquet:"server_gaps"`
	ClientMirrorGaps      uint32 `json:"client_mirror_gaps" parquet:"client_mirror_gaps"`
	ServerMirrorGaps      uint32 `json:"server_mirror_gaps" parquet:"server_mirror_gaps"`
	ClientMirrorReordered uint32 `json:"client_mirror_reordered" parquet:"client_mirror_reordered"`
	ServerMirrorReordered uint32 `json:"server_mirror_reordered" parquet:"server_mirror_reordered"`
	ClientCopies          uint32 `json:"client_copies" parquet:"client_copies"`
	ServerCopies          uint32 `json:"server_copies" parquet:"server_copies"`
}

// RowOf writes a flow record as a row, with what names there are.
func RowOf(f *flow.Flow, labels *Labels) Row {
	r := Row{
		FlowID:    f.ID,
		First:     time.Unix(0, int64(f.First)).UTC(),
		Last:      time.Unix(0, int64(f.Last)).UTC(),
		End:       f.End.String(),
		Continued: f.Continued,
		Certain:   f.Certain,
		Sampling:  f.Weight,

		Domain:     f.Domain,
		ClientFeed: labels.FeedName(f.Feed[0]),
		ServerFeed: labels.FeedName(f.Feed[1]),
		VLAN:       uint32(f.VLAN[0]),
		InnerVLAN:  uint32(f.VLAN[1]),
		EtherType:  uint32(f.EtherType),
		ClientMAC:  net.HardwareAddr(f.MAC[0][:]).String(),
		ServerMAC:  net.HardwareAddr(f.MAC[1][:]).String(),

		ClientName: labels.EndName(f, 0),
		ServerName: labels.EndName(f, 1),
		Protocol:   uint32(f.Protocol),
		ClientPort: uint32(f.Port[0]),
		ServerPort: uint32(f.Port[1]),
		ICMPType:   uint32(f.ICMPType),
		ICMPCode:   uint32(f.ICMPCode),
		ICMPID:     uint32(f.ICMPID),

		ClientPackets: f.Packets[0],
		ServerPackets: f.Packets[1],
		ClientBytes:   f.Bytes[0],
		ServerBytes:   f.Bytes[1],

		TCPState:       f.TCPState.String(),
		ClientTCPFlags: uint32(f.TCPFlags[0]),
		ServerTCPFlags: uint32(f.TCPFlags[1]),
		Handshake:      f.Handshake,
		ServerRTT:      f.ServerRTT,
		ClientRTT:      f.ClientRTT,
		FirstByte:      f.FirstByte,

		ClientRetransmissions: f.Retransmissions[0],
		ServerRetransmissions: f.Retransmissions[1],
		ClientOutOfOrder:      f.OutOfOrder[0],
		ServerOutOfOrder:      f.OutOfOrder[1],
		ClientZeroWindows:     f.ZeroWindows[0],
		ServerZeroWindows:     f.ZeroWindows[1],
		ClientResets:          uint32(f.Resets[0]),
		ServerResets:          uint32(f.Resets[1]),
		ClientGaps:            f.Gaps[0],
		ServerGaps:            f.Gaps[1],
		ClientMirrorGaps:      f.MirrorGaps[0],
		ServerMirrorGaps:      f.MirrorGaps[1],
		ClientMirrorReordered: f.MirrorReordered[0],
		ServerMirrorReordered: f.MirrorReordered[1],
		ClientCopies:          f.Copies[0],
		ServerCopies:          f.Copies[1],
	}
	if f.IsIP() {
		r.ClientIP, r.ServerIP = f.Addr(0).String(), f.Addr(1).String()
	}
	return r
}
