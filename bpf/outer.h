/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The outer packet: Ethernet, tags, IP, fragments. Moves the cursor to the tunnel header. */
#ifndef UNSPAN_OUTER_H
#define UNSPAN_OUTER_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "packet.h"

#define MAX_EXTENSIONS 6	/* IPv6 extension headers followed, fragment header included */
#define IP6_HOP_BY_HOP 0
#define IP6_ROUTING 43
#define IP6_FRAGMENT_HEADER 44
#define IP6_DESTINATION 60

static __always_inline enum verdict parse_ethernet(struct packet *p)
{
	struct ethernet_header *eth = take(&p->cursor, sizeof(*eth));

	if (!eth)
		return VERDICT_PASS_NOT_IP;
	p->ethertype = bpf_ntohs(eth->ethertype);

	for (int i = 0; i < MAX_VLANS && is_vlan(p->ethertype); i++) {
		struct vlan_header *tag = take(&p->cursor, sizeof(*tag));

		if (!tag)
			return VERDICT_PASS_NOT_IP;
		p->ethertype = bpf_ntohs(tag->ethertype);
		__u16 vlan = bpf_ntohs(tag->tci) & 0xfff;
		if (i == 0 && accepted(ENCAP_RSPAN) && vlan == settings.rspan_vlan) {
			p->label->key.encap = ENCAP_RSPAN;
			p->label->key.session = vlan;
			return VERDICT_NONE;
		}
	}
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_ip4(struct packet *p)
{
	struct iphdr *ip = take(&p->cursor, sizeof(*ip));

	if (!ip || !is_ip4(ip))
		return VERDICT_PASS_BAD_IP;
	__u32 options = ip4_options(ip);
	__u32 total = bpf_ntohs(ip->tot_len);

	if (total) {		/* 0: BIG TCP, the frame says how long it is */
		if (total < sizeof(*ip) + options)
			return VERDICT_PASS_BAD_IP;
		bound(p, total - sizeof(*ip));
	}
	p->protocol = ip->protocol;
	map_ip4(p->label->key.exporter, ip->saddr);
	map_ip4(p->label->key.collector, ip->daddr);
	if (ip->frag_off & bpf_htons(IP4_FRAGMENT)) {
		p->label->fragment = ip->frag_off & bpf_htons(IP4_OFFSET) ? FRAGMENT_LATER : FRAGMENT_FIRST;
		p->label->datagram.id = bpf_ntohs(ip->id);
	}
	if (options && !take(&p->cursor, options & 0x3c))
		return VERDICT_PASS_BAD_IP;
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_ip6(struct packet *p)
{
	struct ipv6hdr *ip = take(&p->cursor, sizeof(*ip));

	if (!ip || ip->version != 6)
		return VERDICT_PASS_BAD_IP;
	__u32 payload = bpf_ntohs(ip->payload_len);

	if (payload)		/* 0: jumbogram, RFC 2675, or BIG TCP */
		bound(p, payload);
	p->protocol = ip->nexthdr;
	__builtin_memcpy(p->label->key.exporter, &ip->saddr, 16);
	__builtin_memcpy(p->label->key.collector, &ip->daddr, 16);

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (p->protocol == IP6_FRAGMENT_HEADER) {
			struct ip6_fragment *f = take(&p->cursor, sizeof(*f));

			if (!f)
				return VERDICT_PASS_BAD_IP;
			p->protocol = f->nexthdr;
			__u16 offset = bpf_ntohs(f->offset);
			if (!(offset & IP6_FRAGMENT))
				continue;	/* atomic, RFC 6946 */
			p->label->fragment = offset & IP6_OFFSET ? FRAGMENT_LATER : FRAGMENT_FIRST;
			p->label->datagram.id = bpf_ntohl(f->id);
			return VERDICT_NONE;
		}
		if (p->protocol != IP6_HOP_BY_HOP && p->protocol != IP6_ROUTING &&
		    p->protocol != IP6_DESTINATION)
			return VERDICT_NONE;

		__u8 *extension = take(&p->cursor, 8);
		if (!extension)
			return VERDICT_PASS_BAD_IP;
		p->protocol = extension[0];
		__u32 more = extension[1] * 8;
		if (more && !take(&p->cursor, more & 0x7f8))
			return VERDICT_PASS_BAD_IP;
	}
	return VERDICT_NONE;
}

static __always_inline int is_collector(const __u8 *address)
{
	const __u64 *half = (const __u64 *)address;
	__u32 all = 0;
	struct address_list *list = bpf_map_lookup_elem(&collectors, &all);

	for (__u32 i = 0; list && i < MAX_COLLECTORS && i < list->count; i++)
		if (list->address[i].high == half[0] && list->address[i].low == half[1])
			return 1;
	return 0;
}

/* Is the datagram one for us to open? All ways through the outer headers meet here. */
static __always_inline enum verdict check_destination(struct packet *p)
{
	if (p->protocol != IPPROTO_GRE &&
	    !(p->protocol == IPPROTO_UDP && (accepted(ENCAP_VXLAN) || accepted(ENCAP_GENEVE))))
		return p->label->fragment ? VERDICT_PASS_FRAGMENT : VERDICT_PASS_NOT_TUNNEL;
	settle(p);
	if (!settings.any_destination && !is_collector(p->label->key.collector))
		return VERDICT_PASS_NOT_COLLECTOR;
	if (!stamps_late())
		stamp(p);
	return VERDICT_NONE;
}

static __always_inline void name_datagram(struct packet *p)
{
	__builtin_memcpy(p->label->datagram.source, p->label->key.exporter, sizeof(p->label->datagram.source));
	__builtin_memcpy(p->label->datagram.destination, p->label->key.collector, sizeof(p->label->datagram.destination));
	p->label->datagram.protocol = p->protocol;
	__builtin_memset(p->label->datagram.pad, 0, sizeof(p->label->datagram.pad));
}

static __always_inline void remember_datagram(struct packet *p, __u32 kind)
{
	bpf_map_update_elem(&datagrams, &p->label->datagram, &kind, BPF_ANY);
}

/* A fragment that is not the first: only its datagram's first one knew what it is. */
static __always_inline enum verdict later_fragment(struct packet *p)
{
	__u32 *kind = bpf_map_lookup_elem(&datagrams, &p->label->datagram);

	if (kind ? *kind == DATAGRAM_TUNNEL : p->protocol == IPPROTO_GRE)
		return VERDICT_REDIRECT_FRAGMENT;
	return VERDICT_PASS_FRAGMENT;
}

/* The first fragment, given what its tunnel headers said: it decides for its datagram. */
static __always_inline enum verdict first_fragment(struct packet *p, enum verdict v)
{
	switch (v) {
	case VERDICT_REDIRECT_INNER:
		break;
	case VERDICT_DROP_GRE_SHORT:
	case VERDICT_DROP_ERSPAN_SHORT:
	case VERDICT_DROP_UDP_SHORT:
	case VERDICT_DROP_INNER_SHORT:
		p->label->key.encap = ENCAP_NONE;	/* the headers go on in the next fragment */
		break;
	default:
		remember_datagram(p, DATAGRAM_OTHER);
		return v;
	}
	remember_datagram(p, DATAGRAM_TUNNEL);
	return VERDICT_REDIRECT_FRAGMENT;
}

#endif
