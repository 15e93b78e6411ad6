//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A mirror feed at XDP rates. BPF_PROG_TEST_RUN with live frames runs this
 * program once per frame: it fills the frame with the next wrapped packet,
 * writes what differs each time (sequence number, identification, time) and
 * redirects it to the device.
 *
 *	steps    [ packet 0 | packet 1 | packet 0 | ... ]  one pass of the feed, in order
 *	shelves  [ packet 0: layout, bytes ] [ packet 1: ... ]  wrapped by userspace/mirror
 *
 * Packets stand on the shelves one after the other in the order of the pass, so
 * that the CPU fetches ahead.
 *
 * A live frame comes back as its receiver left it: the page pool recycles its
 * page and restores only the bounds (reset_ctx in net/bpf/test_run.c). So every
 * byte is written every time.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define COST_SHIFT 8		/* packet.cost and state.budget are ns << 8 */
#define STALL 50000		/* ns between two looks at the clock that are still one run */
#define MAX_DEBT 100000000	/* ns of lost time that are made up for */
#define OFFSET_MASK 0xfff	/* frames are smaller than a page; this tells the verifier */
#define MAX_LENGTH 3392		/* of a frame */
#define SHELF_SIZE (1 << 18)	/* map values end at 4 MB (KMALLOC_MAX_SIZE), packets may need more */

/*
 * One wrapped packet, complete but for what differs each time. Offsets count
 * from its first byte, 0 means that it has no such field.
 */
struct packet {
	__u64 cost;		/* time this packet takes of the rate, ns << COST_SHIFT */
	__u64 clock_base;	/* ticks of the sender's clock at settings.start */
	__u32 clock_multiplier;	/* ticks = clock_base + ns * multiplier / divisor */
	__u32 clock_divisor;
	__u32 sequence_mask;	/* 0x3fffffff for senders that count in 30 bits */
	__u16 length;		/* bytes */
	__u16 sequence;		/* GRE sequence number */
	__u16 checksum;		/* GRE checksum; what is written later counts as 0 in it */
	__u16 time;		/* ERSPAN III timestamp */
	__u16 time_high;	/* its upper half in the platform subheader */
	__u16 identification;	/* IPv4; the header checksum lies 6 bytes on */
	__u16 fragment;		/* IPv6 fragment identification */
	__u8 seconds;		/* 1: time is ns and time_high s, as IEEE 1588 has it */
	__u8 pad[13];
	__u8 bytes[];
};

struct shelf {
	__u8 bytes[SHELF_SIZE];
};

/* bpf2go reads types from BTF, and BTF holds what something refers to. */
struct packet *btf_packet __attribute__((unused));

/* One frame of a pass. */
struct step {
	__u32 shelf;	/* index into shelves */
	__u32 offset;	/* of the packet on it */
	__u32 number;	/* sequence number in the first pass */
	__u32 stride;	/* how far the number moves from pass to pass */
};

struct settings {
	__u64 start;		/* CLOCK_MONOTONIC ns */
	__u32 steps;		/* of one pass */
	__u32 paced;		/* 0: as fast as the kernel runs */
};
volatile const struct settings settings;

/* Only one CPU at a time runs the program, so these are plain words. */
struct state {
	__u64 sent;	/* frames redirected */
	__u64 refused;	/* frames that could not be: the device has gone */
	__u64 now;	/* CLOCK_MONOTONIC ns at the last look, 0 before the first */
	__u64 budget;	/* ns << COST_SHIFT earned and not yet spent */
	__u64 debt;	/* ns that passed while nobody ran the program */
	__u32 step;
	__u32 pass;
};
struct state state;

/* Frames to stop at. User space writes it while the program runs, so it lies in a map of its own. */
volatile __u64 limit SEC(".data.limit");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);				/* set at load */
	__type(key, __u32);
	__type(value, struct shelf);
} shelves SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);				/* set at load */
	__type(key, __u32);
	__type(value, struct step);
} steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} device SEC(".maps");

/*
 * Whether the rate allows another packet. The clock is read only when what was
 * earned by the last look is spent. Time that passed unseen (between two test
 * runs, behind somebody else's interrupt) would come out as one burst: it is
 * paid back at a quarter over the rate instead.
 */
