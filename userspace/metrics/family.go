package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is one metric: an index into families.
type family int

const (
	buildInfo family = iota

	wireExpected
	wirePackets
	wireLost
	wireDuplicates
	wireRestarts
	wireFeeds

	xdpPackets
	xdpBytes

	afxdpPackets
	queueReceived
	queueRingFull
	queueFillEmpty
	queueCirculating

	workerPackets
	workerHeld

	reassemblyDatagrams
	reassemblyBytes

	outputPackets
	outputBytes

	flowFrames
	flowLive
	flowBegun
	flowEnded
	flowRecords

	exportRecords
	exportWaiting
	exportErrors

	ledgerBalance

	feedPackets
	feedBytes
	feedKept
	feedLoops
	feedExpected
	feedSkipped
	feedLost
	feedReordered
	feedDuplicates
	feedStrays
	feedRestarts

	rulePackets
	ruleBytes
	ruleKept
	duplicatePackets

	familyCount
)

// definition is what Prometheus and docs/metrics.md are told of a family.
type definition struct {
	name   string
	typ    prometheus.ValueType
	labels []string
	help   string
}

// Labels of everything that is kept per feed. Together they are the feed's
// identity: no two feeds share them all.
var feedLabels = []string{"feed", "exporter", "collector", "encapsulation", "session", "key"}

// A policy has as many rules as its author wrote; two may have one name.
var ruleLabels = []string{"number", "rule"}

