// Package clock tells when a mirrored packet was seen, in UTC.
//
// There are two answers. The receive time is taken by the kernel half when the copy
// arrives: CLOCK_MONOTONIC, which Offset brings to UTC. The sender's time is in the
// header of ERSPAN III: nearer to the packet and free of what the copy met on its way,
// but of a clock that says neither what it counts nor since when.
//
//	                  receive time ──► Offset ──► UTC, never backwards ─┐
//	record ─┤                                                           ├─► Stamper
//	         sender's clock ──► Feed: UTC if it is, else learned tick ──┘
//
// What senders really send decides how the second is read: a switch that says 100 us
// and counts 100 ps, one that counts 2.4 ns, one whose 32 bits wrap twice a second.
// So nothing the header says of its clock is believed. The rate is measured (learner),
// the counter followed over its wraps, and the delay of each copy told from the least
// delay seen of late (floor): a packet that took longer than others by d was seen d
// before its receive time. Where the measurement is no good, the receive time stands.
//
// A Stamper and its Feeds belong to one worker's goroutine. Offset alone is shared:
// one goroutine refreshes it, any number read. A feed whose packets several workers
// get is learned by each of them.
package clock

import (
	"fmt"

	"github.com/unspan/unspan/bpf"
)

// A Mode says which clock is asked: --timestamps.
type Mode uint8

// The modes.
const (
	// Receive takes the time of arrival.
	Receive Mode = iota
	// Sender takes the sender's clock where the feed has one that can be read,
	// UTC as the sender tells it. Times may go backwards: feeds have different
	// clocks and delays.
	Sender
	// Auto takes the sender's clock where it is better than the time of arrival,
	// which it never exceeds. Times never go backwards.
	Auto
)

var modeNames = [...]string{Receive: "receive", Sender: "sender", Auto: "auto"}

// String is the mode as --timestamps takes it.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// UnmarshalText is the inverse of String, for flags and the configuration file.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode, name := range modeNames {
		if name == string(text) {
			*m = Mode(mode)
			return nil
		}
	}
	return fmt.Errorf("timestamps %q: want receive, sender or auto", text)
}

// Bounds on the difference between what a sender calls UTC and the receive time, in
// nanoseconds.
const (
	// Beyond an hour it is no UTC, but a clock that counts from its own start.
	plausible = 3600e9
	// A delay that a copy may well have. Beyond it, or ahead of the receive
	// time, the two clocks do not agree, and mixing them would tear feeds apart.
	agrees = 100e6
)

// coarsest is the longest tick, in nanoseconds, with which Auto prefers the sender's
// clock: 100 us put packets on one moment that the receive time tells apart.
const coarsest = 1000

// A Stamper gives one worker's packets their times.
type Stamper struct {
	mode    Mode
	offset  *Offset
	forward forward
	last    uint64
}

// NewStamper returns a Stamper. A nil offset says that the records' times are UTC
// already, those of a capture file; they are then taken as they are, and go backwards
// where the file does.
func NewStamper(mode Mode, offset *Offset) *Stamper {
	return &Stamper{mode: mode, offset: offset}
}

// Time returns when the packet was seen, in nanoseconds of UTC. The feed is the
// packet's, kept by the caller from one packet to the next; nil for feeds without a
// clock of their own.
func (s *Stamper) Time(record *bpf.Record, feed *Feed) uint64 {
	now := record.Time
	received := now
	if s.offset != nil {
		if record.Flags&bpf.RecordNICTime == 0 {
			now += uint64(s.offset.ns.Load())
		}
		received = s.forward.next(now)
	}
	if s.mode == Receive || feed == nil || record.Flags&bpf.RecordSourceTime == 0 {
		return s.keep(received, received)
	}

	// The fit is fed even when UTC makes it unnecessary: it has to be there when
	// the sender's UTC is lost.
	delay, good := feed.delay(record)
	sent, is64 := utc(record)
	if s.mode == Sender {
		switch {
		case is64 && int64(now-sent) < plausible && int64(sent-now) < plausible:
			return sent
		case good:
			return received - delay
		}
		return received
	}
	switch {
	case is64 && now-sent <= agrees:
		return s.keep(received-(now-sent), received)
	case good && feed.fit.tick.ns <= coarsest:
		return s.keep(received-delay, received)
	}
	return s.keep(received, received)
}

// keep returns t, but not before the time returned last. A file's times may go back;
// then last gives way to received.
func (s *Stamper) keep(t, received uint64) uint64 {
	s.last = max(t, min(s.last, received))
	return s.last
}

// utc is the sender's time if it is one of the 64-bit forms, read as nanoseconds since
// 1970. Wireshark's packet-cisco-erspan.c lists the forms by platform id: 3 and 7 (and
// 0, which some write for 7) carry the upper half of a 64-bit time, 5 and 6 seconds
// above nanoseconds.
func utc(record *bpf.Record) (uint64, bool) {
	switch record.Platform {
	case 0, 3, 7:
		return record.SourceTime, true
	case 5, 6:
		seconds, nanoseconds := record.SourceTime>>32, record.SourceTime&0xffffffff
		return seconds*1e9 + nanoseconds, nanoseconds < 1e9
	}
	return 0, false
}

// counter is the 32 bits of the sender's time that every form has: they count at an
// unknown rate. Seconds and nanoseconds are made one number first, so that they do.
func counter(record *bpf.Record) uint32 {
	if record.Platform == 5 || record.Platform == 6 {
		if t, ok := utc(record); ok {
			return uint32(t)
		}
	}
	return uint32(record.SourceTime)
}
