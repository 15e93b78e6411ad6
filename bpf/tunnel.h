/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The tunnel: GRE, ERSPAN, VXLAN, Geneve. Moves the cursor to the inner frame. */
#ifndef UNSPAN_TUNNEL_H
#define UNSPAN_TUNNEL_H

#include <linux/udp.h>
#include "packet.h"

/* Which mirror encapsulation a GRE header announces; ENCAP_NONE: none. */
static __always_inline enum encap gre_encap(__u16 protocol, __u16 flags)
{
	enum encap encap = ENCAP_NONE;

	switch (protocol) {
	case GRE_PROTOCOL_ERSPAN2:
		encap = ENCAP_ERSPAN2;
		break;
	case GRE_PROTOCOL_ERSPAN3:
		return ENCAP_ERSPAN3;
	case GRE_PROTOCOL_BRIDGING:
		return ENCAP_GRE;
	case GRE_PROTOCOL_IP4:
	case GRE_PROTOCOL_IP6:
		return ENCAP_GRE_IP;
	default:
		for (int i = 0; i < MAX_GRE_PROTOCOLS; i++)
			if (settings.gre_protocols[i].protocol == protocol && protocol)
				encap = settings.gre_protocols[i].encap;
	}
	/* For 0x88be the S bit alone tells I from II: draft-foschiano-erspan-03 4.1. */
	if (encap == ENCAP_ERSPAN2 && !(flags & GRE_SEQUENCE))
		encap = ENCAP_ERSPAN1;
	return encap;
}

