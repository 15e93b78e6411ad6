//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel half: from a mirror feed's packet to a record and the frame inside.
 * userspace/decap is the same in Go; a test there holds the two together.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "contract.h"

volatile const struct config settings;

#include "packet.h"
#include "outer.h"
#include "tunnel.h"
#include "inner.h"
#include "feed.h"
#include "policy.h"

/* bpf2go reads types from BTF, and BTF holds what something refers to. */
const enum limit *const btf_limit __attribute__((used));
const enum encap *const btf_encap __attribute__((used));
const enum verdict *const btf_verdict __attribute__((used));
const enum record_flag *const btf_record_flag __attribute__((used));
const enum sequence_flag *const btf_sequence_flag __attribute__((used));
const struct record *const btf_record __attribute__((used));
const enum policy_limit *const btf_policy_limit __attribute__((used));
const enum dimension *const btf_dimension __attribute__((used));
const enum side *const btf_side __attribute__((used));
const enum rule_direction *const btf_rule_direction __attribute__((used));
const enum loop_action *const btf_loop_action __attribute__((used));
const enum duplicate_limit *const btf_duplicate_limit __attribute__((used));
const enum ignored *const btf_ignored __attribute__((used));

static __always_inline enum verdict parse_outer(struct packet *p)
{
	enum verdict v;

	if (p->ethertype == ETH_P_IP)
		v = parse_ip4(p);
	else if (p->ethertype == ETH_P_IPV6)
		v = parse_ip6(p);
	else
		v = VERDICT_PASS_NOT_IP;
	return v == VERDICT_NONE ? check_destination(p) : v;
}

/* Finds the tunnel and the frame in it; p->inner stands on the frame afterwards. */
static __always_inline enum verdict open_tunnel(struct packet *p)
{
	enum verdict v = parse_ethernet(p);

	if (v != VERDICT_NONE)
		return v;
	if (p->label->key.encap == ENCAP_RSPAN)
		return measure_rspan(p);
	v = parse_outer(p);
	if (v != VERDICT_NONE)
		return v;
	if (p->label->fragment) {
		name_datagram(p);
		if (p->label->fragment == FRAGMENT_LATER)
			return later_fragment(p);
	}
	v = parse_tunnel(p);
	if (v == VERDICT_NONE) {
		settle(p);
		v = measure_inner(p);
	}
	return p->label->fragment ? first_fragment(p, v) : v;
}

/* A tap's frame is its own inner frame, whatever it looked like on the way here. */
static __always_inline enum verdict take_native(struct packet *p)
{
	blank(p);
	p->label->key.encap = ENCAP_NATIVE;
	p->cursor.at = p->start;
	p->cursor.left = p->length;
	return measure_inner(p);
}

/* Whose packet, which tunnel? Reads only: what is not ours leaves untouched. */
static __always_inline enum verdict classify(struct packet *p)
{
	enum verdict v = open_tunnel(p);

	if (passes(v) && accepted(ENCAP_NATIVE) && p->length >= ETH_HLEN)
		v = take_native(p);
	if (v == VERDICT_REDIRECT_FRAGMENT) {
		p->inner = p->start;
		p->label->record.flags |= RECORD_FRAGMENT;
		p->label->record.flags &= ~RECORD_RAW_IP;	/* of the frame that follows: it has its Ethernet header */
		p->label->record.length = p->length;
		p->label->record.flow_hash = hash_datagram(p);
	}
	p->label->record.wire_length = p->label->record.length;
	p->label->record.encap = p->label->key.encap;
	p->label->record.weight = 1;
	p->label->record.rule = NO_RULE;
	p->label->record.version = CONTRACT_VERSION;
	return v;
}

static __always_inline __u32 socket_index(struct xdp_md *ctx, struct packet *p)
{
	/* The high half of the product is the hash scaled to the workers: no division. */
	__u32 worker = (__u64)p->label->record.flow_hash * settings.workers >> 32;

	return ctx->rx_queue_index * MAX_WORKERS + worker;
}

static __always_inline int is_stranger(struct packet *p)
{
	if (!settings.list_exporters || p->label->key.encap == ENCAP_RSPAN || p->label->key.encap == ENCAP_NATIVE)
		return 0;
	struct exporter_prefix from = { .bits = 128 };
	__builtin_memcpy(from.address, p->label->key.exporter, sizeof(from.address));
	return !bpf_map_lookup_elem(&exporters, &from);
}

static __always_inline int is_too_big(struct packet *p)
{
	__u32 length = p->length;

	if (settings.multi_buffer)
		return 0;
	asm volatile("" : "+r"(length));	/* or the compiler compares before it asks, each time */
	return p->start + length > p->cursor.data_end;
}

