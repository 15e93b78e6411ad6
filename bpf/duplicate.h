/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Duplicates: did the same packet come through another mirror, moments ago?
 * userspace/policy asks the same in Go; Digest there says what is compared.
 */
#ifndef UNSPAN_DUPLICATE_H
#define UNSPAN_DUPLICATE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include "inner.h"
#include "packet.h"

enum duplicate_limit {
	DIGEST_BYTES = 128,	/* compared of a packet, from its IP header on */
	DIGEST_WORDS = 4 + DIGEST_BYTES / 8,
	DIGEST_PASSES = 2,
	SIGHTING_BUCKETS = 1 << 16,
	SIGHTING_WAYS = 4,
	MAX_PAIRS = 4096,	/* of feeds, counted by name */
};

/* What may differ between two copies of a packet. */
enum ignored {
	IGNORE_TTL = 1 << 0,
	IGNORE_TOS = 1 << 1,
	IGNORE_CHECKSUMS = 1 << 2,
	IGNORE_VLAN = 1 << 3,
	IGNORE_MAC = 1 << 4,
};

/* Fixed at load. */
struct duplicate_settings {
	__u64 window;		/* ns; 0: nothing is a duplicate */
	__u64 key[DIGEST_PASSES][DIGEST_WORDS];	/* makes digests unpredictable */
	__u32 ignore;		/* enum ignored */
	__u32 within_feed;	/* 1: a feed's own repeats are duplicates too, if numbered */
};

volatile const struct duplicate_settings duplicates;

/* The newest first copy of a packet; feed 0: none. */
struct sighting {
	__u64 digest;
	__u64 time;		/* of the record */
	__u32 feed;
	__u32 pad;
};

struct sighting_bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct sighting ways[SIGHTING_WAYS];
};

/* Two feeds that deliver the same packets; the first copy came from first. 0, 0: all pairs beyond MAX_PAIRS. */
struct feed_pair {
	__u32 first;
	__u32 second;
};

/* What was seen, index the digest's high bits. All CPUs, under the bucket's lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIGHTING_BUCKETS);
	__type(key, __u32);
	__type(value, struct sighting_bucket);
} sightings SEC(".maps");

/* Duplicates by pair of feeds. The loader makes the pair 0, 0; the program adds, user space reads. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PAIRS + 1);
	__type(key, struct feed_pair);
	__type(value, __u64);
} duplicate_pairs SEC(".maps");

/* What is compared of a packet, each thing in its place, zero where it may differ. */
struct likeness {
	__u64 head;		/* EtherType, and the bytes of text that belong to the packet */
	__u64 tags;		/* EtherType and tag control of two tags */
	__u64 destination;	/* MACs */
	__u64 source;
	__u8 text[DIGEST_BYTES];
};

_Static_assert(sizeof(struct likeness) == DIGEST_WORDS * 8, "a digest is taken of whole words");

/* The packet a CPU is at. Only the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct likeness);
} likenesses SEC(".maps");

/*
 * NH, the universal hash under UMAC (RFC 4418, 5.2), twice with keys of their own:
 * two different packets agree in both with a chance of 2^-64 that no sender can
 * raise who does not know the keys.
 */
static __always_inline __u64 digest(const struct likeness *l)
{
	const __u64 *words = (const __u64 *)l;
	__u64 one = 0, two = 0;

	for (__u32 i = 0; i < DIGEST_WORDS; i++) {
		__u64 k = duplicates.key[0][i], other = duplicates.key[1][i];
		__u32 low = words[i], high = words[i] >> 32;

		one += (__u64)(low + (__u32)k) * (__u32)(high + (__u32)(k >> 32));
		two += (__u64)(low + (__u32)other) * (__u32)(high + (__u32)(other >> 32));
	}
	one ^= two << 32 | two >> 32;
	one *= HASH_K1;
	return one ^ one >> 32;
}

