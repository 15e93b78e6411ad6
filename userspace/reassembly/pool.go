package reassembly

// headroom is the space in front of the payload: 22 bytes of Ethernet with two VLAN
// tags and an IPv4 header with all options, or an IPv6 header and 194 bytes of
// extension headers.
const headroom = 256

// Sizes of a buffer: a frame of an ordinary Ethernet in two fragments, one of a jumbo
// Ethernet, and the largest there may be.
var classes = [...]int{4 << 10, 16 << 10, headroom + 64<<10}

const largest = len(classes) - 1

// classFor returns the smallest class that holds so many bytes of payload.
func classFor(payload int) int {
	for class := range largest {
		if payload <= classes[class]-headroom {
			return class
		}
	}
	return largest
}

// cost is what a buffer of a class takes from the limit: its bytes and two bits for
// every eight of them.
func cost(class int) int { return classes[class] + 2*8*words(class) }

// words is the number of 64-bit words with a bit for every eight bytes of payload.
func words(class int) int { return (classes[class] - headroom + 8*64 - 1) / (8 * 64) }

// A pool keeps buffers for the next datagram. All that it ever allocated and did not
// give back to the garbage collector counts against the limit.
type pool struct {
	limit     int
	allocated int
	free      [len(classes)][]*buffer
}

// room makes sure that get works: it lets go of unused buffers of the other classes
// where that helps. It returns false when buffers in use have to be put back first.
func (p *pool) room(class int) bool {
	if len(p.free[class]) > 0 {
		return true
	}
	for other := range p.free {
		for p.allocated+cost(class) > p.limit && len(p.free[other]) > 0 {
			last := len(p.free[other]) - 1
			p.free[other][last] = nil
			p.free[other] = p.free[other][:last]
			p.allocated -= cost(other)
		}
	}
	return p.allocated+cost(class) <= p.limit
}

// get returns an empty buffer; room said that there is one.
func (p *pool) get(class int) *buffer {
	if last := len(p.free[class]) - 1; last >= 0 {
		b := p.free[class][last]
		p.free[class] = p.free[class][:last]
		return b
	}
	p.allocated += cost(class)
	return &buffer{
		class:   class,
		bytes:   make([]byte, classes[class]),
		covered: make([]uint64, words(class)),
		starts:  make([]uint64, words(class)),
	}
}

func (p *pool) put(b *buffer) {
	clear(b.covered)
	clear(b.starts)
	p.free[b.class] = append(p.free[b.class], b)
}
