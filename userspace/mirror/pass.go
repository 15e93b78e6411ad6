package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/unspan/unspan/bpf"
)

// maxPass bounds the packets of a pass when its faults do not come out even
// earlier.
const maxPass = 1 << 16

// pass is what the live sender repeats: packets complete but for what the
// program writes each time, and the order in which they leave.
type pass struct {
	events  []event
	starts  []uint64 // starts[i] is how many frames precede event i; one longer than events
	bytes   []uint64 // bytes[i] is how many bytes precede frame i; one longer than the frames
	steps   []bpf.MirrorStep
	shelves [][]byte // where steps find their packets; each of shelfSize
	end     int      // of what is on the last shelf
	longest int      // bytes of the longest frame
	strides []uint64 // numbers that each feed uses up in a pass
	empty   Stats
}

// newPass wraps what one pass sends. start is the time that clocks count from.
func newPass(p *plan, start time.Time) (_ *pass, err error) {
	s := &pass{empty: p.newStats()}
	rounds := 1
	if p.loop {
		rounds = 0
	}
	s.events, s.strides = p.schedule().unroll(rounds, maxPass)
	if len(s.events) == 0 {
		return nil, errors.New("feeds: the faults leave no packet to send")
	}
	type span struct{ first, count int }
	wrapped := make(map[ref]span) // events that send the same frame share the steps' packets
	bytes := uint64(0)
	for _, e := range s.events {
		s.starts = append(s.starts, uint64(len(s.steps)))
		at, ok := wrapped[e.ref]
		if !ok {
			at.first = len(s.steps)
			if at.count, err = s.wrap(p, e, start); err != nil {
				return nil, err
			}
			wrapped[e.ref] = at
		} else {
			s.steps = append(s.steps, s.steps[at.first:at.first+at.count]...)
		}
		steps := s.steps[len(s.steps)-at.count:]
		for i := range steps {
			steps[i].Number = p.feeds[e.feed].wrapper.session.Sequence + uint32(e.number)
			s.bytes = append(s.bytes, bytes)
			bytes += uint64(s.length(&steps[i]))
		}
	}
	s.starts = append(s.starts, uint64(len(s.steps)))
	s.bytes = append(s.bytes, bytes)
	return s, nil
}

// wrap appends steps for the frames of an event and puts those on the shelves.
func (s *pass) wrap(p *plan, e event, start time.Time) (frames int, err error) {
	w := p.feeds[e.feed].wrapper
	whole := p.wrap(nil, e, Stamp{})
	var frame []byte
	for more := true; more; frames++ {
		frame, more = w.AppendFragment(frame[:0], whole, Stamp{}, frames)
		layout := w.layout(len(frame), frames, frames > 0 || more, start)
		layout.Cost = uint64(p.rate.cost(len(frame), frames == 0) * (1 << costShift))
		step, err := s.shelve(&layout, frame)
		if err != nil {
			return 0, err
		}
		step.Stride = uint32(s.strides[e.feed])
		s.steps = append(s.steps, step)
		s.longest = max(s.longest, len(frame))
	}
	return frames, nil
}

// shelve puts a packet behind the last one, at the begin of a cache line.
func (s *pass) shelve(layout *bpf.MirrorPacket, frame []byte) (bpf.MirrorStep, error) {
	if len(frame) > maxLive {
		return bpf.MirrorStep{}, fmt.Errorf("a frame of %d bytes: live frames hold %d: use the socket method or an mtu under %d",
			len(frame), maxLive, maxLive-ethernetLen)
	}
	const line = 64
	offset := (s.end + line - 1) / line * line
	// The program asks for room for the longest packet behind every offset.
	if len(s.shelves) == 0 || offset > shelfSize-packetHeader-maxLive {
		if len(s.shelves) == maxShelves {
			return bpf.MirrorStep{}, fmt.Errorf("the live method keeps all frames in the kernel, %d MB at most: use the socket method", maxShelves*shelfSize>>20)
		}
		s.shelves = append(s.shelves, make([]byte, shelfSize))
		offset = 0
	}
	s.end = offset + packetHeader + len(frame)
	put(s.shelves[len(s.shelves)-1][offset:s.end], layout, frame)
	return bpf.MirrorStep{Shelf: uint32(len(s.shelves) - 1), Offset: uint32(offset)}, nil
}

