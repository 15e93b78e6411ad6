package pcapng

// Interface codes of options (draft, section 4.2).
const (
	interfaceName        = 2
	interfaceDescription = 3
	interfaceResolution  = 9
	interfaceFilter      = 11
	interfaceOS          = 12
	interfaceFCS         = 13
	interfaceOffset      = 14
	interfaceHardware    = 15
)

// interfaceSize is an interface description block without options.
const interfaceSize = 20

// Interface is a source of packets. Its id is its position among the
// interface blocks of its section, from 0. Empty fields are left out.
//
// Interfaces are comparable: two that are equal describe the same source.
type Interface struct {
	Name        string // if_name, such as 192.0.2.7/erspan2/1000
	Description string // if_description
	Filter      string // if_filter, a capture filter as text
	OS          string // if_os
	Hardware    string // if_hardware
	Comment     string
	LinkType    LinkType
	SnapLen     uint32 // bytes kept of a packet at most; 0: no limit

	// FCSLength is how many bytes of frame check sequence end each packet.
	// Negative: not known, and then readers guess.
	FCSLength int8
}

// AppendInterface appends an interface description block with times in
// nanoseconds.
func AppendInterface(buf []byte, i Interface) []byte {
	start := len(buf)
	buf = openBlock(buf, blockInterface)
	buf = order.AppendUint16(buf, uint16(i.LinkType))
	buf = order.AppendUint16(buf, 0)
	buf = order.AppendUint32(buf, i.SnapLen)

	options := len(buf)
	buf = appendText(buf, interfaceName, i.Name)
	buf = appendText(buf, interfaceDescription, i.Description)
	buf = append(buf, interfaceResolution, 0, 1, 0, 9, 0, 0, 0) // 10^-9 s
	if i.Filter != "" {
		// The first byte says what follows: 0 is libpcap's language.
		buf = appendText(buf, interfaceFilter, "\x00"+i.Filter)
	}
	buf = appendText(buf, interfaceOS, i.OS)
	if i.FCSLength >= 0 {
		buf = append(buf, interfaceFCS, 0, 1, 0, byte(i.FCSLength), 0, 0, 0)
	}
	buf = appendText(buf, interfaceHardware, i.Hardware)
	buf = appendText(buf, optionComment, i.Comment)
	return closeBlock(endOptions(buf, options), start)
}

const (
	// maxInterfaces and maxText bound what a section may make the Reader
	// remember of its interfaces.
	maxInterfaces = 1 << 16
	maxText       = 32 << 20
)

// source is an interface and how it tells the time.
type source struct {
	Interface
	clock
	statistics *Statistics
}

func (r *Reader) parseInterface(body []byte) error {
	const fixed = interfaceSize - minBlock
	if len(body) < fixed {
		return r.malformed("an interface block of %d bytes is too short", len(body)+minBlock)
	}
	if len(r.sources) == maxInterfaces {
		return r.malformed("a section with more than %d interfaces", maxInterfaces)
	}
	if r.text += len(body); r.text > maxText {
		return r.malformed("a section whose interface blocks have more than %d bytes", maxText)
	}
	s := &source{
		Interface: Interface{
			LinkType:  LinkType(r.uint16(body)),
			SnapLen:   r.uint32(body[4:]),
			FCSLength: -1,
		},
		clock: newClock(6, 0), // microseconds unless the interface says otherwise
	}
	if err := r.options(body[fixed:], func(code uint16, value []byte) error {
		return r.describe(s, code, value)
	}); err != nil {
		return err
	}
	r.sources = append(r.sources, s)
	return nil
}

func (r *Reader) describe(s *source, code uint16, value []byte) error {
	switch code {
	case interfaceName:
		s.Name = string(value)
	case interfaceDescription:
		s.Description = string(value)
	case interfaceFilter:
		if len(value) > 0 && value[0] == 0 {
			s.Filter = string(value[1:])
		}
	case interfaceOS:
		s.OS = string(value)
	case interfaceHardware:
		s.Hardware = string(value)
	case optionComment:
		s.Comment = string(value)
	case interfaceResolution:
		if len(value) != 1 {
			return r.malformed("an if_tsresol option of %d bytes, 1 is right", len(value))
		}
		s.clock = newClock(value[0], s.offset)
	case interfaceFCS:
		if len(value) != 1 {
			return r.malformed("an if_fcslen option of %d bytes, 1 is right", len(value))
		}
		if value[0] <= 127 {
			s.FCSLength = int8(value[0])
		}
	case interfaceOffset:
		if len(value) != 8 {
			return r.malformed("an if_tsoffset option of %d bytes, 8 is right", len(value))
		}
		s.offset = int64(swap64(order.Uint64(value), r.swap))
	}
	return nil
}
