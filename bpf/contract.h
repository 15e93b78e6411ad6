/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract: every type that crosses between the kernel half (decap.bpf.c)
 * and the Go half. Go's copy is generated from here by bpf2go; contract_test.go
 * holds sizes, offsets and names together. All integers are in host byte order
 * unless a field says otherwise; addresses are 16 bytes in network order, IPv4
 * as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 */
#ifndef UNSPAN_CONTRACT_H
#define UNSPAN_CONTRACT_H

#include <linux/types.h>

/* Numbers both halves must agree on. */
enum limit {
	CONTRACT_VERSION = 1,	/* changes when struct record does */
	MAX_WORKERS = 16,	/* AF_XDP sockets on one receive queue */
	MAX_QUEUES = 64,	/* receive queues of one interface */
	MAX_COLLECTORS = 32,	/* addresses of the collector */
	MAX_PORTS = 4,		/* UDP ports per encapsulation */
	MAX_GRE_PROTOCOLS = 8,	/* extra GRE protocol numbers */
	MAX_VLANS = 2,		/* outer tags skipped, inner tags hashed */
	NO_PLATFORM = 0xff,	/* record.platform: no ERSPAN III subheader */
	NO_RULE = 0xffff,	/* record.rule: no rule matched */
};

/* How a mirror session wraps what it copies. Part of a feed's identity. */
enum encap {
	ENCAP_NONE,
	ENCAP_ERSPAN1,	/* GRE 0x88be without sequence: no ERSPAN header */
	ENCAP_ERSPAN2,	/* GRE 0x88be with sequence */
	ENCAP_ERSPAN3,	/* GRE 0x22eb */
	ENCAP_GRE,	/* GRE 0x6558, transparent Ethernet bridging */
	ENCAP_GRE_IP,	/* GRE 0x0800 and 0x86dd: a bare IP packet */
	ENCAP_VXLAN,	/* UDP, RFC 7348 */
	ENCAP_GENEVE,	/* UDP, RFC 8926 */
	ENCAP_RSPAN,	/* the mirror's own VLAN tag, nothing else */
	ENCAP_NATIVE,	/* frames of a tap or SPAN port, no tunnel */
	ENCAP_COUNT,
};

/*
 * The one outcome of every frame that reaches the XDP program. The counters of
 * all verdicts sum to the frames seen: that is the XDP line of the ledger.
 */
enum verdict {
	VERDICT_NONE,			/* not decided yet; never counted */

	/* Passed to the host untouched: not ours. */
	VERDICT_PASS_NOT_IP,		/* ARP, LLDP, ...: no outer IP header */
	VERDICT_PASS_BAD_IP,		/* outer header broken: the host's stack decides */
	VERDICT_PASS_NOT_COLLECTOR,	/* to an address that is not the collector's */
	VERDICT_PASS_NOT_TUNNEL,	/* TCP, ICMP, UDP to another port, ... */
	VERDICT_PASS_FRAGMENT,		/* a fragment of what is not a tunnel */
	VERDICT_PASS_GRE_VERSION,	/* GRE version 1: PPTP, RFC 2637 */
	VERDICT_PASS_GRE_PROTOCOL,	/* GRE that carries no mirror feed */
	VERDICT_PASS_NOT_ACCEPTED,	/* a mirror feed, but not named in accept */
	VERDICT_PASS_STRANGER,		/* exporter not on the list, strangers passed */
	VERDICT_PASS_NO_SOCKET,		/* no worker listens on this receive queue */

