package pcapng

import "io"

// nextPacket goes from block to block until one holds a packet.
func (r *Reader) nextPacket(p *Packet) error {
	for {
		if len(r.buf) < minBlock {
			if err := r.fill(minBlock); err != nil {
				if err == io.EOF && len(r.buf) == 0 {
					return io.EOF
				}
				return r.ended("block", minBlock)
			}
		}
		kind := r.uint32(r.buf)
		if kind == blockSection {
			if err := r.openSection(); err != nil {
				return err
			}
			continue
		}
		body, err := r.block(kind)
		if err != nil {
			return err
		}
		found := false
		switch kind {
		case blockPacket:
			found, err = true, r.parsePacket(p, body)
		case blockInterface:
			err = r.parseInterface(body)
		case blockStatistics:
			err = r.parseStatistics(body)
		case blockNames:
			r.parseNames(body)
		case blockSimple:
			found, err = true, r.parseSimple(p, body)
		case blockOldPacket:
			found, err = true, r.parseOldPacket(p, body)
		}
		if err != nil {
			return err
		}
		if body != nil {
			r.window.skip(minBlock + len(body))
		}
		if found {
			return nil
		}
	}
}

// block returns what stands between the lengths of the block at hand. A large
// block of no interest is skipped without being kept in memory, and its body nil.
func (r *Reader) block(kind uint32) ([]byte, error) {
	size := r.uint32(r.buf[4:])
	if size < minBlock || size%4 != 0 {
		return nil, r.malformed("a block of type %#x says it has %d bytes: less than %d, or not a multiple of 4", kind, size, minBlock)
	}
	n := int(size)
	if n > len(r.buf) {
		switch {
		case n > windowSize && !known(kind):
			return nil, r.skipLarge(kind, size)
		case n > MaxBlock:
			return nil, r.malformed("a block of type %#x says it has %d bytes, %d are believed", kind, size, MaxBlock)
		}
		if r.fill(n) != nil {
			return nil, r.ended("block", n)
		}
	}
	if tail := r.uint32(r.buf[n-4:]); tail != size {
		return nil, r.unequal(kind, size, tail)
	}
	return r.buf[8 : n-4 : n-4], nil
}

func known(kind uint32) bool {
	switch kind {
	case blockSection, blockPacket, blockInterface, blockStatistics, blockSimple, blockOldPacket:
		return true
	}
	return false
}

func (r *Reader) skipLarge(kind, size uint32) error {
	if r.discard(int64(size)-4) != nil || r.fill(4) != nil {
		return r.ended("rest of a block", int(size))
	}
	if tail := r.uint32(r.buf); tail != size {
		return r.unequal(kind, size, tail)
	}
	r.window.skip(4)
	return nil
}

func (r *Reader) unequal(kind, head, tail uint32) error {
	return r.malformed("a block of type %#x says %d bytes at its head and %d at its tail", kind, head, tail)
}
