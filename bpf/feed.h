/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The feed table: found or made, counted, its sequence observed. */
#ifndef UNSPAN_FEED_H
#define UNSPAN_FEED_H

#include "packet.h"
#include "sequence.h"

/* Out of line: it runs once in a feed's life and wants stack of its own. */
static __noinline __u32 make_feed(struct feed_key *key)
{
	__u32 id = 0, slot;

	if (!key || bpf_map_pop_elem(&free_feeds, &id))
		return 0;
	slot = id & 0xffff;
	struct feed_entry *feed = bpf_map_lookup_elem(&feeds, &slot);
	if (!feed)
		return 0;
	/* The slot is nobody's until its number is in feed_slots. */
	__builtin_memset(&feed->state, 0, sizeof(feed->state));
	feed->key = *key;
	feed->id = id;
	if (bpf_map_update_elem(&feed_slots, key, &slot, BPF_NOEXIST)) {
		feed->id = 0;		/* another CPU was first, or the table is full */
		bpf_map_push_elem(&free_feeds, &id, BPF_ANY);
		__u32 *other = bpf_map_lookup_elem(&feed_slots, key);
		return other ? *other : 0;
	}
	return slot;
}

static __always_inline int same_feed(const struct feed_key *one, const struct feed_key *other)
{
	const __u64 *a = (const __u64 *)one, *b = (const __u64 *)other;
	__u64 difference = 0;

	for (unsigned int i = 0; i < sizeof(*one) / sizeof(*a); i++)
		difference |= a[i] ^ b[i];
	return !difference;
}

/* Where this CPU remembers the feed of a key. */
static __always_inline __u32 *recent_slot(struct packet *p)
{
	struct feed_key *key = &p->label->key;
	const __u32 *tail = (const __u32 *)(key->exporter + 12);
	__u32 guess = (*tail ^ key->key * 31 ^ key->session) * 0x9e3779b1U >> 24;

	return &p->cpu->recent_feeds[guess];
}

/* The packet's feed, if this CPU saw it a moment ago. */
static __always_inline struct feed_entry *recent_feed(struct packet *p)
{
	__u32 slot = *recent_slot(p);
	struct feed_entry *feed = bpf_map_lookup_elem(&feeds, &slot);

	return feed && feed->id && same_feed(&feed->key, &p->label->key) ? feed : NULL;
}

/* A full table costs a feed its own books, never its packets: record.feed stays 0. */
static __always_inline struct feed_entry *find_feed(struct packet *p)
{
	struct feed_key *key = &p->label->key;
	__u32 *known = bpf_map_lookup_elem(&feed_slots, key);
	__u32 slot = known ? *known : make_feed(key);

	if (!slot)
		return NULL;
	*recent_slot(p) = slot;
	return bpf_map_lookup_elem(&feeds, &slot);
}

/* Counts the packet and its number in its feed. What is not kept leaves what it knows of loss to the next that is. */
static __always_inline void observe(struct packet *p, enum verdict v)
{
	struct feed_entry *feed = p->feed;
	int kept = v >= VERDICT_REDIRECT_FRAGMENT;
	__u64 now = p->label->now ? p->label->now : bpf_ktime_get_coarse_ns();
	int loops = v == VERDICT_DROP_LOOP || p->label->record.flags & RECORD_NESTED;

	if (!settings.alone)
		bpf_spin_lock(&feed->lock);
	struct feed_state *s = &feed->state;
	if (!s->first)
		s->first = now;
	if (now > s->last)	/* the last tick may lie before the packet before */
		s->last = now;
	s->packets++;
	s->bytes += p->label->record.wire_length;
	s->kept += kept;
	if (p->label->record.flags & RECORD_CRITICAL)
		s->critical++;
	if (loops)
		s->loops++;
	if (p->label->record.flags & RECORD_SEQUENCE) {
		s->owed += sequence_observe(&s->sequence, p->label->record.sequence);
		if (kept) {
			p->label->record.gap = s->owed > ~0U ? ~0U : s->owed;
			s->owed = 0;
		}
	}
	if (!settings.alone)
		bpf_spin_unlock(&feed->lock);
}

#endif
