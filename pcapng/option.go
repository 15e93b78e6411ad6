package pcapng

import (
	"strings"
	"unicode/utf8"
)

// Option codes that stand in several blocks (draft, section 3.5).
const (
	optionEnd     = 0
	optionComment = 1
)

// maxOption is what the 16-bit length of an option can say.
const maxOption = 0xffff

func appendOption(buf []byte, code uint16, size int) []byte {
	buf = order.AppendUint16(buf, code)
	return order.AppendUint16(buf, uint16(size))
}

// appendText writes a UTF-8 option, or nothing for the empty string. Text that
// is not UTF-8 is made so, and text too long for an option is cut between
// characters: the draft allows neither in a file.
func appendText(buf []byte, code uint16, text string) []byte {
	if text == "" {
		return buf
	}
	text = cut(strings.ToValidUTF8(text, "\uFFFD"), maxOption)
	buf = appendOption(buf, code, len(text))
	return pad(append(buf, text...), len(text))
}

func appendUint64(buf []byte, code uint16, v uint64) []byte {
	return order.AppendUint64(appendOption(buf, code, 8), v)
}

// appendTime writes a time as the draft has it: the high half first.
func appendTime(buf []byte, code uint16, ns uint64) []byte {
	buf = order.AppendUint32(appendOption(buf, code, 8), uint32(ns>>32))
	return order.AppendUint32(buf, uint32(ns))
}

// endOptions closes the options that began at start, if there are any.
func endOptions(buf []byte, start int) []byte {
	if len(buf) == start {
		return buf
	}
	return appendOption(buf, optionEnd, 0)
}

// pad aligns a value of n bytes to 32 bits.
func pad(buf []byte, n int) []byte {
	const zeros = "\x00\x00\x00"
	return append(buf, zeros[:-n&3]...)
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// options calls f with each option of a block. Values are not copied.
func (r *Reader) options(b []byte, f func(code uint16, value []byte) error) error {
	for len(b) >= 4 {
		code, n := r.uint16(b), int(r.uint16(b[2:]))
		if code == optionEnd {
			return nil
		}
		if n > len(b)-4 {
			return r.malformed("an option of type %d says it has %d bytes, the block has %d left", code, n, len(b)-4)
		}
		if err := f(code, b[4:4+n]); err != nil {
			return err
		}
		b = b[min(4+(n+3)&^3, len(b)):]
	}
	return nil
}
