package clock

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/unspan/unspan/bpf"
)

// epoch is when simulated packets begin, in nanoseconds of UTC.
const epoch = 1_700_000_000_000_000_000

// A sender stamps packets with a counter of 32 bits and mirrors them over a path.
// Times are nanoseconds since epoch.
type sender struct {
	tick   tick
	drift  float64 // 1e-6: the clock is 1 ppm fast
	phase  float64 // what the clock showed at the time 0, ns
	least  float64 // delay of the path
	jitter float64 // mean of what comes on top
	random *rand.Rand
	newest float64 // receive time: one path keeps the order
}

func newSender(k tick, drift float64, seed uint64) *sender {
	random := rand.New(rand.NewPCG(seed, 7))
	return &sender{
		tick: k, drift: drift, phase: random.Float64() * k.modulus * k.ns,
		least: 30_000, jitter: 40_000, random: random,
	}
}

// send returns the record of a packet that the sender saw at the time t.
func (s *sender) send(t float64) *bpf.Record {
	steps := math.Floor((s.phase + t*(1+s.drift)) / s.tick.ns)
	s.newest = max(s.newest, t+s.least+s.random.ExpFloat64()*s.jitter)
	return stamped(epoch+uint64(s.newest), uint64(math.Mod(steps, s.tick.modulus)), bpf.NoPlatform)
}

// error is how far off the time got is from when the packet of time t would have come
// on a path without jitter.
func (s *sender) error(got uint64, t float64) float64 {
	return math.Abs(float64(int64(got-epoch)) - t - s.least)
}

// reset gives the counter another value, as a reload of the sender does.
func (s *sender) reset() { s.phase = s.random.Float64() * s.tick.modulus * s.tick.ns }

func stamped(received, source uint64, platform uint8) *bpf.Record {
	return &bpf.Record{Time: received, SourceTime: source, Platform: platform, Flags: bpf.RecordSourceTime}
}

func find(ns float64) tick {
	for _, k := range ticks {
		if k.ns == ns {
			return k
		}
	}
	panic("no such tick")
}

// Every tick is found over drift and wraps, and then the sender's time is told better
// than the receive time tells it: to a microsecond or a tick, with 350 us of jitter.
func TestEveryTick(t *testing.T) {
	for i, k := range ticks {
		for _, drift := range []float64{-100e-6, 100e-6} {
			s := newSender(k, drift, uint64(i))
			var feed Feed
			stamper := NewStamper(Sender, nil)
			worst, received := 0.0, 0.0
			for now := 0.0; now < 32e9; now += s.random.ExpFloat64() * 2e6 {
				record := s.send(now)
				got := stamper.Time(record, &feed)
				if now > 24e9 {
					worst = max(worst, s.error(got, now))
					received = max(received, s.error(record.Time, now))
				}
			}
			fit, ok := feed.Fit()
			if !ok || feed.fit.tick != k || math.Abs(fit.Drift-drift) > 1e-6 {
				t.Errorf("tick %v up to %v, %v ppm: found %v up to %v, %.2f ppm (%v)",
					k.ns, k.modulus, drift*1e6, fit.Tick, feed.fit.tick.modulus, fit.Drift*1e6, ok)
			}
			if worst > 3000+k.ns || received < 200_000 {
				t.Errorf("tick %v, %v ppm: off by %v ns, the receive time by %v", k.ns, drift*1e6, worst, received)
			}
		}
	}
}

