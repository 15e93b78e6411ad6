//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Calls the filter that the packet names, on the frame that it holds. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct question {
	__u32 number;
	__u32 offset;
	__u32 length;
	__u32 raw_ip;
};

__noinline int filter(struct xdp_md *ctx, __u32 number, __u32 offset, __u32 length, __u32 raw_ip)
{
	int matched = 0;

	asm volatile("" : "+r"(matched) : "r"(ctx), "r"(number), "r"(offset), "r"(length), "r"(raw_ip));
	return matched;
}

SEC("xdp.frags")
int harness(struct xdp_md *ctx)
{
	struct question *q = (void *)(long)ctx->data;

	if ((void *)(q + 1) > (void *)(long)ctx->data_end)
		return -1;
	return filter(ctx, q->number, q->offset, q->length, q->raw_ip);
}

/* The way a policy is exchanged: the program that is attached stays, and calls the one in the slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} slot SEC(".maps");

struct tally {
	__u64 empty;		/* the slot held no program */
	__u64 matched;
	__u64 missed;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

SEC("xdp.frags")
int entry(struct xdp_md *ctx)
{
	__u32 only = 0;
	struct tally *tally;

	bpf_tail_call_static(ctx, &slot, 0);
	tally = bpf_map_lookup_elem(&tallies, &only);
	if (tally)
		tally->empty++;
	return XDP_DROP;
}

/* Counts what filter 0 says of every frame. */
SEC("xdp.frags")
int judge(struct xdp_md *ctx)
{
	__u32 only = 0;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &only);

	if (!tally)
		return XDP_ABORTED;
	if (filter(ctx, 0, 0, bpf_xdp_get_buff_len(ctx), 0))
		tally->matched++;
	else
		tally->missed++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