static __always_inline int due(__u64 cost)
{
	if (state.budget >= cost)
		return 1;

	__u64 now = bpf_ktime_get_ns();
	__u64 elapsed = state.now ? now - state.now : 0;
	state.now = now;
	if (elapsed > STALL) {
		__u64 debt = state.debt + elapsed - STALL;
		state.debt = debt < MAX_DEBT ? debt : MAX_DEBT;
		elapsed = STALL;
	}
	__u64 extra = elapsed / 4;
	if (extra > state.debt)
		extra = state.debt;
	state.debt -= extra;
	state.budget += (elapsed + extra) << COST_SHIFT;
	return state.budget >= cost;
}

static __always_inline __u32 halves(__u32 word)
{
	return (word >> 16) + (word & 0xffff);
}

/* Adds 16-bit words to an Internet checksum in which they counted as 0 (RFC 1624, eqn. 3). */
static __always_inline __be16 checksum_add(__be16 checksum, __u32 sum)
{
	sum += (__u16)~bpf_ntohs(checksum);
	sum = halves(sum);
	sum = halves(sum);
	return bpf_htons(~sum);
}

/* Writes a word and returns what it adds to a checksum; 0 where the packet has no such field. */
static __always_inline __u32 put(void *data, void *data_end, __u16 offset, __u32 word)
{
	__be32 *field = data + (offset & OFFSET_MASK);

	if (!offset || (void *)(field + 1) > data_end)
		return 0;
	*field = bpf_htonl(word);
	return halves(word);
}

/* Writes what differs from packet to packet. */
static __always_inline void stamp(struct xdp_md *ctx, const struct packet *packet, __u32 number)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	__u32 sum = put(data, data_end, packet->sequence, number & packet->sequence_mask);

	put(data, data_end, packet->fragment, number);
	if (packet->identification) {
		__be16 *field = data + (packet->identification & OFFSET_MASK);

		if ((void *)(field + 4) > data_end)
			return;
		field[0] = bpf_htons(number);
		field[3] = checksum_add(field[3], number & 0xffff);
	}
	if (packet->time && packet->clock_divisor) {
		__u64 ns = bpf_ktime_get_ns() - settings.start;
		__u64 ticks = packet->clock_base + ns * packet->clock_multiplier / packet->clock_divisor;
		__u32 low = packet->seconds ? ticks % 1000000000 : ticks;
		__u32 high = packet->seconds ? ticks / 1000000000 : ticks >> 32;

		sum += put(data, data_end, packet->time, low);
		sum += put(data, data_end, packet->time_high, high);
	}
	if (packet->checksum) {
		__be16 *field = data + (packet->checksum & OFFSET_MASK);

		if ((void *)(field + 1) <= data_end)
			*field = checksum_add(*field, sum);
	}
}

SEC("xdp") int mirror(struct xdp_md *ctx)
{
	if (state.sent >= limit)
		return XDP_DROP;

	__u32 index = state.step;
	const struct step *step = bpf_map_lookup_elem(&steps, &index);
	if (!step)
		return XDP_DROP;
	const struct shelf *shelf = bpf_map_lookup_elem(&shelves, &step->shelf);
	__u32 offset = step->offset;
	if (!shelf || offset > SHELF_SIZE - sizeof(struct packet) - MAX_LENGTH)
		return XDP_DROP;
	const struct packet *packet = (void *)shelf + offset;

	__u64 cost = packet->cost;
	if (settings.paced && !due(cost))
		return XDP_DROP;

	__u32 length = packet->length;
	long surplus = (void *)(long)ctx->data_end - (void *)(long)ctx->data - length;
	__u32 last = length - 1;
	if (last >= MAX_LENGTH)
		goto refuse;
	/* Or the compiler passes length, of which Linux 6.1's verifier does not see that it is not 0. */
	asm volatile("" : "+r"(last));
	if (bpf_xdp_store_bytes(ctx, 0, (void *)packet->bytes, last + 1))
		goto refuse;
	stamp(ctx, packet, step->number + state.pass * step->stride);
	if (surplus && bpf_xdp_adjust_tail(ctx, -surplus))
		goto refuse;
	if (bpf_redirect_map(&device, 0, 0) != XDP_REDIRECT)
		goto refuse;

	state.sent++;
	if (settings.paced)
		state.budget -= cost;
	if (++state.step == settings.steps) {
		state.step = 0;
		state.pass++;
	}
	return XDP_REDIRECT;
refuse:
	state.refused++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