/* A packet while it is looked at. */
struct look {
	struct likeness *likeness;
	__u32 bytes;		/* of the text */
	__u16 ethertype;
	__u8 numbered;		/* a retransmission would have another IPv4 identification */
};

/* Takes in what is compared of addresses and tags. The cursor stands behind them afterwards. */
static __always_inline void liken_ethernet(struct look *l, struct cursor *c)
{
	struct ethhdr *eth = take(c, sizeof(*eth));

	if (!eth)
		return;
	l->ethertype = bpf_ntohs(eth->h_proto);
	for (int i = 0; i < MAX_VLANS && is_vlan(l->ethertype); i++) {
		struct vlan_header *tag = take(c, sizeof(*tag));

		if (!tag)
			break;
		if (!(duplicates.ignore & IGNORE_VLAN))
			l->likeness->tags = l->likeness->tags << 32 | (__u64)l->ethertype << 16 | bpf_ntohs(tag->tci);
		l->ethertype = bpf_ntohs(tag->ethertype);
	}
	if (!(duplicates.ignore & IGNORE_MAC) || (l->ethertype != ETH_P_IP && l->ethertype != ETH_P_IPV6)) {
		l->likeness->destination = fold_mac(eth->h_dest);
		l->likeness->source = fold_mac(eth->h_source);
	}
}

/* Zeroes a checksum of size bytes, at some place behind a transport header's begin. */
static __always_inline void take_out(struct look *l, __u32 transport, __u32 at, __u32 size)
{
	asm volatile("" : "+r"(transport));	/* or the compiler drops the bound that it knows, and the verifier does not */
	transport &= 0x3c;
	for (__u32 i = 0; i < size; i++)
		l->likeness->text[transport + at + i] = 0;
}

static __always_inline void liken_transport(struct look *l, __u32 at, __u8 protocol)
{
	if (!(duplicates.ignore & IGNORE_CHECKSUMS))
		return;
	switch (protocol) {
	case IPPROTO_TCP:
		return take_out(l, at, 16, 2);
	case IPPROTO_UDP:
		return take_out(l, at, 6, 2);
	case IPPROTO_ICMPV6:
		return take_out(l, at, 2, 2);
	case IPPROTO_SCTP:
		return take_out(l, at, 8, 4);
	}
}

/* What an IP header says of its packet's length; 0 says nothing. */
static __always_inline void bound_text(struct look *l, __u32 length, __u32 header)
{
	if (length && length + header < l->bytes)
		l->bytes = length + header;
}

static __always_inline void liken_ip4(struct look *l)
{
	__u8 *t = l->likeness->text;

	bound_text(l, t[2] << 8 | t[3], 0);
	l->numbered = t[4] || t[5];
	if (duplicates.ignore & IGNORE_TOS)
		t[1] = 0;
	if (duplicates.ignore & IGNORE_TTL)
		t[8] = 0;
	if (duplicates.ignore & (IGNORE_TTL | IGNORE_TOS | IGNORE_CHECKSUMS))
		t[10] = t[11] = 0;	/* it follows what it covers */
	if (!((t[6] << 8 | t[7]) & IP4_OFFSET))
		liken_transport(l, (t[0] & 0xf) * 4, t[9]);
}

static __always_inline void liken_ip6(struct look *l)
{
	__u8 *t = l->likeness->text;

	bound_text(l, t[4] << 8 | t[5], 40);
	if (duplicates.ignore & IGNORE_TOS) {
		t[0] &= 0xf0;
		t[1] &= 0x0f;
	}
	if (duplicates.ignore & IGNORE_TTL)
		t[7] = 0;
	liken_transport(l, 40, t[6]);
}

/* Zeroes what follows the packet's end: padding of a short frame. */
static __always_inline void cut_text(struct look *l)
{
	__u64 *words = (__u64 *)l->likeness->text;

	for (__u32 i = 0; i < DIGEST_BYTES / 8; i++) {
		__u32 left = l->bytes > i * 8 ? l->bytes - i * 8 : 0;

		if (left < 8)
			words[i] &= (1ULL << left * 8) - 1;
	}
}

