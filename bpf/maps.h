/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps: what the key is, what the value is, who writes it. */
#ifndef UNSPAN_MAPS_H
#define UNSPAN_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "contract.h"

/* A feed as the kernel keeps it. The lock makes its books exact when RSS spreads a feed over CPUs. */
struct feed_entry {
	struct bpf_spin_lock lock;
	__u32 id;		/* what record.feed says; 0: the slot is free */
	struct feed_key key;
	struct feed_state state;
	__u32 admitted;		/* generation of the policy that let its exporter in */
	__u32 pad;
};

/* The collector's addresses, those in use first. */
struct address_list {
	__u32 count;
	__u32 pad;
	struct {
		__u64 high, low;	/* as they lie in memory, network order */
	} address[MAX_COLLECTORS];
};

/* Key of an outer datagram while its fragments arrive, RFC 791 3.2, RFC 8200 4.5. */
struct datagram_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u8 protocol;
	__u8 pad[3];
};

enum datagram_kind { DATAGRAM_UNKNOWN, DATAGRAM_TUNNEL, DATAGRAM_OTHER };

/* Key of the exporter list: a prefix over the 16-byte address. */
struct exporter_prefix {
	__u32 bits;
	__u8 address[16];
};

/* Socket of each worker, index queue * workers + worker. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES * MAX_WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* The collector's addresses. Written by the loader, now and when they change. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct address_list);
} collectors SEC(".maps");

/* Exporters that may send, when settings.list_exporters. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct exporter_prefix);
	__type(value, __u8);
} exporters SEC(".maps");

/* The feeds, index id & 0xffff; slot 0 is none. The program fills slots, user space reads and frees idle ones. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4097);
	__type(key, __u32);
	__type(value, struct feed_entry);
} feeds SEC(".maps");

/* Where a feed's slot is. The program adds, user space takes out what it frees. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct feed_key);
	__type(value, __u32);
} feed_slots SEC(".maps");

/* Ids that are free. User space puts them in, the program takes one for each new feed. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4096);
	__type(value, __u32);
} free_feeds SEC(".maps");

/* Datagrams of which the first fragment has been seen: enum datagram_kind. Only the program. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct datagram_key);
	__type(value, __u32);
} datagrams SEC(".maps");

#endif
