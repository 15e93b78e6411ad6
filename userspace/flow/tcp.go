package flow

// defaultReorder is how long after a hole appeared a segment that fills it can
// still have been overtaken rather than sent again, where no handshake told the
// round trip: 3 ms, as Wireshark takes it.
const defaultReorder = 3e6

// plain is a segment of an established connection that only carries data or
// acknowledges some.
func (p *packet) plain() bool { return p.tcpFlags&(tcpSYN|tcpFIN|tcpRST) == 0 && p.window != 0 }

// tcp follows a connection. The common case, the next bytes in order, touches
// nothing but the flow's hot lines.
func (t *Table) tcp(i uint32, e *hot, p *packet) {
	side := p.side & 1
	e.flags[side] |= p.tcpFlags
	if p.plain() && !e.state.opening() && e.bits>>side&bitSeq0 != 0 {
		if p.payload == 0 {
			e.missing[side] = uint8(p.missing)
			return
		}
		// While an answer is awaited, only the asking side's further bytes are common.
		settled := e.bits&bitAwait == 0 || side == e.lead && e.bits&bitAsked != 0
		if p.seq == e.next[side] && settled && e.feed[side] == uint16(p.feed) {
			e.next[side] += p.payload
			e.missing[side] = uint8(p.missing)
			return
		}
	}
	t.tcpEvent(e, &t.cold[i], p)
	if e.state.over() {
		t.deadline[i] = min(t.deadline[i], p.tick+t.ticks.closed)
	}
}

// tcpEvent is everything else.
func (t *Table) tcpEvent(e *hot, c *cold, p *packet) {
	side := p.side & 1
	if e.state == StateNone {
		e.state = StateMidstream
	}
	if p.tcpFlags&tcpRST != 0 {
		// Its sequence number may be anything, its bytes are no data (RFC 9293 3.5.2).
		c.resets[side]++
		if e.state == StateSynSent && side != e.lead && p.tcpFlags&tcpACK != 0 && c.serverRTT == 0 {
			c.serverRTT = after(p.time, c.syn) // refused: a round trip as well
		}
		e.state = StateReset
		return
	}
	if p.window == 0 && p.tcpFlags&(tcpSYN|tcpFIN) == 0 {
		c.zeroWindows[side]++
	}
	if p.tcpFlags&tcpSYN != 0 {
		e.synchronize(c, p)
		return
	}
	if e.state.opening() && side == e.lead && p.tcpFlags&tcpACK != 0 {
		e.opened(c, p)
	}
	if e.bits&bitAwait != 0 && p.payload != 0 {
		e.firstByte(c, p)
	}

	length := p.payload + uint32(p.tcpFlags&tcpFIN)
	switch {
	case e.bits>>side&bitSeq0 == 0:
		e.bits |= bitSeq0 << side
		e.next[side] = p.seq + length
		e.brought(c, p)
	case length != 0 && p.weight > 1:
		// Sampled: what is missing was left out here, and tells nothing.
		e.next[side] = p.seq + length
		e.brought(c, p)
	case length != 0:
		e.sequence(c, p, length)
	}
	e.missing[side] = uint8(p.missing)
	if p.tcpFlags&tcpFIN != 0 {
		e.bits |= bitFin0 << side
		switch {
		case e.bits&(bitFin0|bitFin1) == bitFin0|bitFin1:
			e.state = StateClosed
		case !e.state.over():
			e.state = StateClosing
		}
	}
}

// synchronize takes a SYN or SYN+ACK.
func (e *hot) synchronize(c *cold, p *packet) {
	side := p.side & 1
	if e.bits>>side&bitStart0 != 0 {
		e.repeated(c, p) // the same one again: reused has seen to others
	}
	e.bits |= (bitStart0 | bitSeq0) << side
	c.start[side] = p.seq
	e.next[side] = p.seq + 1 + p.payload
	e.missing[side] = uint8(p.missing)
	e.brought(c, p)
	e.bits |= bitCertain
	if p.tcpFlags&tcpACK == 0 {
		e.lead = side
		c.syn = p.time
		if p.payload != 0 { // TCP Fast Open, RFC 7413
			e.firstByte(c, p)
		} else {
			e.bits &^= bitAsked
		}
		if e.state != StateSynReceived { // it may come second, when the mirror reorders
			e.state = StateSynSent
		}
		return
	}
	e.lead = side ^ 1
	if e.state == StateSynSent {
		c.serverRTT = after(p.time, c.syn)
		c.synAck = p.time // the first one after the newest SYN: it is what the ACK answers
	} else if c.synAck == 0 {
		c.synAck = p.time
	}
	if e.bits>>(side^1)&bitSeq0 == 0 {
		e.bits |= bitSeq0 << (side ^ 1)
		e.next[side^1] = p.ack
	}
	if e.state <= StateSynSent {
		e.state = StateSynReceived
	}
}

