/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The policy: which rule does an inner frame meet, and what becomes of it?
 *
 *	feed, VLAN, direction --memo--> first rule that fits --filter--> keep, drop, sample, cut
 *	                        |miss                          |no match: the next one that fits
 *	                        +--> one set of rules per thing looked at, all of them ANDed
 *
 * A policy is not data that a program reads: it is the program. The loader fills
 * these maps, sets the constants and puts the filters in place of filter(), loads
 * the result beside the running one and exchanges the two in one step. So no
 * packet can meet half of a policy, and nothing here needs a generation or a lock.
 * userspace/policy decides the same in Go, rule by rule.
 */
#ifndef UNSPAN_POLICY_H
#define UNSPAN_POLICY_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "contract.h"
#include "duplicate.h"
#include "loop.h"
#include "wire.h"

enum policy_limit {
	MAX_RULES = 1024,	/* rules of a policy file, without the default */
	MAX_FILTERS = 120,	/* different filters; the kernel takes 256 functions in a program */
	MAX_RANGES = 4096,	/* per dimension */
	MAX_PREFIXES = 16384,	/* of exporters and collectors together */
	RULE_WORDS = MAX_RULES / 64,
	MEMO_SLOTS = 8192,
};

/* What a rule looks at that is a number. */
enum dimension {
	DIMENSION_ENCAP,
	DIMENSION_SESSION,	/* ERSPAN session id; other encapsulations have none */
	DIMENSION_KEY,		/* GRE key; absent when the sender set none */
	DIMENSION_VNI,		/* of VXLAN and Geneve */
	DIMENSION_VLAN,		/* 0: untagged, or a priority tag */
	DIMENSION_DIRECTION,	/* enum rule_direction */
	DIMENSION_COUNT,
};

/* What a rule looks at that is an address. */
enum side { SIDE_EXPORTER, SIDE_COLLECTOR, SIDE_COUNT };

enum rule_direction { DIRECTION_UNKNOWN, DIRECTION_INGRESS, DIRECTION_EGRESS };

/* What becomes of a frame that is a mirror's own packet, mirrored again: loop.h. */
enum loop_action {
	LOOP_DROP,
	LOOP_UNWRAP,		/* open it once more: a switch wraps twice */
	LOOP_KEEP,
};

/* What becomes of the frames that meet a rule. The last rule of the array is the default. */
struct rule {
	__u32 filter;		/* 1 + number of its filter, 0: none */
	__u32 one_in;		/* keep one of so many, 1: every one */
	__u32 snap;		/* keep so many bytes of the frame, 0: all */
	__u8 drop;
	__u8 by_flow;		/* sample whole flows, both directions, not packets */
	__u8 pad[2];
};

/* What a rule has met, on one CPU. */
struct rule_state {
	__u64 packets;		/* all that met it, and their inner bytes */
	__u64 bytes;
	__u64 kept;
	__u32 position;		/* in the present block of one_in packets */
	__u32 chosen;		/* the position that is kept */
};

/* Rules as a set: bit i of word i / 64. */
struct rule_set {
	__u64 words[RULE_WORDS];
};

/* From first on, up to the next range, this set fits. */
struct rule_range {
	__u32 first;
	__u32 set;
};

/* Key of the prefixes: the side belongs to the prefix, so one trie holds both. */
struct rule_prefix {
	__u32 bits;		/* 8 for the side, and those of the address */
	__u8 side;
	__u8 address[16];
	__u8 pad[3];
};

/* Where the ranges of one dimension lie in rule_ranges. */
struct rule_ranges {
	__u32 begin;
	__u32 size;		/* a power of two, the last range repeated; 0: no rule looks at it */
	__u32 absent;		/* the set that fits a frame without such a number */
};

/* Fixed at load; the verifier removes what no rule of the policy uses. */
struct policy {
	__u32 rules;		/* without the default */
	__u32 words;		/* of a set that are in use */
	__u32 filters;
	__u32 generation;	/* not that of another policy */
	__u8 active;		/* 0: no rules, keep all: nothing to decide */
	__u8 sides[SIDE_COUNT];	/* 1: a rule looks at it */
	__u8 loops;		/* enum loop_action */
	struct rule_ranges dimensions[DIMENSION_COUNT];
};

volatile const struct policy policy;

