//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A mirror feed at XDP rates. BPF_PROG_TEST_RUN with live frames runs this
 * program once per frame: it fills the frame with the next wrapped packet,
 * writes what differs each time (sequence number, identification, time) and
 * redirects it to the device.
 *
 *	steps    [ packet 0 | packet 1 | packet 0 | ... ]  one pass of the feed, in order
 *	packets  [ layout, bytes ] [ layout, bytes ] ...   wrapped by userspace/mirror
 *
 * A live frame comes back as its receiver left it (page_pool recycles the page
 * and nobody restores it), so every byte is written every time.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define CHUNK 64		/* bytes copied between two bounds checks */
#define MIRROR_MAX_LENGTH 3392	/* of a wrapped packet; a live frame is one page less its overhead */
#define MIRROR_COST_SHIFT 8	/* mirror_packet.cost is ns << 8 */
#define OFFSET_MASK 0xfff	/* tells the verifier that offsets are small */

/* One wrapped packet, complete but for what differs each time. Offsets are from its first byte; 0: absent. */
struct mirror_packet {
	__u64 cost;		/* time until the next packet is due, ns << MIRROR_COST_SHIFT */
	__u64 clock_base;	/* ticks of the sender's clock at mirror_settings.start */
	__u32 clock_multiplier;	/* ticks = clock_base + ns * multiplier / divisor */
	__u32 clock_divisor;
	__u32 sequence_mask;	/* 0x3fffffff for senders that count in 30 bits */
	__u16 length;		/* bytes, at least CHUNK */
	__u16 sequence;		/* GRE sequence number */
	__u16 checksum;		/* GRE checksum, computed with what follows as 0 */
	__u16 time;		/* ERSPAN III timestamp */
	__u16 time_high;	/* its upper half in the platform subheader */
	__u16 identification;	/* IPv4 identification; the header checksum lies 6 bytes on */
	__u16 fragment;		/* IPv6 fragment identification */
	__u8 seconds;		/* 1: time is ns and time_high is s, as in IEEE 1588 */
	__u8 pad[5];
	__u8 bytes[];
};

/* One packet of a pass. */
struct mirror_step {
	__u32 packet;	/* index into packets */
	__u32 number;	/* sequence number in the first pass */
	__u32 stride;	/* how far the number moves from pass to pass */
};

struct mirror_settings {
	__u64 start;		/* CLOCK_MONOTONIC ns that clock_base belongs to */
	__u32 steps;		/* of one pass */
	__u32 value_size;	/* of the packets map */
	__u8 paced;		/* 0: as fast as the kernel runs */
	__u8 pad[7];
};
volatile const struct mirror_settings mirror_settings;

/* One CPU at a time runs the program, so plain words do. */
struct mirror_state {
	__u64 sent;	/* packets redirected */
	__u64 now;	/* CLOCK_MONOTONIC ns when last read */
	__u64 budget;	/* ns << MIRROR_COST_SHIFT earned and not spent */
	__u64 debt;	/* earned while nobody ran us; paid back slowly */
	__u32 step;
	__u32 pass;
};
struct mirror_state mirror_state;

/* Written by user space while the program runs: packets to stop at. */
volatile __u64 mirror_limit __attribute__((section(".data.limit")));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct mirror_packet) + CHUNK); /* set at load */
} mirror_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mirror_step);
} mirror_steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} mirror_device SEC(".maps");

static __always_inline void copy_chunk(void *to, const void *from)
{
	__u64 *t = to;
	const __u64 *f = from;

#pragma unroll
	for (int i = 0; i < CHUNK / 8; i++)
		t[i] = f[i];
}

SEC("xdp") int mirror(struct xdp_md *ctx)
{
	struct mirror_state *state = &mirror_state;
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;

	if (state->sent >= mirror_limit)
		return XDP_DROP;

	__u32 at = state->step;
	struct mirror_step *step = bpf_map_lookup_elem(&mirror_steps, &at);
	if (!step)
		return XDP_DROP;
	struct mirror_packet *packet = bpf_map_lookup_elem(&mirror_packets, &step->packet);
	if (!packet)
		return XDP_DROP;

	__u32 length = packet->length;
	__u32 max = mirror_settings.value_size - sizeof(*packet);
	if (length < CHUNK || length > max)
		return XDP_DROP;
	__u32 offset = 0;
#if VARIANT == 0
	bpf_xdp_store_bytes(ctx, 0, packet->bytes, length);
#elif VARIANT == 1
	for (offset = 0; offset < MIRROR_MAX_LENGTH; offset += CHUNK) {
		if (offset >= length || offset + CHUNK > max || data + offset + CHUNK > data_end)
			break;
		copy_chunk(data + offset, packet->bytes + offset);
	}
#endif
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	__u32 number = step->number + state->pass * step->stride;
	offset = packet->sequence & OFFSET_MASK;
	if (offset) {
		__be32 *p = data + offset;
		if ((void *)(p + 1) > data_end)
			return XDP_DROP;
		*p = bpf_htonl(number & packet->sequence_mask);
	}
	int delta = (int)length - (int)(data_end - data);
	if (delta && bpf_xdp_adjust_tail(ctx, delta))
		return XDP_DROP;
	if (++state->step == mirror_settings.steps) {
		state->step = 0;
		state->pass++;
	}
	state->sent++;
	return bpf_redirect_map(&mirror_device, 0, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