// What happens to feeds and senders.
func TestEvents(t *testing.T) {
	const second = 1e9
	tests := []struct {
		name     string
		interval float64 // mean time between packets
		tick     float64
		event    func(s *sender, at float64) float64 // at 30 s; returns a pause
		settled  float64                             // time after the event until all is well again
		within   float64                             // error then, ns
	}{
		{"a pause of a few wraps", 1e6, 0.1, func(*sender, float64) float64 { return 2.2 * second }, 0, 3000},
		{"a pause that no window spans", 1e6, 0.1, func(*sender, float64) float64 { return 25 * second }, 2 * second, 3000},
		{"a pause of an hour", 1e6, 0.1, func(*sender, float64) float64 { return 3600 * second }, 2 * second, 3000},
		{"a pause of an hour, and the clock was slower then", 1e6, 1, func(s *sender, _ float64) float64 { s.phase -= 7e6; return 3600 * second }, 0, 500_000},
		{"a pause of a day, slow clock", 1e6, 2.4, func(*sender, float64) float64 { return 86400 * second }, 2 * second, 3000},
		{"the sender restarts", 1e6, 1, func(s *sender, _ float64) float64 { s.reset(); return 0 }, 5 * second, 3000},
		{"the sender restarts, its clock wraps fast", 1e6, 0.1, func(s *sender, _ float64) float64 { s.reset(); return 0 }, 20 * second, 3000},
		{"the sender restarts after a while", 1e6, 8, func(s *sender, _ float64) float64 { s.reset(); return 90 * second }, 5 * second, 3000},
		{"the sender is exchanged", 1e6, 8, func(s *sender, _ float64) float64 {
			s.tick = find(2.5)
			s.reset()
			return 0
		}, 5 * second, 3000},
		{"files put together: all times go back", 1e6, 1, func(s *sender, _ float64) float64 { s.newest = 0; return -5 * second }, 0, 3000},
		{"the path gets longer", 1e6, 1, func(s *sender, _ float64) float64 { s.least += 5e6; return 0 }, 18 * second, 3000},
		{"the path gets shorter", 1e6, 1, func(s *sender, _ float64) float64 { s.least -= 25e3; return 0 }, 20 * second, 3000},
		{"the clock changes its rate", 1e6, 1, func(s *sender, at float64) float64 {
			s.phase += at * (s.drift - 20e-6)
			s.drift = 20e-6
			return 0
		}, 18 * second, 3000},
		{"five packets a second", 2e8, 0.1, func(*sender, float64) float64 { return 0 }, 0, 100_000},
		{"a packet in two seconds", 2e9, 2.4, func(*sender, float64) float64 { return 0 }, 30 * second, 150_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSender(find(tt.tick), 40e-6, 3)
			var feed Feed
			stamper := NewStamper(Sender, nil)
			event, worst, used, n := 0.0, 0.0, 0, 0
			for now := 0.0; event == 0 || now < event+60*second; now += s.random.ExpFloat64() * tt.interval {
				if event == 0 && now > 30*second {
					now += tt.event(s, now)
					event = now
				}
				record := s.send(now)
				got := stamper.Time(record, &feed)
				if event != 0 && now > event+tt.settled {
					worst = max(worst, s.error(got, now))
					n++
					if got != record.Time {
						used++
					}
				}
			}
			if worst > tt.within || used < n*9/10 {
				t.Errorf("off by %.0f ns, want %.0f at most; %d of %d times are the sender's", worst, tt.within, used, n)
			}
		})
	}
}

// Hours do not cost precision.
func TestHours(t *testing.T) {
	s := newSender(find(0.1), 40e-6, 3)
	var feed Feed
	stamper := NewStamper(Sender, nil)
	worst := 0.0
	for now := 0.0; now < 6*3600e9; now += s.random.ExpFloat64() * 2e8 {
		record := s.send(now)
		got := stamper.Time(record, &feed)
		if now > 30e9 {
			worst = max(worst, s.error(got, now))
		}
	}
	if worst > 100_000 {
		t.Errorf("off by %.0f ns", worst)
	}
	if feed.fit.base < epoch+mostBase {
		t.Error("the base of the fit stayed where it was: float64 grows coarse")
	}
}

// Clocks that cannot be read: the receive time stands.
func TestUnreadable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name     string
		interval float64
		counter  func(now float64) uint64
		learned  bool // a tick, for a while
	}{
		{"always 0", 1e6, func(float64) uint64 { return 0 }, false},
		{"always 0, seldom", 1e9, func(float64) uint64 { return 0 }, false},
		{"random", 1e6, func(float64) uint64 { return uint64(random.Uint32()) }, false},
		{"random, seldom", 1e9, func(float64) uint64 { return uint64(random.Uint32()) }, false},
		{"packets counted", 1e6, func(now float64) uint64 { return uint64(now / 1e6) }, false},
		{"backwards", 1e6, func(now float64) uint64 { return uint64(1<<32 - now/8) }, false},
		{"a tick of 3.7 ns", 1e6, func(now float64) uint64 { return uint64(now / 3.7) }, false},
		{"a tick of 3.7 ns, seldom", 1e9, func(now float64) uint64 { return uint64(now / 3.7) }, false},
		{"a thousandth off", 1e6, func(now float64) uint64 { return uint64(now * 1.001 / 8) }, true},
		{"seconds", 1e6, func(now float64) uint64 { return uint64(now / 1e9) }, false},
		{"random, a packet a minute", 60e9, func(float64) uint64 { return uint64(random.Uint32()) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var feed Feed
			stamper := NewStamper(Sender, nil)
			used, n, learned := 0, 0, false
			for now := 0.0; n < 20000; now += random.ExpFloat64() * tt.interval {
				record := stamped(epoch+uint64(now+random.ExpFloat64()*40e3), tt.counter(now)&0xffffffff, bpf.NoPlatform)
				if stamper.Time(record, &feed) != record.Time {
					used++
				}
				learned = learned || feed.fit.tick.ns != 0
				n++
			}
			if used > 0 {
				t.Errorf("%d of %d times are the sender's", used, n)
			}
			if learned != tt.learned {
				t.Errorf("learned %v, want %v", learned, tt.learned)
			}
		})
	}
}

// A dense feed is learned in half a second; what is left is the rate.
func TestLearnsSoon(t *testing.T) {
	for i, k := range ticks {
		if k.modulus != bits32 {
			continue // looks like 1 ns until it wraps
		}
		s := newSender(k, 50e-6, uint64(i))
		if k.ns == 1 {
			s.phase = 2e9
		}
		var l learner
		now, found := 0.0, false
		for ; now < 0.5e9 && !found; now += s.random.ExpFloat64() * 1e6 {
			record := s.send(now)
			var tick *tick
			if tick, found = l.add(record.Time, counter(record)); found && *tick != k {
				t.Errorf("tick %v taken for %v", k.ns, tick.ns)
			}
		}
		if !found {
			t.Errorf("tick %v not found", k.ns)
		}
	}
}

