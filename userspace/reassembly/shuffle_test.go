package reassembly_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/unspan/unspan/userspace/reassembly"
)

// randomPayload is a payload of at least two fragments' length.
func randomPayload(random *rand.Rand) []byte {
	n := 16 + random.IntN(1500)
	switch random.IntN(10) {
	case 0:
		n = 16 + random.IntN(MaxPayload-15)
	case 1:
		n = MaxPayload
	}
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(random.Uint32())
	}
	return payload
}

// cut is payload in fragments of random lengths.
func cut(random *rand.Rand, payload []byte, packet func(offset int, more bool, part []byte) []byte) [][]byte {
	var parts [][]byte
	for offset := 0; offset < len(payload); {
		end := offset + 8*(1+random.IntN(1+len(payload)/40))
		if offset == 0 {
			end = min(end, (len(payload)-1)/8*8)
		}
		end = min(end, len(payload))
		parts = append(parts, packet(offset, end < len(payload), payload[offset:end]))
		offset = end
	}
	return parts
}

// Random datagrams, cut at random places, their fragments mixed and some of them
// twice: all come out as they were.
func TestShuffle(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		want := map[string]int{}
		var in []Fragment
		duplicates := 0
		for id := range uint32(20) {
			payload := randomPayload(random)
			var parts [][]byte
			var whole, link []byte
			if random.IntN(2) == 0 {
				link = ethernet(ipv4)
				whole = ip4Whole(uint16(id), payload)
				if len(whole) > 65535 {
					// What the header cannot say is written as 0.
					binary.BigEndian.PutUint16(whole[2:], 0)
					binary.BigEndian.PutUint16(whole[10:], 0)
					binary.BigEndian.PutUint16(whole[10:], ^uint16(sum(0, whole[:20])))
				}
				parts = cut(random, payload, func(offset int, more bool, part []byte) []byte {
					return ip4(uint16(id), offset, more, part)
				})
			} else {
				link = ethernet(ipv6)
				var extensions []extension
				if len(payload) < 60000 && random.IntN(2) == 0 {
					extensions = append(extensions, extension{60, make([]byte, 8*(1+random.IntN(20)))})
				}
				whole = ip6Whole(payload, extensions...)
				parts = cut(random, payload, func(offset int, more bool, part []byte) []byte {
					return ip6(id, offset, more, part, extensions...)
				})
			}
			want[string(join(link, whole))]++
			for _, p := range parts {
				in = append(in, Fragment{Data: join(link, p)})
			}
			// Twice, but not all of it: that would be two datagrams.
			if len(parts) > 2 {
				twice := Fragment{Data: join(link, parts[random.IntN(len(parts))])}
				in = append(in, twice)
				duplicates++
			}
		}
		random.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })

		r := mustNew(t, Default())
		for i := range in {
			if d, ok := r.Add(in[i]); ok {
				if want[string(d.Frame)] == 0 {
					t.Fatalf("seed %d: a datagram of %d bytes that nobody sent", seed, len(d.Frame))
				}
				want[string(d.Frame)]--
			}
		}
		for frame, n := range want {
			if n != 0 {
				t.Errorf("seed %d: a datagram of %d bytes did not come", seed, len(frame))
			}
		}
		s := checkLedger(t, r)
		// A duplicate that came after its datagram was complete is held.
		if got := s.GivenUp[Duplicate] + s.Held; got != uint64(duplicates) || s.Lost() != s.GivenUp[Duplicate] {
			t.Errorf("seed %d: %d duplicates or held, want %d; given up %v", seed, got, duplicates, givenUp(s))
		}
	}
}

// model is reassembly written for clearness: every byte of every datagram, by id.
type model struct {
	fragments map[uint16][]modelFragment
	dead      map[uint16]bool
}

type modelFragment struct {
	offset  int
	more    bool
	payload []byte
}

func (f modelFragment) end() int { return f.offset + len(f.payload) }

// add returns the payload when it is complete.
func (m *model) add(id uint16, f modelFragment) []byte {
	if f.more && len(f.payload)%8 != 0 || len(f.payload) == 0 || f.end() > MaxPayload || m.dead[id] {
		return nil
	}
	all := m.fragments[id]
	for _, g := range all {
		if g.offset == f.offset && g.more == f.more && bytes.Equal(g.payload, f.payload) {
			return nil
		}
	}
	for _, g := range all {
		overlap := f.offset < g.end() && g.offset < f.end()
		// Whatever lies behind a last fragment's end cannot be.
		beyond := !f.more && g.end() > f.end() || !g.more && f.end() > g.end()
		if overlap || beyond || !f.more && !g.more {
			m.dead[id] = true
			delete(m.fragments, id)
			return nil
		}
	}
	all = append(all, f)
	m.fragments[id] = all
	whole := make([]byte, MaxPayload)
	have, total := 0, -1
	for _, g := range all {
		copy(whole[g.offset:], g.payload)
		have += len(g.payload)
		if !g.more {
			total = g.end()
		}
	}
	if have != total {
		return nil
	}
	delete(m.fragments, id)
	return whole[:total]
}