// opened takes the ACK that ends the handshake. It measures the whole of it even
// where the answer took another path than the mirror's.
func (e *hot) opened(c *cold, p *packet) {
	if e.state == StateSynReceived && p.ack == c.start[p.side&1^1]+1 {
		c.clientRTT = after(p.time, c.synAck)
	}
	if c.syn != 0 {
		c.handshake = after(p.time, c.syn)
	}
	e.state = StateEstablished
}

// after is the time since an earlier one, 0 when the packets changed places.
func after(time, earlier uint64) uint64 {
	if time < earlier {
		return 0
	}
	return time - earlier
}

// reused reports whether a SYN or SYN+ACK begins another connection between the
// same ports rather than repeating the one that is known.
func (t *Table) reused(i uint32, p *packet) bool {
	e, c := &t.hot[i], &t.cold[i]
	side := p.side & 1
	if e.bits>>side&bitStart0 != 0 {
		return c.start[side] != p.seq // the same number is the same attempt, even after a RST
	}
	if e.bits&(bitFin0|bitFin1) != 0 || e.state == StateReset {
		return true
	}
	if e.bits>>side&bitSeq0 == 0 {
		return false // first packet of this side
	}
	// Its SYN was not seen but later bytes were: an old connection, unless the
	// SYN itself is late.
	return e.next[side] != p.seq+1 && !p.late
}

// firstByte measures how long the answer took: from the first bytes of the
// side that began, or, when the other speaks first, from the handshake.
func (e *hot) firstByte(c *cold, p *packet) {
	if p.side&1 == e.lead {
		if e.bits&bitAsked == 0 {
			e.bits |= bitAsked
			c.asked = p.time
		}
		return
	}
	e.bits &^= bitAwait
	asked := c.asked
	if e.bits&bitAsked == 0 && c.synAck != 0 {
		asked = c.synAck + c.clientRTT
	}
	if e.bits&bitAsked != 0 || c.synAck != 0 {
		c.firstByte = after(p.time, asked)
	}
}

// repeated counts a segment of which all is known already.
func (e *hot) repeated(c *cold, p *packet) {
	side := p.side & 1
	switch {
	case p.feed != c.feed[side]:
		c.copies[side]++
	case p.late:
		c.mirrorReordered[side]++
	default:
		c.retransmissions[side]++
	}
}

// sequence takes a segment that occupies sequence numbers and is not the next
// one in order, or is.
func (e *hot) sequence(c *cold, p *packet, length uint32) {
	side := p.side & 1
	ahead := int32(p.seq - e.next[side])
	end := p.seq + length
	switch {
	case ahead > 0:
		e.jump(c, p)
	case ahead == 0:
	case ahead == -1 && p.payload <= 1 && length == p.payload:
		return // keep-alive, RFC 9293 3.8.4: an old byte, to be answered
	default:
		e.behind(c, p, end)
		if int32(end-e.next[side]) <= 0 {
			return
		}
	}
	e.next[side] = end
	e.brought(c, p)
}

// brought notes the feed that a side's newest bytes came by.
func (e *hot) brought(c *cold, p *packet) {
	c.feed[p.side&1], e.feed[p.side&1] = p.feed, uint16(p.feed)
}

// jump notes that bytes were left out.
func (e *hot) jump(c *cold, p *packet) {
	side := p.side & 1
	h := hole{start: e.next[side], end: p.seq, at: p.time &^ holeMirror}
	c.gaps[side]++
	if uint8(p.missing) != e.missing[side] {
		c.mirrorGaps[side]++
		h.at |= holeMirror
	}
	holes := &c.holes[side]
	if holes[0].start == holes[0].end {
		holes[0] = h
		return
	}
	if holes[1].start != holes[1].end {
		holes[0] = holes[1] // the oldest is forgotten
	}
	holes[1] = h
}

// behind tells why a segment comes after later ones.
func (e *hot) behind(c *cold, p *packet, end uint32) {
	side := p.side & 1
	for n := range c.holes[side] {
		h := &c.holes[side][n]
		if h.start == h.end || int32(end-h.start) <= 0 || int32(h.end-p.seq) <= 0 {
			continue
		}
		e.fill(c, p, h)
		// What is left of the hole; of a segment from its middle, the part behind it.
		switch {
		case int32(p.seq-h.start) <= 0 && int32(h.end-end) <= 0:
			h.start = h.end
		case int32(h.end-end) <= 0:
			h.end = p.seq
		default:
			h.start = end
		}
		return
	}
	e.repeated(c, p)
}

// fill counts a segment that brings bytes that were left out before.
func (e *hot) fill(c *cold, p *packet, h *hole) {
	side := p.side & 1
	reorder := c.serverRTT + c.clientRTT
	if reorder == 0 {
		reorder = defaultReorder
	}
	switch {
	case p.late:
		c.mirrorReordered[side]++
		if h.at&holeMirror != 0 && c.mirrorGaps[side] > 0 {
			c.mirrorGaps[side]--
			h.at &^= holeMirror
		}
	case p.feed != c.feed[side], p.time-h.at&^holeMirror < reorder:
		c.outOfOrder[side]++
	default:
		c.retransmissions[side]++
	}
}