	/* Dropped: a mirror feed for us that cannot or shall not be delivered. */
	VERDICT_DROP_GRE_ROUTING,	/* GRE routing present: refused, RFC 2784 2.3 */
	VERDICT_DROP_GRE_SHORT,		/* ends inside the GRE header */
	VERDICT_DROP_ERSPAN_SHORT,	/* ends inside the ERSPAN header or subheader */
	VERDICT_DROP_ERSPAN_VERSION,	/* ERSPAN version does not fit the GRE protocol */
	VERDICT_DROP_FRAME_TYPE,	/* ERSPAN III frame type that is not taken: never guessed */
	VERDICT_DROP_UDP_SHORT,		/* ends inside the UDP, VXLAN or Geneve header */
	VERDICT_DROP_VXLAN_FLAGS,	/* VXLAN without the I flag, RFC 7348 5 */
	VERDICT_DROP_GENEVE_VERSION,	/* Geneve version other than 0, RFC 8926 3.4 */
	VERDICT_DROP_GENEVE_PROTOCOL,	/* Geneve that carries neither Ethernet nor accepted IP */
	VERDICT_DROP_INNER_SHORT,	/* less inside than the header of what it carries */
	VERDICT_DROP_TOO_BIG,		/* multi-buffer frame, and AF_XDP here takes none */
	VERDICT_DROP_STRANGER,		/* exporter not on the list, strangers dropped */
	VERDICT_DROP_POLICY,		/* a rule says drop */
	VERDICT_DROP_SAMPLED,		/* a rule samples, and this one is not kept */
	VERDICT_DROP_LOOP,		/* the mirror mirrors its own feed */
	VERDICT_DROP_DUPLICATE,		/* the same packet came through another mirror */
	VERDICT_DROP_STRIP,		/* bpf_xdp_adjust_head or _store_bytes refused */

	/* Redirected to an AF_XDP socket. */
	VERDICT_REDIRECT_FRAGMENT,	/* an outer IP fragment, whole, behind a record */
	VERDICT_REDIRECT_INNER,		/* the inner frame behind a record */
	VERDICT_COUNT,
};

/* What is true of one frame; record.flags. */
enum record_flag {
	RECORD_SEQUENCE = 1 << 0,	/* sequence holds the GRE sequence number */
	RECORD_SOURCE_TIME = 1 << 1,	/* source_time holds the sender's clock */
	RECORD_VLAN = 1 << 2,		/* tci was carried by the mirror's header */
	RECORD_TAG_REMOVED = 1 << 3,	/* ERSPAN II En=10: the sender took the tag out of the frame */
	RECORD_TRUNCATED = 1 << 4,	/* ERSPAN T bit: the sender cut the frame */
	RECORD_DIRECTION = 1 << 5,	/* the sender says a direction (ERSPAN III) */
	RECORD_EGRESS = 1 << 6,		/* and it is egress (D=1); else ingress */
	RECORD_SHORT = 1 << 7,		/* BSO 01: the frame was short on the wire */
	RECORD_OVERSIZED = 1 << 8,	/* BSO 10: the frame was oversized */
	RECORD_BAD = 1 << 9,		/* BSO 11: CRC or alignment error */
	RECORD_RAW_IP = 1 << 10,	/* an IP packet follows, no Ethernet header */
	RECORD_FRAGMENT = 1 << 11,	/* an outer fragment follows, from its Ethernet header on */
	RECORD_CLIPPED = 1 << 12,	/* outer IP length says more than arrived */
	RECORD_CUT = 1 << 13,		/* a rule cut the frame to a snap length */
	RECORD_NIC_TIME = 1 << 14,	/* time is the NIC's, UTC; else CLOCK_MONOTONIC */
	RECORD_NESTED = 1 << 15,	/* wrapped twice: a mirror's packet follows, for user space to open once more */
	RECORD_CRITICAL = 1 << 16,	/* Geneve: some option is critical, and was skipped */
};

/*
 * In front of every frame that reaches an AF_XDP socket, written over the spent
 * outer headers. User space never parses an outer header again.
 */
struct record {
	__u64 time;		/* receive time, ns; which clock: RECORD_NIC_TIME */
	__u64 source_time;	/* ERSPAN III timestamp; high half from the subheader if platform has one */
	__u32 feed;		/* feed.id; 0: the feed table was full */
	__u32 sequence;		/* GRE sequence number */
	__u32 gap;		/* sequence numbers missing just before this one */
	__u32 flow_hash;	/* symmetric over the inner flow; over the datagram for a fragment */
	__u32 length;		/* bytes that follow the record and belong to the frame */
	__u32 wire_length;	/* bytes the mirror delivered, before a rule cut them */
	__u32 weight;		/* packets this one stands for: N when sampled 1 in N, else 1 */
	__u32 flags;		/* enum record_flag */
	__u16 tci;		/* 802.1Q tag control of the mirrored frame: COS << 13 | VLAN */
	__u16 rule;		/* index of the rule that kept it, NO_RULE */
	__u8 encap;		/* enum encap */
	__u8 platform;		/* ERSPAN III platform id, NO_PLATFORM */
	__u8 granularity;	/* ERSPAN III Gra, as sent */
	__u8 version;		/* CONTRACT_VERSION */
};

