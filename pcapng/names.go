package pcapng

import "bytes"

// Record types of a name resolution block (draft, section 4.5).
const (
	namesEnd   = 0
	namesIPv4  = 1
	namesIPv6  = 2
	namesEUI48 = 3
	namesEUI64 = 4
)

// Name is what an address is called. The length of the address says its kind:
// 4 bytes IPv4, 16 IPv6, 6 EUI-48, 8 EUI-64, all in network order.
type Name struct {
	Address []byte
	Names   []string
}

// maxNames is where a block of names ends and another begins: no reader needs to
// hold more in memory at once. Each may have one record more than that.
const maxNames = 256 << 10

// AppendNames appends name resolution blocks, one unless there are very many
// names. Names without an address of a known kind, or without a name, are left
// out; so is a block without names.
func AppendNames(buf []byte, names []Name) []byte {
	for len(names) > 0 {
		start := len(buf)
		buf = openBlock(buf, blockNames)
		records := len(buf)
		for len(names) > 0 && len(buf)-records < maxNames {
			buf = appendName(buf, names[0])
			names = names[1:]
		}
		if len(buf) == records {
			return buf[:start]
		}
		buf = closeBlock(appendOption(buf, namesEnd, 0), start)
	}
	return buf
}

// appendName writes a record: the address and its names, each ended by a NUL.
func appendName(buf []byte, n Name) []byte {
	var kind uint16
	switch len(n.Address) {
	case 4:
		kind = namesIPv4
	case 16:
		kind = namesIPv6
	case 6:
		kind = namesEUI48
	case 8:
		kind = namesEUI64
	default:
		return buf
	}
	start := len(buf)
	buf = appendOption(buf, kind, 0)
	buf = append(buf, n.Address...)
	room := (maxOption - len(n.Address)) / max(1, len(n.Names))
	for _, name := range n.Names {
		name = cut(name, max(0, room-1))
		if name != "" {
			buf = append(append(buf, name...), 0)
		}
	}
	size := len(buf) - start - 4
	if size == len(n.Address) {
		return buf[:start]
	}
	order.PutUint16(buf[start+2:], uint16(size))
	return pad(buf, size)
}

// maxNamed is how many bytes of names of a section a Reader keeps.
const maxNamed = 4 << 20

// parseNames keeps what a name resolution block says. Names are a courtesy: what
// is wrong with them is no reason to stop, and large blocks are skipped unread.
func (r *Reader) parseNames(body []byte) {
	for len(body) >= 4 {
		kind, n := r.uint16(body), int(r.uint16(body[2:]))
		if kind == namesEnd || n > len(body)-4 {
			return
		}
		value := body[4 : 4+n]
		body = body[min(4+(n+3)&^3, len(body)):]
		length := map[uint16]int{namesIPv4: 4, namesIPv6: 16, namesEUI48: 6, namesEUI64: 8}[kind]
		if length == 0 || n <= length {
			continue
		}
		if r.named += n; r.named > maxNamed {
			return
		}
		name := Name{Address: bytes.Clone(value[:length])}
		for text := range bytes.SplitSeq(value[length:], []byte{0}) {
			if len(text) > 0 {
				name.Names = append(name.Names, string(text))
			}
		}
		if len(name.Names) > 0 {
			r.names = append(r.names, name)
		}
	}
}
