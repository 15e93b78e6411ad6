/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The sequence tracker: one number in, what it says about loss upstream out.
 * userspace/feed/sequence.go is the same in Go.
 *
 * It runs here, before policy and before any ring can overflow, so that what
 * it calls lost was lost on the way to the NIC and nowhere else. The books:
 * expected = received - duplicates + lost.
 */
#ifndef UNSPAN_SEQUENCE_H
#define UNSPAN_SEQUENCE_H

#include "contract.h"

#define SEQUENCE_WINDOW 64		/* how late a number may come and still be told from a restart */
#define SEQUENCE_JUMP (1 << 24)		/* a second of 64-byte frames at 10 Gbit/s; beyond it the sender began anew */
#define SEQUENCE_30BIT_TOP (1U << 30)
#define SEQUENCE_30BIT_NEAR (1U << 16)	/* how near the wrap must be to be learned from */

static __always_inline void sequence_start(struct sequence *s, __u32 number)
{
	s->flags = SEQUENCE_SEEN | (s->flags & SEQUENCE_30BIT);
	s->missing = 0;
	s->span = 1;
	s->next = number + 1;
}

/* Signed distance from the number expected, in the width the sender counts in. */
static __always_inline __s32 sequence_distance(struct sequence *s, __u32 number)
{
	if (s->flags & SEQUENCE_30BIT) {
		if (number >= SEQUENCE_30BIT_TOP)
			s->flags &= ~SEQUENCE_30BIT;
	} else if (number < SEQUENCE_30BIT_NEAR && s->next <= SEQUENCE_30BIT_TOP &&
		   s->next > SEQUENCE_30BIT_TOP - SEQUENCE_30BIT_NEAR) {
		s->flags |= SEQUENCE_30BIT;
		s->next &= SEQUENCE_30BIT_TOP - 1;
	}
	if (s->flags & SEQUENCE_30BIT)
		return (__s32)((number - s->next) << 2) >> 2;
	return number - s->next;
}

/* Counts number and returns how many numbers are missing just before it. */
static __always_inline __u32 sequence_observe(struct sequence *s, __u32 number)
{
	s->received++;
	/* Nearly always the number expected, and nothing suspected or learned: what follows would do the same. */
	if (number == s->next && s->flags == SEQUENCE_SEEN) {
		s->missing <<= 1;
		s->span += s->span < SEQUENCE_WINDOW;
		s->next = number + 1;
		return 0;
	}
	if (!(s->flags & SEQUENCE_SEEN)) {
		sequence_start(s, number);
		return 0;
	}

	__s32 distance = sequence_distance(s, number);
	if (distance < -SEQUENCE_WINDOW || distance >= SEQUENCE_JUMP) {
		/* One wild number is a stray; two in a row are a new run. */
		if (s->flags & SEQUENCE_SUSPECT && number == s->suspect) {
			s->restarts++;
			sequence_start(s, number);
		} else {
			s->strays++;
			s->flags |= SEQUENCE_SUSPECT;
			s->suspect = number + 1;
		}
		return 0;
	}
	s->flags &= ~SEQUENCE_SUSPECT;

	if (distance < 0) {
		__u32 back = -distance;
		__u64 bit = 1ULL << ((back - 1) & (SEQUENCE_WINDOW - 1));

		if (back > s->span) {
			s->reordered++;		/* overtaken by the first one seen */
		} else if (s->missing & bit) {
			s->missing &= ~bit;
			s->lost--;
			s->reordered++;
		} else {
			s->duplicates++;
		}
		return 0;
	}

	__u32 gap = distance;
	if (gap < SEQUENCE_WINDOW - 1) {
		s->missing = s->missing << (gap + 1) | ((1ULL << gap) - 1) << 1;
		s->span = s->span + gap + 1 > SEQUENCE_WINDOW ? SEQUENCE_WINDOW : s->span + gap + 1;
	} else {
		s->missing = ~1ULL;
		s->span = SEQUENCE_WINDOW;
	}
	s->lost += gap;
	s->next = number + 1;
	if (s->flags & SEQUENCE_30BIT)
		s->next &= SEQUENCE_30BIT_TOP - 1;
	return gap;
}

#endif
