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
	bytes   []uint64 // the same in bytes
	packets []packet // frames that differ
	steps   []bpf.MirrorStep
	longest int      // bytes of the longest packet
	strides []uint64 // numbers that each feed uses up in a pass
	empty   Stats
}

// packet is one frame: where the program writes, and the bytes.
type packet struct {
	layout bpf.MirrorPacket
	bytes  []byte
}

// newPass wraps what one pass sends. start is the time that clocks count from.
func newPass(p *plan, start time.Time) (*pass, error) {
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
	wrapped := make(map[ref]span) // events that send the same frame share its packets
	memory := 0
	frames, bytes := uint64(0), uint64(0)
	for _, e := range s.events {
		s.starts = append(s.starts, frames)
		s.bytes = append(s.bytes, bytes)
		w := p.feeds[e.feed].wrapper
		at, ok := wrapped[e.ref]
		if !ok {
			at.first = len(s.packets)
			whole := p.wrap(nil, e, Stamp{})
			for more := true; more; at.count++ {
				var frame []byte
				frame, more = w.AppendFragment(nil, whole, Stamp{}, at.count)
				layout := w.layout(len(frame), at.count, at.count > 0 || more, start)
				layout.Cost = uint64(p.rate.cost(len(frame), at.count == 0) * (1 << costShift))
				s.packets = append(s.packets, packet{layout, frame})
				s.longest = max(s.longest, len(frame))
			}
			wrapped[e.ref] = at
		}
		if s.longest > maxLive {
			return nil, fmt.Errorf("a frame of %d bytes: live frames hold %d: use the socket method or an mtu under %d", s.longest, maxLive, maxLive-ethernetLen)
		}
		if memory = len(s.packets) * (packetHeader + s.longest); memory > maxLiveMemory {
			return nil, fmt.Errorf("frames of %d MB: the live method holds %d MB in the kernel: use the socket method", memory>>20, maxLiveMemory>>20)
		}
		for i := range at.count {
			s.steps = append(s.steps, bpf.MirrorStep{
				Packet: uint32(at.first + i),
				Number: w.session.Sequence + uint32(e.number),
				Stride: uint32(s.strides[e.feed]),
			})
			bytes += uint64(len(s.packets[at.first+i].bytes))
		}
		frames += uint64(at.count)
	}
	s.starts = append(s.starts, frames)
	s.bytes = append(s.bytes, bytes)
	return s, nil
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

// put writes the packet as struct packet of mirror.bpf.c.
func (p *packet) put(value []byte) {
	clear(value)
	l := &p.layout
	ne := binary.NativeEndian
	ne.PutUint64(value[0:], l.Cost)
	ne.PutUint64(value[8:], l.ClockBase)
	ne.PutUint32(value[16:], l.ClockMultiplier)
	ne.PutUint32(value[20:], l.ClockDivisor)
	ne.PutUint32(value[24:], l.SequenceMask)
	for i, v := range []uint16{l.Length, l.Sequence, l.Checksum, l.Time, l.TimeHigh, l.Identification, l.Fragment} {
		ne.PutUint16(value[28+2*i:], v)
	}
	value[42] = l.Seconds
	copy(value[packetHeader:], p.bytes)
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
	total.Bytes = passes*s.bytes[length] + s.bytes[n]
	for _, step := range s.steps[s.starts[n]:rest] {
		total.Bytes += uint64(len(s.packets[step.Packet].bytes))
	}
	return total
}
