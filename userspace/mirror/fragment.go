package mirror

// Oversized reports whether a packet that Wrap made is over the session's MTU
// and has to go out in fragments.
func (w *Wrapper) Oversized(packet []byte) bool {
	return w.session.MTU > 0 && w.session.carriedByIP() && len(packet)-w.ip > w.session.MTU
}

// AppendFragment appends to dst the i-th IP fragment of a packet that Wrap made
// with the same stamp, a whole outer frame again, and reports whether more follow. It does not
// allocate when dst has room. A packet that is not oversized is its own and only
// fragment.
func (w *Wrapper) AppendFragment(dst, packet []byte, stamp Stamp, i int) (_ []byte, more bool) {
	if !w.Oversized(packet) {
		return append(dst, packet...), false
	}
	start := len(dst)
	mtu := w.session.MTU
	if w.session.Source.Is4() {
		header := w.ip + int(packet[w.ip]&0xf)*4
		part, offset, more := fragment(packet[header:], mtu-(header-w.ip), i)
		dst = append(dst, packet[:header]...)
		dst = append(dst, part...)
		ip := dst[start+w.ip:]
		be.PutUint16(ip[2:], uint16(len(ip)))
		flags := uint16(offset / 8)
		if more {
			flags |= 0x2000
		}
		be.PutUint16(ip[6:], flags)
		if i > 0 {
			blankOptions(ip[ipv4HeaderLen : header-w.ip])
		}
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^fold(sum(ip[:header-w.ip])))
		return pad(dst, start), more
	}

	// RFC 8200, 4.5: only headers up to a routing header are repeated, so the
	// fragment header comes right after the fixed one.
	header := w.ip + ipv6HeaderLen
	part, offset, more := fragment(packet[header:], mtu-ipv6HeaderLen-ipv6FragmentLen, i)
	dst = append(dst, packet[:header]...)
	ip := dst[start+w.ip:]
	be.PutUint16(ip[4:], uint16(ipv6FragmentLen+len(part)))
	next := ip[6]
	ip[6] = ipProtocolFragment
	flags := uint16(offset)
	if more {
		flags |= 1
	}
	dst = append(dst, next, 0)
	dst = be.AppendUint16(dst, flags)
	dst = be.AppendUint32(dst, stamp.Number)
	dst = append(dst, part...)
	return pad(dst, start), more
}

// fragment is the i-th of the parts of a payload that each fit room bytes. All
// but the last are multiples of 8.
func fragment(payload []byte, room, i int) (part []byte, offset int, more bool) {
	room &^= 7
	offset = min(i*room, len(payload))
	end := min(offset+room, len(payload))
	return payload[offset:end], offset, end < len(payload)
}

// blankOptions replaces the options that only the first fragment has (RFC 791,
// 3.1: the copied flag) by no-operations.
func blankOptions(options []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(options) > 0 {
		length := 1
		switch options[0] {
		case end:
			return
		case nop:
		default:
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return
			}
			length = int(options[1])
			if options[0]&copied == 0 {
				for j := range length {
					options[j] = nop
				}
			}
		}
		options = options[length:]
	}
}