/* Duplicates are told by their time. */
static __always_inline int stamps_late(void)
{
	return policy.active && !duplicates.window;
}

/* The rules in their order, the default last. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_RULES + 1);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

/* The sets that ranges and prefixes name. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_set);
} rule_sets SEC(".maps");

/* All dimensions one after the other, each sorted by first. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_range);
} rule_ranges SEC(".maps");

/* Prefix to set; each side has one of no address bits, so a lookup finds something. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct rule_prefix);
	__type(value, __u32);
} rule_prefixes SEC(".maps");

/*
 * Which rule comes next for a feed, a VLAN, a direction and a place in the rules.
 * Question and answer are one word, so CPUs share it without a lock: whatever
 * they read was written whole. Only the program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MEMO_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} rule_memo SEC(".maps");

/* What each rule has met. The program adds, user space sums the CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_RULES + 1);
	__type(key, __u32);
	__type(value, struct rule_state);
} rule_states SEC(".maps");

/*
 * Does the inner frame match a filter? The loader puts the policy's filters here,
 * compiled from tcpdump's language (userspace/filter). The statement keeps the
 * compiler from seeing that nothing is ever matched.
 */
__noinline int filter(struct xdp_md *ctx, __u32 number, __u32 offset, __u32 length, __u32 raw_ip)
{
	int matched = 0;

	asm volatile("" : "+r"(matched) : "r"(ctx), "r"(number), "r"(offset), "r"(length), "r"(raw_ip));
	return matched;
}

/* The set of the range that holds value. Without branches: the verifier walks it once. */
static __always_inline __u32 range_set(enum dimension d, __u32 value)
{
	__u32 at = policy.dimensions[d].begin;
	struct rule_range *range;

	for (__u32 step = MAX_RANGES / 2; step; step /= 2) {
		if (step >= policy.dimensions[d].size)
			continue;
		__u32 middle = at + step;
		range = bpf_map_lookup_elem(&rule_ranges, &middle);
		if (!range)
			return 0;
		/* The sign of first - value - 1 is: does value lie in the upper half? */
		__u32 upper = ((__u64)range->first - (__u64)value - 1) >> 63;
		at += step & -upper;
	}
	range = bpf_map_lookup_elem(&rule_ranges, &at);
	return range ? range->set : 0;
}

/* Takes the rules out of fits that are not in the set. */
static __always_inline void intersect(struct rule_set *fits, __u32 id)
{
	struct rule_set *set = bpf_map_lookup_elem(&rule_sets, &id);

	for (__u32 i = 0; i < RULE_WORDS; i++)
		if (i < policy.words)
			fits->words[i] &= set ? set->words[i] : 0;
}

static __always_inline void look_at_number(struct rule_set *fits, enum dimension d, __u32 value, int present)
{
	if (policy.dimensions[d].size)
		intersect(fits, present ? range_set(d, value) : policy.dimensions[d].absent);
}

static __always_inline void look_at_address(struct rule_set *fits, enum side side, const __u8 *address)
{
	struct rule_prefix prefix = { .bits = 8 + 128, .side = side };
	__u32 *set;

	if (!policy.sides[side])
		return;
	__builtin_memcpy(prefix.address, address, sizeof(prefix.address));
	set = bpf_map_lookup_elem(&rule_prefixes, &prefix);
	intersect(fits, set ? *set : 0);
}

static __always_inline __u32 lowest_bit(__u64 word)
{
	__u32 n = 0;

	for (int half = 32; half; half /= 2) {
		__u64 none = !(word & ((1ULL << half) - 1));

		n += half * none;
		word >>= half * none;
	}
	return n;
}

/*
 * The first rule from start on that fits, filters aside; policy.rules when none
 * does. The cost is that of the things looked at, not of the rules.
 */