// A count that can fall is a gauge: rate() takes a falling counter for a restart
// and adds its whole value. So the lost of a sequence, which a late packet takes
// back, is a gauge; what was ever skipped is the counter beside it.
var families = [familyCount]definition{
	buildInfo: {"unspan_build_info", prometheus.GaugeValue, []string{"version", "goversion"},
		"What is running. Always 1."},

	wireExpected: {"unspan_wire_expected_packets_total", prometheus.CounterValue, nil,
		"Packets the senders sent by their own sequence numbers, over all feeds that number their packets."},
	wirePackets: {"unspan_wire_packets_total", prometheus.CounterValue, []string{"outcome"},
		"Expected packets that arrived: in_order, reordered (late) or strays (far outside the sequence). Second copies are not in it."},
	wireLost: {"unspan_wire_lost_packets", prometheus.GaugeValue, nil,
		"Expected packets that did not arrive: lost by the senders or on the path. Falls when a late packet arrives."},
	wireDuplicates: {"unspan_wire_duplicate_packets_total", prometheus.CounterValue, nil,
		"Packets that arrived a second time with the same sequence number."},
	wireRestarts: {"unspan_wire_restarts_total", prometheus.CounterValue, nil,
		"Senders that began their numbering anew (reload, vMotion). Not loss."},
	wireFeeds: {"unspan_wire_feeds", prometheus.GaugeValue, []string{"sequenced"},
		"Feeds known, by whether they number their packets. What is lost of a feed that does not cannot be known."},

	xdpPackets: {"unspan_xdp_packets_total", prometheus.CounterValue, []string{"verdict", "kind"},
		"Frames that reached the decapsulation, by its one verdict on each. All verdicts sum to the frames seen."},
	xdpBytes: {"unspan_xdp_bytes_total", prometheus.CounterValue, []string{"verdict", "kind"},
		"Bytes of the frames that reached the decapsulation, outer headers included."},

	afxdpPackets: {"unspan_afxdp_packets_total", prometheus.CounterValue, []string{"outcome", "kind"},
		"Frames redirected to AF_XDP sockets: received by a worker, or lost to ring_full, fill_ring_empty, too_long (for one buffer) or overlong (for any frame)."},
	queueRingFull: {"unspan_queue_ring_full_packets_total", prometheus.CounterValue, []string{"queue", "socket"},
		"Frames lost because a socket's receive ring was full: its worker was too slow. rx_ring_full of XDP_STATISTICS."},
	queueReceived: {"unspan_queue_received_packets_total", prometheus.CounterValue, []string{"queue", "socket"},
		"Frames a worker took from the receive ring of one AF_XDP socket."},
	queueFillEmpty: {"unspan_queue_fill_ring_empty_packets_total", prometheus.CounterValue, []string{"queue"},
		"Frames lost because no buffer was free for them: the workers of this receive queue together are too slow."},
	queueCirculating: {"unspan_queue_circulating_buffers", prometheus.GaugeValue, []string{"queue"},
		"Packet buffers in circulation. Few while the workers keep up, more with a backlog."},

	workerPackets: {"unspan_worker_packets_total", prometheus.CounterValue, []string{"outcome", "kind"},
		"Frames the workers received: inner, fragments_reassembled (became part of a datagram), fragments given up by reason, malformed."},
	workerHeld: {"unspan_worker_held_fragments", prometheus.GaugeValue, nil,
		"Outer fragments waiting for the rest of their datagram."},

	reassemblyDatagrams: {"unspan_reassembly_datagrams_total", prometheus.CounterValue, []string{"verdict", "kind"},
		"Datagrams put together from outer fragments, by the decapsulation's verdict on each."},
	reassemblyBytes: {"unspan_reassembly_bytes_total", prometheus.CounterValue, []string{"verdict", "kind"},
		"Bytes of the datagrams put together from outer fragments, outer headers included."},

	outputPackets: {"unspan_output_packets_total", prometheus.CounterValue, []string{"outcome", "kind"},
		"Inner frames kept: written, lost to backlog (disk too slow) or refused (disk full or failing), surplus (over the number asked for), unasked (no file asked for)."},
	outputBytes: {"unspan_output_bytes_total", prometheus.CounterValue, nil,
		"Bytes of the inner frames written."},

	flowFrames: {"unspan_flow_frames_total", prometheus.CounterValue, []string{"outcome"},
		"Inner frames that the flow tables looked at: tracked (in a flow), or the reason why in none. Absent, like all of flows, when no flows are rebuilt."},
	flowLive: {"unspan_flow_live_flows", prometheus.GaugeValue, nil,
		"Flows in the tables now."},
	flowBegun: {"unspan_flow_begun_flows_total", prometheus.CounterValue, nil,
		"Flows that began."},
	flowEnded: {"unspan_flow_ended_flows_total", prometheus.CounterValue, []string{"reason"},
		"Flows that ended: idle, closed (TCP said goodbye), reused (the ports began a new connection), evicted (the table was full), forced (the run ended)."},
	flowRecords: {"unspan_flow_records_total", prometheus.CounterValue, nil,
		"Flow records made. Each goes to every export."},

	exportRecords: {"unspan_export_records_total", prometheus.CounterValue, []string{"sink", "outcome"},
		"Flow records of an export: written (taken by the sink), dropped (the sink was away or too slow), ring_full (the exporter itself was too slow)."},
	exportWaiting: {"unspan_export_waiting_records", prometheus.GaugeValue, []string{"sink"},
		"Flow records that wait for a sink. Grows while the sink is away; when its queue is full, records are dropped."},
	exportErrors: {"unspan_export_errors_total", prometheus.CounterValue, []string{"sink"},
		"Failed attempts to give records to a sink. It is tried again, ever less often up to every 30 seconds."},

	ledgerBalance: {"unspan_ledger_balance_packets", prometheus.GaugeValue, []string{"line"},
		"Left side of a ledger line less its boxes: packets on their way while the ledger was read. Never negative; 0 when nothing moves."},

	feedPackets: {"unspan_feed_packets_total", prometheus.CounterValue, feedLabels,
		"Packets of the feed, whatever became of them."},
	feedBytes: {"unspan_feed_bytes_total", prometheus.CounterValue, feedLabels,
		"Inner bytes of the feed."},
	feedKept: {"unspan_feed_kept_packets_total", prometheus.CounterValue, feedLabels,
		"Packets of the feed sent on to a worker."},
	feedLoops: {"unspan_feed_loop_packets_total", prometheus.CounterValue, feedLabels,
		"Packets of the feed that carry a mirror's own packet: the mirror mirrors itself. Dropped, or opened once more, as the policy says."},
	feedExpected: {"unspan_feed_expected_packets_total", prometheus.CounterValue, feedLabels,
		"Packets the sender sent by its own sequence numbers. Absent for a feed that does not number its packets, like all that is known by sequence."},
	feedSkipped: {"unspan_feed_skipped_packets_total", prometheus.CounterValue, feedLabels,
		"Sequence numbers that did not come in their turn. Those that came late are in unspan_feed_reordered_packets_total; the rest is lost."},
	feedLost: {"unspan_feed_lost_packets", prometheus.GaugeValue, feedLabels,
		"Packets lost by the sender or on the path. Falls when a late packet arrives: for a rate take skipped less reordered."},
	feedReordered: {"unspan_feed_reordered_packets_total", prometheus.CounterValue, feedLabels,
		"Packets that came late, out of order. Not loss."},
	feedDuplicates: {"unspan_feed_duplicate_packets_total", prometheus.CounterValue, feedLabels,
		"Packets that came a second time with the same sequence number."},
	feedStrays: {"unspan_feed_stray_packets_total", prometheus.CounterValue, feedLabels,
		"Packets far outside the sequence that did not begin a new one."},
	feedRestarts: {"unspan_feed_restarts_total", prometheus.CounterValue, feedLabels,
		"Times the sender began its numbering anew. Not loss."},

	rulePackets: {"unspan_rule_packets_total", prometheus.CounterValue, ruleLabels,
		"Frames that met the rule, since the policy is in force. default: those that met no other."},
	ruleBytes: {"unspan_rule_bytes_total", prometheus.CounterValue, ruleLabels,
		"Bytes of the frames that met the rule, before it cut them."},
	ruleKept: {"unspan_rule_kept_packets_total", prometheus.CounterValue, ruleLabels,
		"Frames that met the rule and were kept."},
	duplicatePackets: {"unspan_overlap_packets_total", prometheus.CounterValue, []string{"first", "second"},
		"Frames dropped as duplicates: they came through one feed first and then through the other."},
}
