/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The inner frame: is there one, and which flow is it? Reads, never moves the
 * packet's own cursor. userspace/decap/flowhash.go computes the same hash.
 */
#ifndef UNSPAN_INNER_H
#define UNSPAN_INNER_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "packet.h"

#define HASH_K1 0x9e3779b97f4a7c15ULL	/* 2^64 / golden ratio */
#define HASH_K2 0xff51afd7ed558ccdULL	/* from MurmurHash3's finalizer, public domain */

#define HASH_PORT_SHIFT 40		/* beside the 32 bits of an IPv4 address */

/* Odd multiplications spread upward, the shift brings that back down: sums of two do not collide by structure. */
static __always_inline __u64 hash_endpoint(__u64 address, __u64 port)
{
	__u64 e = (address ^ port << HASH_PORT_SHIFT) * HASH_K1;

	return e ^ e >> 29;
}

/* Both directions give the same hash: a sum does not know its order. */
static __always_inline __u32 hash_flow(__u64 one, __u64 other, __u64 protocol)
{
	__u64 h = (one + other + protocol) * HASH_K2;

	return h >> 32 ^ h;
}

static __always_inline __u64 fold_ip6(const void *address)
{
	const __u32 *w = address;

	return ((__u64)w[1] << 32 | w[0]) * HASH_K1 ^ ((__u64)w[3] << 32 | w[2]);
}

static __always_inline int has_ports(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return 1;
	default:
		return 0;
	}
}

/* Ports as they lie in memory at the cursor, 0 when there are none to read. */
static __always_inline __u32 peek_ports(struct cursor *c, __u8 protocol)
{
	__u32 *ports;

	if (!has_ports(protocol))
		return 0;
	ports = take(c, 4);
	return ports ? *ports : 0;
}

/* *carries is told the IP protocol of what the packet carries. */
static __always_inline __u32 hash_ip4(struct cursor *c, __u32 *carries)
{
	struct iphdr *ip = take(c, sizeof(*ip));

	if (!ip || (*(__u8 *)ip & 0xf) < 5)
		return 0;
	__u32 source = ip->saddr, destination = ip->daddr, ports = 0;
	__u8 protocol = ip->protocol;
	*carries = protocol;
	__u32 options = ip4_options(ip);

	/* Only the first fragment has ports: none is asked, so all meet the same worker. */
	if (!(ip->frag_off & bpf_htons(IP4_FRAGMENT)) && (!options || take(c, options & 0x3c)))
		ports = peek_ports(c, protocol);
	return hash_flow(hash_endpoint(source, ports & 0xffff), hash_endpoint(destination, ports >> 16), protocol);
}

static __always_inline __u32 hash_ip6(struct cursor *c, __u32 *carries)
{
	struct ipv6hdr *ip = take(c, sizeof(*ip));

	if (!ip)
		return 0;
	__u64 source = fold_ip6(&ip->saddr), destination = fold_ip6(&ip->daddr);
	__u8 protocol = ip->nexthdr;
	*carries = protocol;
	__u32 ports = peek_ports(c, protocol);

	/* Behind an extension header the flow is its addresses: fragments and whole packets stay together. */
	if (!has_ports(protocol))
		protocol = 0;
	return hash_flow(hash_endpoint(source, ports & 0xffff), hash_endpoint(destination, ports >> 16), protocol);
}

static __always_inline __u64 fold_mac(const __u8 *mac)
{
	const __u16 *w = (const __u16 *)mac;

	return (__u64)w[2] << 32 | (__u64)w[1] << 16 | w[0];
}

/* All fragments of a datagram meet the same worker. */
static __always_inline __u32 hash_datagram(struct packet *p)
{
	return hash_flow(fold_ip6(p->label->datagram.source), fold_ip6(p->label->datagram.destination),
			 (__u64)p->label->datagram.id << 8 | p->label->datagram.protocol);
}

/* The cursor stands behind the EtherType; eth holds the addresses. */
static __always_inline __u32 hash_ethernet(struct cursor *c, const struct ethernet_header *eth, __u16 ethertype,
					   __u32 *carries)
{
	for (int i = 0; i < MAX_VLANS && is_vlan(ethertype); i++) {
		struct vlan_header *tag = take(c, sizeof(*tag));

		if (!tag)
			break;
		ethertype = bpf_ntohs(tag->ethertype);
	}
	if (ethertype == ETH_P_IP)
		return hash_ip4(c, carries);
	if (ethertype == ETH_P_IPV6)
		return hash_ip6(c, carries);
	return hash_flow(hash_endpoint(fold_mac(eth->source), 0), hash_endpoint(fold_mac(eth->destination), 0),
			 ethertype);
}

static __always_inline enum verdict measure_ip(struct packet *p)
{
	struct cursor look = p->cursor;
	__u8 *first = look.at;

	if (!look.left || (void *)(first + 1) > look.data_end)
		return VERDICT_DROP_INNER_SHORT;
	if (*first >> 4 == 4 && look.left >= sizeof(struct iphdr))
		p->label->record.flow_hash = hash_ip4(&look, &p->label->inner_protocol);
	else if (*first >> 4 == 6 && look.left >= sizeof(struct ipv6hdr))
		p->label->record.flow_hash = hash_ip6(&look, &p->label->inner_protocol);
	else
		return VERDICT_DROP_INNER_SHORT;
	return VERDICT_REDIRECT_INNER;
}

/* Checks that the cursor stands on a frame, and fills in what the record says of it. */
static __always_inline enum verdict measure_inner(struct packet *p)
{
	struct cursor look = p->cursor;

	p->inner = look.at;
	p->label->record.length = look.left;
	if (p->label->record.flags & RECORD_RAW_IP)
		return measure_ip(p);

	struct ethernet_header *eth = take(&look, sizeof(*eth));
	if (!eth)
		return VERDICT_DROP_INNER_SHORT;
	p->label->record.flow_hash = hash_ethernet(&look, eth, bpf_ntohs(eth->ethertype),
						   &p->label->inner_protocol);
	return VERDICT_REDIRECT_INNER;
}

/* RSPAN: the addresses, then what follows the mirror's tag, where the cursor stands. */
static __always_inline enum verdict measure_rspan(struct packet *p)
{
	struct cursor look = p->cursor;
	struct ethernet_header *eth = p->start;

	if ((void *)(eth + 1) > look.data_end)
		return VERDICT_DROP_INNER_SHORT;
	p->inner = p->start + sizeof(struct vlan_header);
	p->label->record.length = look.left + sizeof(*eth);
	p->label->record.flow_hash = hash_ethernet(&look, eth, p->ethertype, &p->label->inner_protocol);
	return VERDICT_REDIRECT_INNER;
}

#endif
