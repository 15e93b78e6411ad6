package pcapng

// Section codes of options (draft, section 4.1).
const (
	sectionHardware    = 2
	sectionOS          = 3
	sectionApplication = 4
)

// sectionSize is a section header block without options.
const sectionSize = 28

// Section says who wrote a file and on what machine. Empty fields are left out.
type Section struct {
	Hardware    string // shb_hardware: the machine's CPU and model
	OS          string // shb_os: operating system and kernel
	Application string // shb_userappl: program and version
	Comment     string
}

// AppendSection appends the section header block a file begins with. Its
// length is left unspecified, so that the section may grow.
func AppendSection(buf []byte, s Section) []byte {
	start := len(buf)
	buf = openBlock(buf, blockSection)
	buf = order.AppendUint32(buf, byteOrderMagic)
	buf = order.AppendUint16(buf, 1) // version 1.0
	buf = order.AppendUint16(buf, 0)
	buf = order.AppendUint64(buf, ^uint64(0)) // section length: not specified

	options := len(buf)
	buf = appendText(buf, sectionHardware, s.Hardware)
	buf = appendText(buf, sectionOS, s.OS)
	buf = appendText(buf, sectionApplication, s.Application)
	buf = appendText(buf, optionComment, s.Comment)
	return closeBlock(endOptions(buf, options), start)
}

// section is what the Reader remembers of the section it is in.
type section struct {
	about   Section
	sources []*source
	text    int // bytes of the text of all sources
	names   []Name
	named   int // bytes of names
}

// openSection reads a section header. Its byte order is its own, and what was
// known of interfaces is of the section before.
func (r *Reader) openSection() error {
	if r.fill(minBlock) != nil {
		return r.ended("section header", minBlock)
	}
	switch magic := order.Uint32(r.buf[8:]); {
	case magic == byteOrderMagic:
		r.swap = false
	case swap32(magic, true) == byteOrderMagic:
		r.swap = true
	default:
		return r.malformed("the byte-order magic of a section header is %#x", magic)
	}
	body, err := r.block(blockSection)
	if err != nil {
		return err
	}
	if len(body) < sectionSize-minBlock {
		return r.malformed("a section header of %d bytes is too short", len(body)+minBlock)
	}
	// Minor version 2 is what some writers said; it is read as 1.0 (draft,
	// section 4.1).
	if major, minor := r.uint16(body[4:]), r.uint16(body[6:]); major != 1 || minor != 0 && minor != 2 {
		return r.malformed("pcapng version %d.%d is not known, 1.0 is", major, minor)
	}
	about := Section{}
	err = r.options(body[sectionSize-minBlock:], func(code uint16, value []byte) error {
		switch code {
		case sectionHardware:
			about.Hardware = string(value)
		case sectionOS:
			about.OS = string(value)
		case sectionApplication:
			about.Application = string(value)
		case optionComment:
			about.Comment = string(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.section = section{about: about}
	r.window.skip(minBlock + len(body))
	return nil
}