static __always_inline enum verdict parse_gre(struct packet *p)
{
	struct gre_header *gre = take(&p->cursor, sizeof(*gre));

	if (!gre)
		return VERDICT_DROP_GRE_SHORT;
	__u32 word = bpf_ntohl(*(__be32 *)gre);
	__u16 flags = word >> 16, protocol = word;

	if (flags & GRE_VERSION)
		return VERDICT_PASS_GRE_VERSION;
	enum encap encap = gre_encap(protocol, flags);
	if (encap == ENCAP_NONE)
		return VERDICT_PASS_GRE_PROTOCOL;
	if (!accepted(encap))
		return VERDICT_PASS_NOT_ACCEPTED;
	p->label->key.encap = encap;
	if (encap == ENCAP_GRE_IP)
		p->label->record.flags |= RECORD_RAW_IP;
	if (flags & (GRE_ROUTING | GRE_CHECKSUM)) {
		if (flags & GRE_ROUTING)
			return VERDICT_DROP_GRE_ROUTING;
		if (!take(&p->cursor, 4))
			return VERDICT_DROP_GRE_SHORT;
	}
	if (flags & GRE_KEY) {
		__be32 *key = take(&p->cursor, 4);

		if (!key)
			return VERDICT_DROP_GRE_SHORT;
		p->label->key.key = bpf_ntohl(*key);
		p->label->key.keyed = 1;
	}
	if (flags & GRE_SEQUENCE) {
		__be32 *sequence = take(&p->cursor, 4);

		if (!sequence)
			return VERDICT_DROP_GRE_SHORT;
		p->label->record.sequence = bpf_ntohl(*sequence);
		p->label->record.flags |= RECORD_SEQUENCE;
	}
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_erspan2(struct packet *p)
{
	struct erspan2_header *h = take(&p->cursor, sizeof(*h));

	if (!h)
		return VERDICT_DROP_ERSPAN_SHORT;
	__u16 first = bpf_ntohs(h->version_vlan);
	__u16 second = bpf_ntohs(h->session);

	if (first >> 12 != 1)
		return VERDICT_DROP_ERSPAN_VERSION;
	p->label->key.session = second & ERSPAN_SESSION;
	p->label->record.tci = (first & 0xfff) | (second & 0xe000);

	__u16 en = second >> 11 & 3;
	if (en != 3)		/* 11: the tag is still in the frame, the field undefined */
		p->label->record.flags |= RECORD_VLAN;
	if (en == 2)
		p->label->record.flags |= RECORD_TAG_REMOVED;
	if (second & ERSPAN_TRUNCATED)
		p->label->record.flags |= RECORD_TRUNCATED;
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_erspan3(struct packet *p)
{
	struct erspan3_header *h = take(&p->cursor, sizeof(*h));

	if (!h)
		return VERDICT_DROP_ERSPAN_SHORT;
	__u16 first = bpf_ntohs(h->version_vlan);
	__u16 second = bpf_ntohs(h->session);
	__u16 third = bpf_ntohs(h->flags);
	__u32 flags = p->label->record.flags | RECORD_VLAN | RECORD_SOURCE_TIME | RECORD_DIRECTION;

	if (first >> 12 != 2)
		return VERDICT_DROP_ERSPAN_VERSION;
	p->label->key.session = second & ERSPAN_SESSION;
	p->label->record.tci = (first & 0xfff) | (second & 0xe000);
	p->label->record.source_time = bpf_ntohl(h->timestamp);
	p->label->record.granularity = third >> 1 & 3;
	if (third & ERSPAN3_EGRESS)
		flags |= RECORD_EGRESS;
	if (second & ERSPAN_TRUNCATED)
		flags |= RECORD_TRUNCATED;
	/* BSO 1, 2, 3 are the three flags in a row. */
	__u16 bso = second >> 11 & 3;
	if (bso)
		flags |= RECORD_SHORT << (bso - 1);
	p->label->record.flags = flags;

	if (third & ERSPAN3_SUBHEADER) {
		struct erspan3_platform *platform = take(&p->cursor, sizeof(*platform));

		if (!platform)
			return VERDICT_DROP_ERSPAN_SHORT;
		p->label->record.platform = bpf_ntohl(platform->info) >> 26;
		p->label->record.source_time |= (__u64)bpf_ntohl(platform->more) << 32;
	}

	__u16 frame_type = third >> 10 & 0x1f;
	if (frame_type == ERSPAN3_IP && accepted(ENCAP_GRE_IP))
		p->label->record.flags |= RECORD_RAW_IP;
	else if (frame_type != ERSPAN3_ETHERNET)
		return VERDICT_DROP_FRAME_TYPE;
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_vxlan(struct packet *p)
{
	struct vxlan_header *h = take(&p->cursor, sizeof(*h));

	if (!h)
		return VERDICT_DROP_UDP_SHORT;
	if (!(h->flags & bpf_htonl(VXLAN_VALID_VNI)))
		return VERDICT_DROP_VXLAN_FLAGS;
	p->label->key.encap = ENCAP_VXLAN;
	p->label->key.key = bpf_ntohl(h->vni) >> 8;
	p->label->key.keyed = 1;
	return VERDICT_NONE;
}

static __always_inline enum verdict parse_geneve(struct packet *p)
{
	struct geneve_header *h = take(&p->cursor, sizeof(*h));

	if (!h)
		return VERDICT_DROP_UDP_SHORT;
	__u16 flags = bpf_ntohs(h->flags);

	if (flags >> 14)
		return VERDICT_DROP_GENEVE_VERSION;
	p->label->key.encap = ENCAP_GENEVE;
	p->label->key.key = bpf_ntohl(h->vni) >> 8;
	p->label->key.keyed = 1;
	__u16 protocol = bpf_ntohs(h->protocol);
	__u32 options = (flags >> 8 & 0x3f) * 4;
	if (options && !take(&p->cursor, options & 0xfc))
		return VERDICT_DROP_UDP_SHORT;
	/* No option changes the frame, and a mirror's frame is not ours to refuse: counted, not dropped. */
	if (flags & GENEVE_CRITICAL)
		p->label->record.flags |= RECORD_CRITICAL;
	if (protocol == GRE_PROTOCOL_BRIDGING)
		return VERDICT_NONE;
	if ((protocol != GRE_PROTOCOL_IP4 && protocol != GRE_PROTOCOL_IP6) || !accepted(ENCAP_GRE_IP))
		return VERDICT_DROP_GENEVE_PROTOCOL;
	p->label->record.flags |= RECORD_RAW_IP;
	return VERDICT_NONE;
}

static __always_inline int has_port(const volatile __u16 *ports, __u16 port)
{
	for (int i = 0; i < MAX_PORTS; i++)
		if (ports[i] == port && port)
			return 1;
	return 0;
}

static __always_inline enum verdict parse_udp(struct packet *p)
{
	struct udphdr *udp = take(&p->cursor, sizeof(*udp));

	if (!udp)
		return VERDICT_PASS_NOT_TUNNEL;
	__u16 port = bpf_ntohs(udp->dest);
	__u32 length = bpf_ntohs(udp->len);
	int vxlan = accepted(ENCAP_VXLAN) && has_port(settings.vxlan_ports, port);
	int geneve = accepted(ENCAP_GENEVE) && has_port(settings.geneve_ports, port);

	if (!vxlan && !geneve)
		return VERDICT_PASS_NOT_TUNNEL;
	if (length) {		/* 0: BIG TCP inside, RFC 2675 4 */
		if (length < sizeof(*udp))
			return VERDICT_DROP_UDP_SHORT;
		if (length - sizeof(*udp) < p->cursor.left)
			p->cursor.left = length - sizeof(*udp);
	}
	return vxlan ? parse_vxlan(p) : parse_geneve(p);
}

/* From the tunnel header to the inner frame. */
static __always_inline enum verdict parse_tunnel(struct packet *p)
{
	enum verdict v;

	if (p->protocol == IPPROTO_UDP)
		return parse_udp(p);
	v = parse_gre(p);
	if (v)
		return v;
	switch (p->label->key.encap) {
	case ENCAP_ERSPAN2:
		return parse_erspan2(p);
	case ENCAP_ERSPAN3:
		return parse_erspan3(p);
	default:
		return VERDICT_NONE;
	}
}

#endif
