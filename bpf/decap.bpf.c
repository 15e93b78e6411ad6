//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "contract.h"
volatile const struct config settings;

/* bpf2go reads types from BTF, and BTF holds what something refers to. */
enum encap *btf_encap __attribute__((unused));
enum verdict *btf_verdict __attribute__((unused));
enum record_flag *btf_record_flag __attribute__((unused));
enum sequence_flag *btf_sequence_flag __attribute__((unused));
struct record *btf_record __attribute__((unused));
struct feed_key *btf_feed_key __attribute__((unused));
struct feed_state *btf_feed_state __attribute__((unused));
struct tally *btf_tally __attribute__((unused));

SEC("xdp.frags") int decap(struct xdp_md *ctx) { (void)ctx; return settings.accept ? XDP_PASS : XDP_DROP; }
char LICENSE[] SEC("license") = "Dual BSD/GPL";