__noinline int next_rule(const struct feed_key *key, __u32 vlan, __u32 direction, __u32 start)
{
	struct rule_set fits;

	if (!key)
		return policy.rules;
	for (__u32 i = 0; i < RULE_WORDS; i++)
		fits.words[i] = i < start / 64 ? 0 : i > start / 64 ? ~0ULL : ~0ULL << start % 64;

	int erspan = key->encap == ENCAP_ERSPAN2 || key->encap == ENCAP_ERSPAN3;
	int overlay = key->encap == ENCAP_VXLAN || key->encap == ENCAP_GENEVE;
	look_at_number(&fits, DIMENSION_ENCAP, key->encap, 1);
	look_at_number(&fits, DIMENSION_SESSION, key->session, erspan);
	look_at_number(&fits, DIMENSION_KEY, key->key, key->keyed && !overlay);
	look_at_number(&fits, DIMENSION_VNI, key->key, overlay);
	look_at_number(&fits, DIMENSION_VLAN, vlan, 1);
	look_at_number(&fits, DIMENSION_DIRECTION, direction, 1);
	look_at_address(&fits, SIDE_EXPORTER, key->exporter);
	look_at_address(&fits, SIDE_COLLECTOR, key->collector);

	for (__u32 i = 0; i < RULE_WORDS; i++)
		if (i < policy.words && fits.words[i]) {
			__u32 rule = i * 64 + lowest_bit(fits.words[i]);

			return rule < policy.rules ? rule : policy.rules;
		}
	return policy.rules;
}

/* A frame on its way through the rules. */
struct meeting {
	struct xdp_md *ctx;
	const struct feed_key *key;
	struct record *record;
	__u32 offset;		/* of the inner frame */
	__u32 vlan;
	__u32 direction;
	__u32 rule;		/* in: where to begin; out: the rule met */
};

/*
 * A question has 56 bits: feed 32, VLAN 12, direction 2, rule to begin at 10. An odd
 * factor permutes them; the high 13 are the slot, the low 43 stand in it, beside
 * the 11 of the answer. So nothing is left out, and no question passes for another.
 */
#define MEMO_FACTOR 0x9e3779b97f4a7c15ULL
#define MEMO_QUESTION ((1ULL << 56) - 1)
#define MEMO_REST ((1ULL << 43) - 1)
#define MEMO_ANSWER ((1ULL << 11) - 1)

_Static_assert(MEMO_SLOTS == 1 << (56 - 43), "a question is a slot and the rest");
_Static_assert(MAX_RULES <= 1 << 10, "a question has 10 bits for a rule, an answer one more");

/* next_rule, remembered. A feed without an id has no memory; ids are not given away again. */
static __always_inline __u32 recall_rule(struct meeting *m)
{
	__u32 feed = m->record->feed;
	__u64 question = (__u64)feed << 24 | (m->vlan & 0xfff) << 12 | (m->direction & 3) << 10 | (m->rule & (MAX_RULES - 1));

	question = question * MEMO_FACTOR & MEMO_QUESTION;
	__u32 slot = question >> 43;
	__u64 *memo = bpf_map_lookup_elem(&rule_memo, &slot);
	__u64 rest = question & MEMO_REST;
	__u64 known = memo && feed ? *(volatile __u64 *)memo : 0;
	if (known && known >> 11 == rest)
		return known & MEMO_ANSWER;

	__u32 next = next_rule(m->key, m->vlan, m->direction, m->rule);
	if (memo && feed)
		*(volatile __u64 *)memo = rest << 11 | next;
	return next;
}

/* One step through the rules; 1 when the rule is found. */
static long meet_next(__u32 step, struct meeting *m)
{
	struct rule *rule;

	(void)step;
	if (m->rule < policy.rules)
		m->rule = recall_rule(m);
	rule = bpf_map_lookup_elem(&rules, &m->rule);
	if (!rule || !rule->filter)
		return 1;
	if (filter(m->ctx, rule->filter - 1, m->offset, m->record->length, !!(m->record->flags & RECORD_RAW_IP)))
		return 1;
	m->rule++;
	return 0;
}

/* The VLAN of the mirrored frame: its outermost tag, else what the mirror's header says of it, else 0. */
static __always_inline __u32 frame_vlan(struct xdp_md *ctx, const struct record *record, __u32 offset)
{
	void *frame = (void *)(long)ctx->data + (offset & MAX_HEADERS);
	__be16 *tag = frame + 2 * ETH_ALEN;

	if (!(record->flags & RECORD_RAW_IP) && record->length >= 2 * ETH_ALEN + 4 &&
	    (void *)(tag + 2) <= (void *)(long)ctx->data_end && is_vlan(bpf_ntohs(tag[0])))
		return bpf_ntohs(tag[1]) & 0xfff;
	return record->flags & RECORD_VLAN ? record->tci & 0xfff : 0;
}

