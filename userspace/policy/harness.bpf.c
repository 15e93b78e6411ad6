//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The policy alone, for tests and measurements: a packet is a feed key, a record
 * and the inner frame; the answer is the verdict, and the record as it was left.
 */
#include "../../bpf/contract.h"

volatile const struct config settings;

#include "../../bpf/policy.h"

struct question {
	struct feed_key key;
	struct record record;
};

SEC("xdp.frags")
int harness(struct xdp_md *ctx)
{
	struct question *asked = (void *)(long)ctx->data;
	struct question q;

	if ((void *)(asked + 1) > (void *)(long)ctx->data_end)
		return -1;
	q = *asked;
	/* GRE: may be a loop, so that it is always asked. */
	int verdict = apply_policy(ctx, &q.key, &q.record, sizeof(q), IPPROTO_GRE);
	asked = (void *)(long)ctx->data;
	if ((void *)(asked + 1) > (void *)(long)ctx->data_end)
		return -1;
	asked->record = q.record;
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
