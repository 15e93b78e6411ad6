/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Loops: is the inner frame itself a mirror's packet on its way to the collector?
 * A mirror that mirrors its own feed makes more of it with every round.
 * userspace/policy asks the same in Go.
 */
#ifndef UNSPAN_LOOP_H
#define UNSPAN_LOOP_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "packet.h"
#include "outer.h"
#include "tunnel.h"

/* Does a GRE header announce a mirror's frame that is accepted? */
static __always_inline int mirrors_gre(struct cursor *c)
{
	struct gre_header *gre = take(c, sizeof(*gre));

	if (!gre || bpf_ntohs(gre->flags) & GRE_VERSION)
		return 0;
	enum encap encap = gre_encap(bpf_ntohs(gre->protocol), bpf_ntohs(gre->flags));
	return encap != ENCAP_NONE && accepted(encap);
}

static __always_inline int mirrors_udp(struct cursor *c)
{
	struct udphdr *udp = take(c, sizeof(*udp));

	if (!udp)
		return 0;
	__u16 port = bpf_ntohs(udp->dest);
	return (accepted(ENCAP_VXLAN) && has_port(settings.vxlan_ports, port)) ||
	       (accepted(ENCAP_GENEVE) && has_port(settings.geneve_ports, port));
}

/* The collector's address is that of its list, or, when it takes any, the feed's own. */
static __always_inline int comes_here(const struct feed_key *key, const __u64 *address)
{
	const __u64 *own = (const __u64 *)key->collector;

	return (own[0] == address[0] && own[1] == address[1]) || is_collector((const __u8 *)address);
}

/* first: the datagram's beginning, so that its headers say what it carries. */
static __always_inline int mirrors(struct cursor *c, __u8 protocol, int first)
{
	if (protocol == IPPROTO_GRE)
		return !first || mirrors_gre(c);
	return protocol == IPPROTO_UDP && first && mirrors_udp(c);
}

static __always_inline int loops_ip4(struct cursor *c, const struct feed_key *key)
{
	struct iphdr *ip = take(c, sizeof(*ip));
	__u64 to[2];

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return 0;
	__u32 options = ip->ihl * 4 - sizeof(*ip);
	__u8 protocol = ip->protocol;
	int first = !(ip->frag_off & bpf_htons(IP4_OFFSET));

	map_ip4((__u8 *)to, ip->daddr);
	if (options && !take(c, options & 0x3c))
		return 0;
	return comes_here(key, to) && mirrors(c, protocol, first);
}

/* Extension headers are not followed: no mirror sends them. */
static __always_inline int loops_ip6(struct cursor *c, const struct feed_key *key)
{
	struct ipv6hdr *ip = take(c, sizeof(*ip));
	__u64 to[2];

	if (!ip || ip->version != 6)
		return 0;
	__builtin_memcpy(to, &ip->daddr, sizeof(to));
	return comes_here(key, to) && mirrors(c, ip->nexthdr, 1);
}

/* Only what carries one of these can be a loop: asked first, because it is cheap. */
static __always_inline int may_loop(__u32 protocol)
{
	return protocol == IPPROTO_GRE ||
	       (protocol == IPPROTO_UDP && (accepted(ENCAP_VXLAN) || accepted(ENCAP_GENEVE)));
}

/*
 * A function of its own for the verifier, which then walks it once and not once
 * for every way that leads here. Reads the first buffer: headers lie in it.
 */
__noinline int is_loop(struct xdp_md *ctx, const struct feed_key *key, __u32 offset, __u32 length, __u32 raw_ip)
{
	struct cursor c = {
		.at = (void *)(long)ctx->data + (offset & MAX_HEADERS),
		.data_end = (void *)(long)ctx->data_end,
		.left = length,
	};
	__u16 ethertype;

	if (!key)
		return 0;
	if (raw_ip) {
		__u8 *first = c.at;

		if ((void *)(first + 1) > c.data_end)
			return 0;
		ethertype = *first >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP;
	} else {
		struct ethhdr *eth = take(&c, sizeof(*eth));

		if (!eth)
			return 0;
		ethertype = bpf_ntohs(eth->h_proto);
		for (int i = 0; i < MAX_VLANS && is_vlan(ethertype); i++) {
			struct vlan_header *tag = take(&c, sizeof(*tag));

			if (!tag)
				return 0;
			ethertype = bpf_ntohs(tag->ethertype);
		}
	}
	if (ethertype == ETH_P_IP)
		return loops_ip4(&c, key);
	return ethertype == ETH_P_IPV6 && loops_ip6(&c, key);
}

#endif