/* Finalizer of MurmurHash3, public domain: every bit of the input moves every bit of the output. */
static __always_inline __u32 mix(__u32 h)
{
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

/* A number below n, from 32 mixed bits. */
static __always_inline __u32 scale(__u32 mixed, __u32 n)
{
	return (__u64)mixed * n >> 32;
}

#define SAMPLE_FLOWS 0x5bd1e995	/* flow_hash also picks the worker: sampled flows shall not all have one */

/*
 * By packet: one of each block of one_in, its place in the block drawn anew each
 * time (RFC 5475 5.2.2.1, n-out-of-N): exact in number, and no period in the
 * traffic can fall in step with it.
 */
static __always_inline int sampled(const struct rule *rule, struct rule_state *state, __u32 index, __u32 flow_hash)
{
	if (rule->by_flow)
		return scale(mix(flow_hash ^ SAMPLE_FLOWS), rule->one_in) == 0;
	if (state->position == 0)
		state->chosen = scale(mix((__u32)state->packets ^ mix(index)), rule->one_in);
	int kept = state->position == state->chosen;
	state->position = state->position + 1 < rule->one_in ? state->position + 1 : 0;
	return kept;
}

/* What the rules say of the inner frame at offset. */
static __always_inline enum verdict decide(struct xdp_md *ctx, const struct feed_key *key, struct record *record,
					   __u32 offset)
{
	struct meeting m = { .ctx = ctx, .key = key, .record = record, .offset = offset };

	if (!policy.active)
		return VERDICT_NONE;
	if (policy.dimensions[DIMENSION_VLAN].size)
		m.vlan = frame_vlan(ctx, record, offset);
	if (policy.dimensions[DIMENSION_DIRECTION].size && record->flags & RECORD_DIRECTION)
		m.direction = record->flags & RECORD_EGRESS ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	if (policy.filters)
		bpf_loop(MAX_RULES + 1, meet_next, &m, 0);
	else if (policy.rules)
		m.rule = recall_rule(&m);

	struct rule *rule = bpf_map_lookup_elem(&rules, &m.rule);
	struct rule_state *state = bpf_map_lookup_elem(&rule_states, &m.rule);
	if (!rule || !state)
		return VERDICT_NONE;	/* cannot be: both maps hold policy.rules + 1 entries */
	record->rule = m.rule < policy.rules ? m.rule : NO_RULE;
	int keep = !rule->drop && (rule->one_in <= 1 || sampled(rule, state, m.rule, record->flow_hash));
	state->packets++;
	state->bytes += record->length;
	state->kept += keep;
	if (!keep)
		return rule->drop ? VERDICT_DROP_POLICY : VERDICT_DROP_SAMPLED;

	record->weight = rule->one_in;
	if (rule->snap && rule->snap < record->length) {
		record->length = rule->snap;
		record->flags |= RECORD_CUT;
	}
	return VERDICT_NONE;
}

/*
 * What becomes of the inner frame at offset, which carries an IP protocol, 0: none:
 * VERDICT_NONE, it goes on, perhaps shortened; or the verdict that drops it. record
 * says time, feed, flow hash, length and flags, and is told the rule met, the
 * weight and the length that is left. A loop that shall be unwrapped goes on as it
 * is: the rules meet what is in it.
 */
static __always_inline enum verdict apply_policy(struct xdp_md *ctx, const struct feed_key *key, struct record *record,
						 __u32 offset, __u32 protocol)
{
	__u32 length = record->length;
	enum verdict v;

	if (policy.loops != LOOP_KEEP && may_loop(protocol) &&
	    is_loop(ctx, key, offset, length, record->flags & RECORD_RAW_IP)) {
		if (policy.loops == LOOP_DROP)
			return VERDICT_DROP_LOOP;
		record->flags |= RECORD_NESTED;
		return VERDICT_NONE;
	}
	v = decide(ctx, key, record, offset);
	if (v == VERDICT_NONE && duplicates.window && seen_again(ctx, record, offset, length))
		return VERDICT_DROP_DUPLICATE;
	return v;
}

/* Shortens the buffer to what the record says is left. After the strip; 0, or an error. */
static __always_inline long cut(struct xdp_md *ctx, const struct record *record)
{
	int end = sizeof(*record) + record->length;

	return bpf_xdp_adjust_tail(ctx, end - (int)bpf_xdp_get_buff_len(ctx));
}

#endif