/* The identity of a mirror stream. Never the session id alone: two switches may use the same one. */
struct feed_key {
	__u8 exporter[16];	/* outer source; zero for RSPAN and native */
	__u8 collector[16];	/* outer destination; zero for RSPAN and native */
	__u32 key;		/* GRE key or VNI, 0 when there is none */
	__u16 session;		/* ERSPAN session id; RSPAN VLAN; else 0 */
	__u8 encap;		/* enum encap */
	__u8 keyed;		/* 1 when the sender set key: a key of 0 is not no key */
};

/* The sequence tracker of a feed (sequence.h and userspace/feed: one meaning). */
struct sequence {
	__u64 missing;		/* bit i: number next-1-i was skipped and counted lost */
	__u64 received;		/* packets with a sequence number */
	__u64 lost;		/* numbers skipped and not seen since */
	__u64 reordered;	/* came late; no longer counted lost */
	__u64 duplicates;	/* came twice */
	__u64 restarts;		/* sender began anew: reload, vMotion; no loss */
	__u64 strays;		/* far outside the window and not the start of a new run */
	__u32 next;		/* number expected next */
	__u32 suspect;		/* number that would confirm a restart */
	__u32 span;		/* numbers covered since the start, at most 64 */
	__u32 flags;		/* enum sequence_flag */
};

enum sequence_flag {
	SEQUENCE_SEEN = 1 << 0,		/* the feed numbers its packets */
	SEQUENCE_SUSPECT = 1 << 1,	/* suspect is set */
	SEQUENCE_30BIT = 1 << 2,	/* learned: wraps at 2^30, as the Nexus 3548 does */
};

/* What the kernel knows of a feed; exact, because it counts before any loss of its own. */
struct feed_state {
	__u64 first;		/* CLOCK_MONOTONIC ns of the first packet */
	__u64 last;		/* ... and of the newest */
	__u64 packets;		/* packets of this feed, whatever became of them */
	__u64 bytes;		/* inner bytes */
	__u64 kept;		/* sent on to user space */
	__u64 critical;		/* with a critical Geneve option: RECORD_CRITICAL */
	__u64 loops;		/* carry the mirror's own packets: dropped, or RECORD_NESTED */
	__u64 owed;		/* numbers missing before packets that were not kept: the next record.gap has them too */
	struct sequence sequence;
};

/* One box of the XDP line of the ledger. */
struct tally {
	__u64 packets;
	__u64 bytes;		/* of the outer frame */
};

/* A GRE protocol number beyond the standard ones (SONiC lets operators choose). */
struct gre_protocol {
	__u16 protocol;		/* 0: unused slot */
	__u8 encap;		/* what follows: ENCAP_GRE, ENCAP_ERSPAN2 (I or II by the S bit) or ENCAP_ERSPAN3 */
	__u8 pad;
};

/* Settings fixed at load; the verifier removes what they switch off. */
struct config {
	__u32 accept;		/* bit 1 << enum encap: encapsulations taken */
	__u32 workers;		/* AF_XDP sockets per receive queue, 1..MAX_WORKERS */
	struct gre_protocol gre_protocols[MAX_GRE_PROTOCOLS];
	__u16 vxlan_ports[MAX_PORTS];	/* UDP destination ports, 0: unused slot */
	__u16 geneve_ports[MAX_PORTS];
	__u16 rspan_vlan;	/* VLAN that carries the mirror, for ENCAP_RSPAN */
	__u8 any_destination;	/* 1: every address is the collector's (taps, files) */
	__u8 list_exporters;	/* 1: only exporters in the exporters map are taken */
	__u8 drop_strangers;	/* 1: drop the others; 0: pass them to the host */
	__u8 multi_buffer;	/* 1: AF_XDP takes frames of several buffers (kernel 6.6) */
	__u8 alone;		/* 1: one CPU at a time gets so far as the feeds: they need no lock */
	__u8 pad;
};

#endif
