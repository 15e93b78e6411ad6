package pcapng

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

// AppendNames appends a name resolution block. Names without an address of a
// known kind, or without a name, are left out; so is a block without names.
func AppendNames(buf []byte, names []Name) []byte {
	start := len(buf)
	buf = openBlock(buf, blockNames)
	records := len(buf)
	for _, n := range names {
		buf = appendName(buf, n)
	}
	if len(buf) == records {
		return buf[:start]
	}
	return closeBlock(appendOption(buf, namesEnd, 0), start)
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