// A clock that nothing fits is not looked at for every packet.
func TestRest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l learner
	looked, n := 0, 0
	for now := uint64(epoch); now < epoch+600e9; now += 1e6 {
		before := l.last
		if _, ok := l.add(now, random.Uint32()); ok {
			t.Fatal("learned")
		}
		if l.last != before {
			looked++
		}
		n++
	}
	if looked == 0 || looked > n/100 {
		t.Errorf("looked at %d of %d packets", looked, n)
	}
}

// The floor lies below all of its points and touches one, whatever order they come in.
func TestFloor(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var f floor
		at := 0.0
		for range random.IntN(40) {
			switch random.IntN(8) {
			case 0:
				at -= random.Float64() * 10e9
			case 1:
			default:
				at += random.Float64() * 2e9
			}
			f.add(point{at, random.Float64() * 1e6})
			if random.IntN(4) == 0 {
				was := f.at(at)
				f.shift(at / 2)
				at -= at / 2
				if is := f.at(at); math.Abs(is-was) > 1e-3 {
					t.Fatalf("the floor moved by %v", is-was)
				}
			}
			least := math.Inf(1)
			for _, p := range f.points[:f.n] {
				least = min(least, p.delay-f.at(p.t))
			}
			if !(math.Abs(least) < 1e-3) {
				t.Fatalf("lowest point %v above the line: %+v", least, f)
			}
		}
	}
}

// Single packets with an invented clock get their receive time and harm no others.
func TestStrays(t *testing.T) {
	s := newSender(find(1), 40e-6, 3)
	var feed Feed
	stamper := NewStamper(Sender, nil)
	n := 0
	for now := 0.0; now < 60e9; now += s.random.ExpFloat64() * 1e6 {
		record := s.send(now)
		stray := now > 10e9 && s.random.IntN(20) == 0
		if stray {
			if s.random.IntN(2) == 0 {
				record.SourceTime += 2e8 // of the future
			} else {
				record.SourceTime -= 2e8
			}
			record.SourceTime &= 0xffffffff
		}
		got := stamper.Time(record, &feed)
		switch {
		case now < 25e9:
		case stray && got != record.Time:
			t.Fatalf("a stray at %v was believed: %v ns before its receive time", now, record.Time-got)
		case !stray && s.error(got, now) > 3000:
			t.Fatalf("off by %v ns at %v", s.error(got, now), now)
		}
		if stray {
			n++
		}
	}
	if n < 1000 {
		t.Fatalf("%d strays only", n)
	}
}

// A path that is congested now and then delays single seconds of packets by much.
func TestCongestion(t *testing.T) {
	s := newSender(find(100), -60e-6, 3)
	var feed Feed
	stamper := NewStamper(Sender, nil)
	for now := 0.0; now < 120e9; now += s.random.ExpFloat64() * 1e6 {
		least := s.least
		if math.Mod(now, 10e9) > 8.5e9 {
			s.least += 20e6
		}
		record := s.send(now)
		s.least = least
		got := stamper.Time(record, &feed)
		if now > 40e9 && s.error(got, now) > 20_000 {
			t.Fatalf("off by %.0f ns at %v s", s.error(got, now), now/1e9)
		}
	}
}

func BenchmarkTime(b *testing.B) {
	jitter := rand.New(rand.NewPCG(1, 2)).Perm(1 << 10)
	for _, mode := range []Mode{Receive, Sender, Auto} {
		b.Run(mode.String(), func(b *testing.B) {
			var feed Feed
			stamper := NewStamper(mode, &Offset{})
			record := stamped(epoch, 0, bpf.NoPlatform)
			send := func(i int) {
				seen := uint64(i) * 12_000
				record.Time = epoch + seen + uint64(jitter[i%len(jitter)])
				record.SourceTime = seen / 12 * 5 & 0xffffffff
				stamper.Time(record, &feed)
			}
			i := 0
			for ; i < 500_000; i++ {
				send(i)
			}
			if fit, ok := feed.Fit(); mode != Receive && (!ok || fit.Tick != 2.4) {
				b.Fatalf("learned %+v, %v", fit, ok)
			}
			b.ReportAllocs()
			for b.Loop() {
				send(i)
				i++
			}
		})
	}
	b.Run("unreadable", func(b *testing.B) {
		var feed Feed
		stamper := NewStamper(Auto, &Offset{})
		record := stamped(epoch, 0, bpf.NoPlatform)
		b.ReportAllocs()
		for b.Loop() {
			record.Time += 1e6
			record.SourceTime = (record.SourceTime*1664525 + 1013904223) & 0xffffffff
			stamper.Time(record, &feed)
		}
	})
}
