package pcapng

import "math"

// Statistics codes of options (draft, section 4.6).
const (
	statisticsStart     = 2
	statisticsEnd       = 3
	statisticsReceived  = 4
	statisticsDropped   = 5
	statisticsAccepted  = 6
	statisticsOSDropped = 7
	statisticsDelivered = 8
)

// statisticsSize is an interface statistics block without options.
const statisticsSize = 24

// Unknown is the value of a counter of Statistics that nobody counted.
const Unknown = math.MaxUint64

// Statistics is what became of the packets of an interface since the capture
// began. Times are nanoseconds since 1970, UTC; a Start or End of 0 is left
// out, and so is a counter that is [Unknown].
type Statistics struct {
	Interface uint32
	Time      uint64 // of these figures
	Start     uint64 // isb_starttime: when the capture began
	End       uint64 // isb_endtime: when it ended
	Received  uint64 // isb_ifrecv: packets that arrived
	Dropped   uint64 // isb_ifdrop: packets the interface lost
	Accepted  uint64 // isb_filteraccept: packets the filter kept
	OSDropped uint64 // isb_osdrop: packets the operating system lost
	Delivered uint64 // isb_usrdeliv: packets given to the user
	Comment   string
}

// AppendStatistics appends an interface statistics block.
func AppendStatistics(buf []byte, s Statistics) []byte {
	start := len(buf)
	buf = openBlock(buf, blockStatistics)
	buf = order.AppendUint32(buf, s.Interface)
	buf = order.AppendUint32(buf, uint32(s.Time>>32))
	buf = order.AppendUint32(buf, uint32(s.Time))

	options := len(buf)
	buf = appendText(buf, optionComment, s.Comment)
	if s.Start != 0 {
		buf = appendTime(buf, statisticsStart, s.Start)
	}
	if s.End != 0 {
		buf = appendTime(buf, statisticsEnd, s.End)
	}
	for _, counter := range [...]struct {
		code uint16
		n    uint64
	}{
		{statisticsReceived, s.Received},
		{statisticsDropped, s.Dropped},
		{statisticsAccepted, s.Accepted},
		{statisticsOSDropped, s.OSDropped},
		{statisticsDelivered, s.Delivered},
	} {
		if counter.n != Unknown {
			buf = appendUint64(buf, counter.code, counter.n)
		}
	}
	return closeBlock(endOptions(buf, options), start)
}

func (r *Reader) parseStatistics(body []byte) error {
	const fixed = statisticsSize - minBlock
	if len(body) < fixed {
		return r.malformed("a statistics block of %d bytes is too short", len(body)+minBlock)
	}
	id := r.uint32(body)
	if uint64(id) >= uint64(len(r.sources)) {
		return r.malformed("statistics of interface %d, %d are described", id, len(r.sources))
	}
	source := r.sources[id]
	s := &Statistics{
		Interface: id,
		Time:      source.nanoseconds(r.time64(body[4:])),
		Received:  Unknown, Dropped: Unknown, Accepted: Unknown, OSDropped: Unknown, Delivered: Unknown,
	}
	if err := r.options(body[fixed:], func(code uint16, value []byte) error {
		if code == optionComment {
			s.Comment = string(value)
			return nil
		}
		if code < statisticsStart || code > statisticsDelivered {
			return nil
		}
		if len(value) != 8 {
			return r.malformed("a statistics option of type %d with %d bytes, 8 are right", code, len(value))
		}
		counter := swap64(order.Uint64(value), r.swap)
		switch code {
		case statisticsStart:
			s.Start = source.nanoseconds(r.time64(value))
		case statisticsEnd:
			s.End = source.nanoseconds(r.time64(value))
		case statisticsReceived:
			s.Received = counter
		case statisticsDropped:
			s.Dropped = counter
		case statisticsAccepted:
			s.Accepted = counter
		case statisticsOSDropped:
			s.OSDropped = counter
		case statisticsDelivered:
			s.Delivered = counter
		}
		return nil
	}); err != nil {
		return err
	}
	source.statistics = s
	return nil
}