// length is that of a step's frame.
func (s *pass) length(step *bpf.MirrorStep) int {
	return int(binary.NativeEndian.Uint16(s.shelves[step.Shelf][step.Offset+lengthOffset:]))
}

// layout tells the program where it writes into the i-th fragment of a packet,
// which is the whole of it if not fragmented. All that it writes is 0 there.
func (w *Wrapper) layout(length, i int, fragmented bool, start time.Time) bpf.MirrorPacket {
	p := bpf.MirrorPacket{Length: uint16(length), SequenceMask: w.sequenceMask()}
	if !w.session.carriedByIP() {
		return p
	}
	shift := 0
	if w.session.Source.Is4() {
		p.Identification = uint16(w.ip + 4)
	} else if fragmented {
		p.Fragment = uint16(w.ip + ipv6HeaderLen + 4)
		shift = ipv6FragmentLen
	}
	if i > 0 {
		return p
	}
	at := func(offset int) uint16 {
		if offset == 0 {
			return 0
		}
		return uint16(offset + shift)
	}
	p.Sequence = at(w.sequence)
	p.Checksum = at(w.checksum)
	if w.time != 0 {
		p.Time = at(w.time)
		p.TimeHigh = at(w.timeHigh)
		p.ClockBase = w.clock.ticks(uint64(start.UnixNano()))
		p.ClockMultiplier = w.clock.multiplier
		p.ClockDivisor = w.clock.divisor
		if w.clock.seconds {
			p.Seconds = 1
		}
	}
	return p
}

// lengthOffset is where struct packet has its length.
const lengthOffset = 28

// put writes a packet as struct packet of mirror.bpf.c.
func put(to []byte, l *bpf.MirrorPacket, frame []byte) {
	ne := binary.NativeEndian
	ne.PutUint64(to[0:], l.Cost)
	ne.PutUint64(to[8:], l.ClockBase)
	ne.PutUint32(to[16:], l.ClockMultiplier)
	ne.PutUint32(to[20:], l.ClockDivisor)
	ne.PutUint32(to[24:], l.SequenceMask)
	for i, v := range []uint16{l.Length, l.Sequence, l.Checksum, l.Time, l.TimeHigh, l.Identification, l.Fragment} {
		ne.PutUint16(to[lengthOffset+2*i:], v)
	}
	to[42] = l.Seconds
	copy(to[packetHeader:], frame)
}

// frames is how many frames the first n packets are.
func (s *pass) frames(n uint64) uint64 {
	length := uint64(len(s.events))
	return n/length*s.starts[length] + s.starts[n%length]
}

// packetEnd is the first number of frames, from sent on, that ends a packet.
func (s *pass) packetEnd(sent uint64) uint64 {
	perPass := s.starts[len(s.events)]
	rest := sent % perPass
	i := sort.Search(len(s.starts), func(i int) bool { return s.starts[i] >= rest })
	return sent - rest + s.starts[i]
}

// stats is what the first so many frames were. The last packet counts when all
// its fragments are sent.
func (s *pass) stats(frames uint64) Stats {
	length := len(s.events)
	passes, rest := frames/s.starts[length], frames%s.starts[length]
	// The last event that has ended: the greatest n with starts[n] <= rest.
	n := sort.Search(length, func(i int) bool { return s.starts[i+1] > rest })

	total := s.empty.clone()
	if passes > 0 {
		for _, e := range s.events {
			total.Feeds[e.feed].count(e)
		}
		for i := range total.Feeds {
			total.Feeds[i].repeat(passes, s.strides[i])
		}
	}
	for _, e := range s.events[:n] {
		e.number += passes * s.strides[e.feed]
		total.Feeds[e.feed].count(e)
	}
	total.Packets = passes*uint64(length) + uint64(n)
	total.Frames = frames
	total.Bytes = passes*s.bytes[len(s.steps)] + s.bytes[rest]
	return total
}