static __always_inline void liken_text(struct look *l)
{
	__u8 version = l->likeness->text[0] >> 4;
	__u32 read = l->bytes;

	if (l->ethertype == ETH_P_IP && l->bytes >= 20 && version == 4)
		liken_ip4(l);
	else if (l->ethertype == ETH_P_IPV6 && l->bytes >= 40 && version == 6)
		liken_ip6(l);
	if (l->bytes < read)
		cut_text(l);
	l->likeness->head = (__u64)l->bytes << 16 | l->ethertype;
}

/* Copies what is compared of the packet; 0 when it cannot be read. */
static __always_inline int liken(struct xdp_md *ctx, struct look *l, __u32 offset, __u32 length, __u32 raw_ip)
{
	__u32 only = 0;
	struct cursor c = {
		.at = (void *)(long)ctx->data + (offset & MAX_HEADERS),
		.data_end = (void *)(long)ctx->data_end,
		.left = length,
	};

	l->likeness = bpf_map_lookup_elem(&likenesses, &only);
	if (!l->likeness)
		return 0;
	__builtin_memset(l->likeness, 0, sizeof(*l->likeness));
	if (!raw_ip)
		liken_ethernet(l, &c);
	l->bytes = c.left < DIGEST_BYTES ? c.left : DIGEST_BYTES;
	if (l->bytes) {
		/* The verifier wants to see 1 to DIGEST_BYTES, and the compiler thinks it knows already. */
		__u32 less = l->bytes - 1;

		asm volatile("" : "+r"(less));
		less &= DIGEST_BYTES - 1;
		if (bpf_xdp_load_bytes(ctx, offset + (length - c.left), l->likeness->text, less + 1))
			return 0;
	}
	if (raw_ip)
		l->ethertype = l->likeness->text[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP;
	liken_text(l);
	return 1;
}

static __always_inline void count_pair(__u32 first, __u32 second)
{
	struct feed_pair pair = { first, second }, others = {};
	__u64 *count = bpf_map_lookup_elem(&duplicate_pairs, &pair), one = 1;

	if (!count && !bpf_map_update_elem(&duplicate_pairs, &pair, &one, BPF_NOEXIST))
		return;
	if (!count)		/* the table is full, or another CPU was faster */
		count = bpf_map_lookup_elem(&duplicate_pairs, &pair);
	if (!count)
		count = bpf_map_lookup_elem(&duplicate_pairs, &others);
	if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * Has the packet been seen within the window? A feed's own repeats are
 * retransmissions, however alike; only when a session mirrors both ports of a
 * switch, and only if numbered, they may be dropped too.
 */
__noinline int seen_again(struct xdp_md *ctx, const struct record *record, __u32 offset, __u32 length)
{
	struct look l = {};

	if (!record || !record->feed)
		return 0;
	if (!liken(ctx, &l, offset, length, record->flags & RECORD_RAW_IP))
		return 0;
	__u64 seen = digest(l.likeness), now = record->time;
	__u32 index = seen >> 48, feed = record->feed, first = 0, again = 0, known = 0;
	struct sighting_bucket *bucket = bpf_map_lookup_elem(&sightings, &index);
	if (!bucket)
		return 0;

	bpf_spin_lock(&bucket->lock);
	struct sighting *place = &bucket->ways[0];
	for (int i = 0; i < SIGHTING_WAYS && !known; i++) {
		struct sighting *s = &bucket->ways[i];

		known = s->feed && s->digest == seen;
		if (known || s->time < place->time)
			place = s;
	}
	if (known) {
		first = place->feed;
		again = (now < place->time || now - place->time <= duplicates.window) &&
			(first != feed || (duplicates.within_feed && l.numbered));
	}
	if (!again) {
		place->digest = seen;
		place->time = now;
		place->feed = feed;
	}
	bpf_spin_unlock(&bucket->lock);
	if (again)
		count_pair(first, feed);
	return again;
}

#endif
