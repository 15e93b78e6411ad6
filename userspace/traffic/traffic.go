// Package traffic makes network traffic out of nothing but a seed: whole
// conversations with handshakes, data both ways, checksums and plausible times,
// for the demo and for tests, and plain load for the bench. The same seed gives
// the same bytes, always.
//
//	clients 198.51.100.0/24 ──┬── switch ── router ── servers 203.0.113.0/24
//	        2001:db8:1::/64   │                               2001:db8:2::/64
//	                          └─ mirrored here
//
// All addresses are the documentation's (RFC 5737, 3849, 6676), MAC addresses
// 00:00:5e:00:53:xx (RFC 7042), names of RFC 2606. Nothing is sent by this package
// and nothing in it resembles anybody's traffic.
package traffic

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Packet is one frame, from its Ethernet header on, without FCS.
type Packet struct {
	Time time.Duration // since the first conversation began
	Data []byte
}

// Config says how much traffic to make, and what of.
type Config struct {
	Seed          uint64
	Conversations int           // in all; the first of every kind there is
	MaxBody       int           // bytes that a server answers with, at most
	Gap           time.Duration // from one conversation's begin to the next's, on average
	Jumbo         bool          // some frames of 9014 bytes
}

// Default is a lively minute of a small office.
func Default() Config {
	return Config{Seed: 1, Conversations: 500, MaxBody: 60_000, Gap: 100 * time.Millisecond}
}

// Mix makes conversations of every kind, interleaved by time.
func Mix(cfg Config) []Packet {
	m := &mixer{Rand: rand.New(rand.NewPCG(cfg.Seed, 0x756e7370616e)), cfg: cfg}
	once := kinds(cfg)
	m.Shuffle(len(once), func(i, j int) { once[i], once[j] = once[j], once[i] })
	total := 0
	for _, k := range once {
		total += k.weight
	}
	start := time.Duration(0)
	for i := range cfg.Conversations {
		kind := once[i%len(once)]
		if i >= len(once) {
			pick := m.IntN(total)
			for _, kind = range once {
				if pick -= kind.weight; pick < 0 {
					break
				}
			}
		}
		m.now = start
		kind.make(m)
		start += time.Duration(m.ExpFloat64() * float64(cfg.Gap))
	}
	slices.SortStableFunc(m.packets, func(a, b Packet) int { return int(a.Time - b.Time) })
	return m.packets
}

// Frames are the packets without their times.
func Frames(packets []Packet) [][]byte {
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = p.Data
	}
	return frames
}

// kind is a sort of conversation and how often it is had.
type kind struct {
	weight int
	make   func(*mixer)
}

func kinds(cfg Config) []kind {
	all := []kind{
		{30, func(m *mixer) { m.tls(m.path(remote)) }},
		{15, func(m *mixer) { m.http(m.path(remote)) }},
		{25, func(m *mixer) { m.dns(m.path(remote)) }},
		{6, func(m *mixer) { m.tls(m.path(remote | ipv6)) }},
		{4, func(m *mixer) { m.http(m.path(remote | ipv6)) }},
		{6, func(m *mixer) { m.dns(m.path(remote | ipv6)) }},
		{6, func(m *mixer) { m.http(m.path(tagged)) }},
		{3, func(m *mixer) { m.dns(m.path(tagged | ipv6)) }},
		{3, func(m *mixer) { m.http(m.path(stacked)) }},
		{4, func(m *mixer) { m.ping(m.path(remote)) }},
		{2, func(m *mixer) { m.ping(m.path(ipv6)) }},
		{4, func(m *mixer) { m.arp(m.path(0)) }},
		{2, func(m *mixer) { m.neighbour(m.path(ipv6)) }},
		{2, func(m *mixer) { m.refused(m.path(remote)) }},
		{2, func(m *mixer) { m.fragments(m.path(0)) }},
		{2, func(m *mixer) { m.stream(m.path(0)) }},
		{1, func(m *mixer) { m.lldp() }},
		{1, func(m *mixer) { m.stp() }},
	}
	if cfg.Jumbo {
		all = append(all, kind{2, func(m *mixer) { m.http(m.path(jumbo)) }})
	}
	return all
}

// mixer collects the packets of conversations. now moves on with each.
type mixer struct {
	*rand.Rand
	cfg     Config
	now     time.Duration
	packets []Packet
}

// between is a random number from low to high, both included.
func (m *mixer) between(low, high int) int { return low + m.IntN(high-low+1) }

// wait lets about so much time pass.
func (m *mixer) wait(d time.Duration) {
	m.now += d/2 + time.Duration(m.Int64N(int64(d)))
}

// emit adds a frame.
func (m *mixer) emit(frame []byte) {
	m.packets = append(m.packets, Packet{m.now, frame})
}

// bytes are n random ones, as ciphertext and compressed images look.
func (m *mixer) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}
