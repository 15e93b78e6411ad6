/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is on the wire and not in uapi; every field in network byte order. */
#ifndef UNSPAN_WIRE_H
#define UNSPAN_WIRE_H

#include <linux/types.h>

#define ETHERTYPE_QINQ_OLD 0x9100	/* pre-standard QinQ, still sent */

/* Ethernet II. The uapi's ethhdr is packed, so clang reads it byte by byte. */
struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 ethertype;
};

/* 802.1Q tag, behind the addresses or another tag. */
struct vlan_header {
	__be16 tci;
	__be16 ethertype;
};

/* GRE, RFC 2784 2.1; the optional words follow in the order checksum, key, sequence (RFC 2890 2). */
struct gre_header {
	__be16 flags;
	__be16 protocol;
};

#define GRE_CHECKSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007

#define GRE_PROTOCOL_ERSPAN2 0x88be	/* I and II; the S bit tells them apart */
#define GRE_PROTOCOL_ERSPAN3 0x22eb
#define GRE_PROTOCOL_BRIDGING 0x6558
#define GRE_PROTOCOL_IP4 0x0800
#define GRE_PROTOCOL_IP6 0x86dd

/* ERSPAN II, draft-foschiano-erspan-03 4.2. */
struct erspan2_header {
	__be16 version_vlan;	/* version 4, VLAN 12 */
	__be16 session;		/* COS 3, En 2, T 1, session id 10 */
	__be32 index;		/* reserved 12, port index 20 */
};

/* ERSPAN III, draft-foschiano-erspan-03 4.3. */
struct erspan3_header {
	__be16 version_vlan;	/* version 4, VLAN 12 */
	__be16 session;		/* COS 3, BSO 2, T 1, session id 10 */
	__be32 timestamp;
	__be16 sgt;
	__be16 flags;		/* P 1, FT 5, HwID 6, D 1, Gra 2, O 1 */
};

/* The platform subheader that O announces. */
struct erspan3_platform {
	__be32 info;		/* platform id 6, info 26 */
	__be32 more;		/* upper half of the timestamp, or seconds, by platform */
};

#define ERSPAN_TRUNCATED 0x0400
#define ERSPAN_SESSION 0x03ff
#define ERSPAN3_EGRESS 0x0008
#define ERSPAN3_SUBHEADER 0x0001
#define ERSPAN3_ETHERNET 0	/* frame types */
#define ERSPAN3_IP 2

/* VXLAN, RFC 7348 5. */
struct vxlan_header {
	__be32 flags;		/* I is the one that counts, the others are ignored */
	__be32 vni;		/* VNI 24, reserved 8 */
};

#define VXLAN_VALID_VNI 0x08000000

/* Geneve, RFC 8926 3.4. */
struct geneve_header {
	__be16 flags;		/* version 2, option length 6 in words, O 1, C 1, reserved 6 */
	__be16 protocol;
	__be32 vni;		/* VNI 24, reserved 8 */
};

#define GENEVE_CRITICAL 0x0040

/* IPv6 fragment header, RFC 8200 4.5. */
struct ip6_fragment {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;		/* offset 13 in 8-byte units, reserved 2, M 1 */
	__be32 id;
};

#define IP4_FRAGMENT 0x3fff	/* MF and the offset */
#define IP4_OFFSET 0x1fff
#define IP6_FRAGMENT 0xfff9	/* offset and M */
#define IP6_OFFSET 0xfff8

#endif
