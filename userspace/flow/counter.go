package flow

import (
	"fmt"
	"sync/atomic"
)

// Counter names one of the table's counters. They make two lines that add up:
//
//	frames  observed = tracked + short ... + not IP
//	flows   created  = live + ended ...
type Counter uint8

const (
	// Frames that reached a flow, Portless and held ones included.
	Tracked Counter = iota

	// Frames that reached none, by reason.
	ShortEthernet // less than an Ethernet header
	ShortShim     // ends inside a tag, a label or an LLC header
	DeepShims     // more tags or labels than are walked through
	ShortIP       // ends inside the IP header
	BadIP         // IP version or header length is impossible
	NotIP         // neither IPv4 nor IPv6, and such flows are off
	OuterFragment // a piece of a tunnel packet, nothing to see yet

	// Of the tracked ones.
	Portless // what carries the ports was cut off: keyed by addresses
	Orphans  // fragments whose first one never came: keyed by addresses

	// Flows.
	Created
	EndedIdle    // no packet for the idle timeout
	EndedClosed  // TCP said goodbye
	EndedReused  // the same ports began a new connection
	EndedEvicted // the table was full: the longest silent of some had to go
	EndedForced  // the table was drained

	// Records. What the ring refused is lost to exports and counted here.
	Emitted
	EmittedActive // of them, of flows that went on: active timeout
	RecordsLost   // the exporter was too slow

	CounterCount

	held Counter = CounterCount // not a counter: tracked, but not staged
)

var counterNames = [CounterCount]string{
	Tracked:       "tracked",
	ShortEthernet: "short_ethernet",
	ShortShim:     "short_shim",
	DeepShims:     "deep_shims",
	ShortIP:       "short_ip",
	BadIP:         "bad_ip",
	NotIP:         "not_ip",
	OuterFragment: "outer_fragment",
	Portless:      "portless",
	Orphans:       "orphans",
	Created:       "created",
	EndedIdle:     "ended_idle",
	EndedClosed:   "ended_closed",
	EndedReused:   "ended_reused",
	EndedEvicted:  "ended_evicted",
	EndedForced:   "ended_forced",
	Emitted:       "emitted",
	EmittedActive: "emitted_active",
	RecordsLost:   "records_lost",
}

func (c Counter) String() string {
	if int(c) < len(counterNames) {
		return counterNames[c]
	}
	return fmt.Sprintf("counter(%d)", uint8(c))
}

// Counters is a reading of all counters, indexed by Counter.
type Counters [CounterCount]uint64

// Frames is the number of frames observed.
func (c *Counters) Frames() uint64 {
	return c[Tracked] + c[ShortEthernet] + c[ShortShim] + c[DeepShims] + c[ShortIP] + c[BadIP] + c[NotIP] + c[OuterFragment]
}

// Live is the number of flows in the table.
func (c *Counters) Live() uint64 {
	return c[Created] - c[EndedIdle] - c[EndedClosed] - c[EndedReused] - c[EndedEvicted] - c[EndedForced]
}

// board is where the worker shows its counters to others. It writes them now
// and then, not per packet: an atomic store is as dear as a cache miss.
type board [CounterCount]atomic.Uint64

func (b *board) publish(c *Counters) {
	for i := range c {
		b[i].Store(c[i])
	}
}

func (b *board) read() (c Counters) {
	for i := range c {
		c[i] = b[i].Load()
	}
	return c
}
