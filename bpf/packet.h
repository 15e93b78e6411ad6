/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet on its way through the stages: a cursor that moves inward as headers
 * are taken, and what they said.
 */
#ifndef UNSPAN_PACKET_H
#define UNSPAN_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "maps.h"
#include "wire.h"

/* Where the next header is, and how much there is of it. */
struct cursor {
	void *at;
	void *data_end;		/* end of the first buffer; all headers lie in it */
	__u32 left;		/* bytes from at to where the innermost length field ends */
};

/*
 * What the headers said. It lives in a map, not on the stack: the verifier does
 * not follow values through map memory, so the ways through the headers meet
 * again behind them instead of multiplying.
 */
struct label {
	struct record record;
	struct feed_key key;
	__u64 now;			/* CLOCK_MONOTONIC ns: record.time; 0: not asked; the last tick when that is the NIC's */
	__u32 fragment;			/* enum fragment_position */
	__u32 inner_protocol;		/* IP protocol of the inner frame, 0: not IP */
	__u32 offset;			/* cursor, while it is settled */
	__u32 left;
	struct datagram_key datagram;	/* set when fragment; all before it begins as zeros */
};

#define RECENT_FEEDS 256

/* What a CPU has of its own, in one place: it is looked up once per packet. */
struct cpu {
	struct label label;			/* of the packet it is at */
	struct tally verdicts[VERDICT_COUNT];	/* its share of the XDP line of the ledger */
	__u32 recent_feeds[RECENT_FEEDS];	/* slots of the feeds it saw last: a guess that spares hashing 40 bytes */
};

/* Only the program writes; user space sums the verdicts. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

struct packet {
	struct xdp_md *ctx;
	struct cursor cursor;
	void *start;		/* outer Ethernet header */
	void *inner;		/* the frame to deliver; for RSPAN its addresses are still at start */
	struct cpu *cpu;
	struct label *label;	/* of cpu */
	struct feed_entry *feed;	/* NULL: none, or the table is full */
	__u32 length;		/* bytes of the whole frame, all buffers */
	__u16 ethertype;	/* host order */
	__u8 protocol;		/* IP protocol of the cursor's header */
};

enum fragment_position { FRAGMENT_NONE, FRAGMENT_FIRST, FRAGMENT_LATER };

static __always_inline void blank(struct packet *p)
{
	__builtin_memset(p->label, 0, __builtin_offsetof(struct label, datagram));
	p->label->record.platform = NO_PLATFORM;
}

/* Takes size bytes at the cursor, or NULL when there are not as many. */
static __always_inline void *take(struct cursor *c, __u32 size)
{
	void *header = c->at;

	if (c->left < size || header + size > c->data_end)
		return NULL;
	c->at += size;
	c->left -= size;
	return header;
}

#define MAX_HEADERS 0x3fff		/* outer headers reach no further: 6 extensions of 2048 bytes at the most */

/*
 * Takes the cursor through map memory. Behind it the verifier knows one cursor at
 * an unknown offset, whichever of a hundred ways through the headers led there.
 */
static __always_inline void settle(struct packet *p)
{
	volatile struct label *label = p->label;

	label->offset = p->cursor.at - p->start;
	label->left = p->cursor.left;
	p->cursor.at = p->start + (label->offset & MAX_HEADERS);
	p->cursor.left = label->left;
}

/*
 * The NIC's receive time, from the driver; Linux 6.3, and only in a program that is
 * bound to its device. Of any other the loader takes the call out.
 */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __weak __ksym;

/* Does a policy say what becomes of a packet before anybody needs its time? policy.h */
static __always_inline int stamps_late(void);

/*
 * Sets the receive time. The counter is slow to read, and the CPU goes on with what
 * does not need it: so as early as it is sure that the packet is for us. Unless a
 * policy may yet drop it, which costs less without.
 */
static __always_inline void stamp(struct packet *p)
{
	struct record *record = &p->label->record;

	/* Some say that they have none (-ENODATA), some give a time of 0 (veth_xdp_rx_timestamp in drivers/net/veth.c). */
	if (!bpf_xdp_metadata_rx_timestamp(p->ctx, &record->time) && record->time) {
		record->flags |= RECORD_NIC_TIME;
		p->label->now = bpf_ktime_get_coarse_ns();
	} else {
		record->time = bpf_ktime_get_ns();
		p->label->now = record->time;
	}
}

/* An outer length field says that rest bytes follow the cursor. */
static __always_inline void bound(struct packet *p, __u32 rest)
{
	if (rest > p->cursor.left)
		p->label->record.flags |= RECORD_CLIPPED;
	else
		p->cursor.left = rest;
}

static __always_inline int accepted(enum encap encap)
{
	return settings.accept & 1U << encap;
}

static __always_inline void map_ip4(__u8 *address, __be32 ip4)
{
	__u64 *half = (__u64 *)address;

	half[0] = 0;
	half[1] = (__u64)ip4 << 32 | bpf_htonl(0xffff);
}

static __always_inline int is_vlan(__u16 ethertype)
{
	if (ethertype == ETH_P_IP)
		return 0;	/* asked first, because it is nearly always so */
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD || ethertype == ETHERTYPE_QINQ_OLD;
}

/* Version 4 and a header of 5 to 15 words, from the byte that says both. */
static __always_inline int is_ip4(const struct iphdr *ip)
{
	__u8 first = *(const __u8 *)ip;

	return first >= 0x45 && first <= 0x4f;
}

/* Bytes of options behind the fixed header; the header has at least 5 words. */
static __always_inline __u32 ip4_options(const struct iphdr *ip)
{
	return (*(const __u8 *)ip & 0xf) * 4 - sizeof(*ip);
}

static __always_inline int passes(enum verdict v)
{
	return v >= VERDICT_PASS_NOT_IP && v <= VERDICT_PASS_NO_SOCKET;
}

#endif