// FuzzModel gives the same fragments to the model: each five bytes of input are one.
func FuzzModel(f *testing.F) {
	f.Add([]byte{0, 0, 1, 8, 1, 0, 1, 0, 20, 2})
	f.Add([]byte{0, 0, 1, 8, 1, 0, 0, 1, 8, 1})
	f.Add([]byte{0, 0, 1, 8, 1, 0, 0, 1, 8, 1, 0, 1, 0, 3, 1})
	f.Add([]byte{1, 31, 0, 9, 1, 1, 31, 1, 15, 1, 1, 0, 1, 8, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := mustNew(t, Config{Memory: 1 << 20, Datagrams: 4, Age: time.Second})
		m := model{fragments: map[uint16][]modelFragment{}, dead: map[uint16]bool{}}
		for ; len(script) >= 5; script = script[5:] {
			id := uint16(script[0] % 3)
			// Offsets near the start, and one in four near the end of what there can be.
			offset := int(script[1]%32) * 8
			if script[1]&0xc0 == 0xc0 {
				offset += 65280
			}
			more := script[2]&1 == 1
			payload := bytes.Repeat([]byte{script[4] % 4}, int(script[3])%300)
			if offset == 0 && !more {
				continue
			}
			want := m.add(id, modelFragment{offset, more, payload})
			d, ok := r.Add(Fragment{Data: join(ethernet(ipv4), ip4(id, offset, more, payload))})
			if ok != (want != nil) {
				t.Fatalf("id %d, %d bytes at %d, more %v: complete %v, model says %v", id, len(payload), offset, more, ok, want != nil)
			}
			if ok && !bytes.Equal(d.Frame[34:], want) {
				t.Fatalf("id %d: %d bytes differ from the model's %d", id, len(d.Frame)-34, len(want))
			}
			checkLedger(t, r)
		}
	})
}

// FuzzAdd feeds any bytes at all, as frames that a length byte each cuts out of the
// input.
func FuzzAdd(f *testing.F) {
	seed := func(packets ...[]byte) {
		var b []byte
		for _, p := range packets {
			b = append(b, byte(len(p)))
			b = append(b, p...)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	seed(join(ethernet(ipv4), ip4(9, 0, true, pattern(40))), join(ethernet(ipv4), ip4(9, 40, false, pattern(9))))
	seed(join(ethernet(ipv6, 5), ip6(9, 0, true, pattern(40))), join(ethernet(ipv6, 5), ip6(9, 40, false, pattern(9))))
	seed(ip4(9, 8, true, pattern(16)), ip4(9, 0, true, pattern(16)), ip4(9, 65528, false, pattern(7)))
	seed(ip6(9, 0, true, pattern(16), extension{60, make([]byte, 16)}), ip6(9, 16, false, pattern(1)), ip6(8, 0, false, pattern(3)))
	f.Fuzz(func(t *testing.T, input []byte, raw bool) {
		const limit = 256 << 10
		r := mustNew(t, Config{Memory: limit, Datagrams: 3, Age: 8 * time.Nanosecond})
		for now := uint64(0); len(input) > 0; now++ {
			n := min(int(input[0]), len(input)-1)
			data := bytes.Clone(input[1 : 1+n])
			input = input[1+n:]
			before := bytes.Clone(data)
			d, ok := r.Add(Fragment{Data: data, RawIP: raw, Time: now})
			s := checkLedger(t, r)
			if s.Memory > limit || s.Waiting > 3 {
				t.Fatalf("beyond the limits: %+v", s)
			}
			if !bytes.Equal(data, before) {
				t.Fatal("the fragment was written to")
			}
			if !ok {
				continue
			}
			if !raw {
				continue
			}
			// What comes out is as long as it says.
			says := int(binary.BigEndian.Uint16(d.Frame[2:]))
			if d.Frame[0]>>4 == 6 {
				says = 40 + int(binary.BigEndian.Uint16(d.Frame[4:]))
			}
			if says != len(d.Frame) {
				t.Fatalf("%d bytes that say they are %d: %x", len(d.Frame), says, d.Frame)
			}
		}
	})
}
