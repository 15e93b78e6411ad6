package pcapng

import "io"

// Magic numbers of pcap files: times in microseconds or nanoseconds.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

const (
	savefileHeader = 24
	recordHeader   = 16

	// minLimit is the least that is believed of a record's length, whatever
	// the snap length of the file says: libpcap's MAXIMUM_SNAPLEN.
	minLimit = 262144
)

// savefile is the classic file of libpcap: one header, one interface, records
// (draft-ietf-opsawg-pcap).
type savefile struct {
	unit  uint64 // ns per unit of the fraction of a second
	limit uint32 // largest record
	minor uint16
}

func (r *Reader) openSavefile() error {
	f := &savefile{unit: 1000}
	magic := order.Uint32(r.buf)
	r.swap = magic != magicMicro && magic != magicNano
	switch swap32(magic, r.swap) {
	case magicMicro:
	case magicNano:
		f.unit = 1
	default:
		return r.malformed("the first bytes % x are neither pcap nor pcapng: %s", r.buf[:4], foreign(r.buf))
	}
	if r.fill(savefileHeader) != nil {
		return r.ended("file header", savefileHeader)
	}
	b := r.buf[:savefileHeader]
	if major := r.uint16(b[4:]); major != 2 {
		return r.malformed("pcap version %d.%d is not known, 2.4 is", major, r.uint16(b[6:]))
	}
	f.minor = r.uint16(b[6:])
	link, snap := r.uint32(b[20:]), r.uint32(b[16:])
	f.limit = min(max(snap, minLimit), MaxBlock)

	source := &source{Interface: Interface{LinkType: LinkType(link), SnapLen: snap, FCSLength: -1}}
	if link&(1<<26) != 0 {
		// The FCS length is counted in 16-bit words (pcap-savefile(5)).
		source.FCSLength = int8(link>>28) * 2
	}
	r.sources = append(r.sources, source)
	r.legacy = f
	r.window.skip(savefileHeader)
	return nil
}

func (r *Reader) nextRecord(p *Packet) error {
	if len(r.buf) < recordHeader {
		if err := r.fill(recordHeader); err != nil {
			if err == io.EOF && len(r.buf) == 0 {
				return io.EOF
			}
			return r.ended("packet header", recordHeader)
		}
	}
	b := r.buf[:recordHeader]
	captured, length := r.uint32(b[8:]), r.uint32(b[12:])
	if r.legacy.minor < 3 || r.legacy.minor == 3 && captured > length {
		captured, length = length, captured // as libpcap wrote them before 2.4
	}
	if captured > r.legacy.limit {
		return r.malformed("a packet of %d bytes, the file says %d at most", captured, r.legacy.limit)
	}
	n := recordHeader + int(captured)
	if len(r.buf) < n && r.fill(n) != nil {
		return r.ended("packet", n)
	}
	b = r.buf[:n]
	*p = Packet{
		Data:      b[recordHeader:],
		Time:      uint64(r.uint32(b))*1e9 + uint64(r.uint32(b[4:]))*r.legacy.unit,
		OrigLen:   length,
		Interface: &r.sources[0].Interface,
	}
	r.window.skip(n)
	return nil
}
