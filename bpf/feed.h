/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The feed table: found or made, counted, its sequence observed. */
#ifndef UNSPAN_FEED_H
#define UNSPAN_FEED_H

#include "packet.h"
#include "sequence.h"

/* Out of line: it runs once in a feed's life and wants stack of its own. */
static __noinline struct feed_entry *make_feed(struct feed_key *key)
{
	struct feed_entry blank = {};

	if (!key || bpf_map_pop_elem(&free_feeds, &blank.id))
		return NULL;
	if (bpf_map_update_elem(&feeds, key, &blank, BPF_NOEXIST)) {
		/* Another CPU was first, or the table is full: the id goes back. */
		bpf_map_push_elem(&free_feeds, &blank.id, BPF_ANY);
	} else {
		__u32 slot = blank.id & 0xffff;

		bpf_map_update_elem(&feed_names, &slot, key, BPF_ANY);
	}
	return bpf_map_lookup_elem(&feeds, key);
}

/* A full table costs a feed its own books, never its packets: record.feed stays 0. */
static __always_inline struct feed_entry *find_feed(struct packet *p)
{
	struct feed_entry *feed = bpf_map_lookup_elem(&feeds, &p->label->key);

	return feed ? feed : make_feed(&p->label->key);
}

/* Counts the packet and its number; kept: it goes on to user space. */
static __always_inline void observe_feed(struct packet *p, struct feed_entry *feed, int kept)
{
	p->label->record.feed = feed->id;
	bpf_spin_lock(&feed->lock);
	struct feed_state *s = &feed->state;
	if (!s->first)
		s->first = p->label->record.time;
	s->last = p->label->record.time;
	s->packets++;
	s->bytes += p->label->record.wire_length;
	s->kept += kept;
	if (p->label->record.flags & RECORD_SEQUENCE)
		p->label->record.gap = sequence_observe(&s->sequence, p->label->record.sequence);
	bpf_spin_unlock(&feed->lock);
}

#endif