/* Is there someone to take it, may the exporter send, whose feed is it? */
static __always_inline enum verdict admit(struct xdp_md *ctx, struct packet *p, enum verdict v)
{
	__u32 index = socket_index(ctx, p);

	if (!bpf_map_lookup_elem(&xsks, &index))
		return VERDICT_PASS_NO_SOCKET;
	struct feed_entry *feed = p->label->key.encap != ENCAP_NONE ? recent_feed(p) : NULL;
	int admitted = feed && feed->admitted == policy.generation;
	if (!admitted && is_stranger(p))
		return settings.drop_strangers ? VERDICT_DROP_STRANGER : VERDICT_PASS_STRANGER;
	if (!p->label->now && !stamps_late())
		stamp(p);	/* RSPAN and native: no outer header said that they are for us */
	if (is_too_big(p))
		v = VERDICT_DROP_TOO_BIG;
	if (p->label->key.encap == ENCAP_NONE)
		return v;
	p->feed = feed ? feed : find_feed(p);
	if (p->feed) {
		p->label->record.feed = p->feed->id;
		if (settings.list_exporters && !admitted)
			p->feed->admitted = policy.generation;
	}
	return v;
}

/* ===== The frontier: from here on nothing may PASS, the packet is no longer what it was. ===== */

/* RSPAN: the addresses move over the mirror's tag, and the frame lies in one piece. */
static __always_inline void close_gap(struct packet *p)
{
	struct ethernet_header *eth = p->start, addresses;
	struct ethernet_header *inner = p->start + sizeof(struct vlan_header);

	if ((void *)(inner + 1) > p->cursor.data_end)
		return;		/* cannot be: measure_rspan has looked */
	addresses = *eth;
	__builtin_memcpy(inner->destination, addresses.destination, ETH_ALEN);
	__builtin_memcpy(inner->source, addresses.source, ETH_ALEN);
}

/* What the policy says of an inner frame. A fragment meets it in user space, when its datagram is whole. */
static __always_inline enum verdict meet(struct xdp_md *ctx, struct packet *p, enum verdict v)
{
	if (v != VERDICT_REDIRECT_INNER)
		return v;
	if (p->label->key.encap == ENCAP_RSPAN)
		close_gap(p);
	enum verdict said = apply_policy(ctx, &p->label->key, &p->label->record, p->inner - p->start,
					 p->label->inner_protocol);
	return said == VERDICT_NONE ? v : said;
}

static __always_inline enum verdict strip(struct xdp_md *ctx, struct packet *p, enum verdict v)
{
	if (bpf_xdp_adjust_head(ctx, (int)(p->inner - p->start) - (int)sizeof(struct record)))
		return VERDICT_DROP_STRIP;

	struct record *record = (void *)(long)ctx->data;
	if ((void *)(record + 1) > (void *)(long)ctx->data_end)
		return VERDICT_DROP_STRIP;
	*record = p->label->record;
	if (p->label->record.flags & RECORD_CUT && cut(ctx, &p->label->record))
		return VERDICT_DROP_STRIP;
	return v;
}

/* The one exit: counts the verdict and acts on it. */
static __always_inline int finish(struct xdp_md *ctx, struct packet *p, enum verdict v)
{
	struct tally *tally = &p->cpu->verdicts[v];

	tally->packets++;
	tally->bytes += p->length;
	if (v >= VERDICT_REDIRECT_FRAGMENT)
		return bpf_redirect_map(&xsks, socket_index(ctx, p), XDP_DROP);
	return passes(v) ? XDP_PASS : XDP_DROP;
}

SEC("xdp.frags")
int decap(struct xdp_md *ctx)
{
	__u32 here = 0;
	struct packet p = {
		.ctx = ctx,
		.cursor.at = (void *)(long)ctx->data,
		.cursor.data_end = (void *)(long)ctx->data_end,
		.start = (void *)(long)ctx->data,
		.cpu = bpf_map_lookup_elem(&cpus, &here),
		.length = bpf_xdp_get_buff_len(ctx),
	};
	if (!p.cpu)
		return XDP_ABORTED;	/* cannot be: a per-CPU array has its one element */
	p.label = &p.cpu->label;
	blank(&p);
	p.cursor.left = p.length;

	enum verdict v = classify(&p);
	if (v >= VERDICT_REDIRECT_FRAGMENT)
		v = admit(ctx, &p, v);
	if (v >= VERDICT_REDIRECT_FRAGMENT)
		v = meet(ctx, &p, v);
	if (v >= VERDICT_REDIRECT_FRAGMENT && stamps_late())
		stamp(&p);
	if (p.feed)
		observe(&p, v);
	if (v >= VERDICT_REDIRECT_FRAGMENT)
		v = strip(ctx, &p, v);
	return finish(ctx, &p, v);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
