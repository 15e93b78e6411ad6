package policy_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/unspan/unspan/userspace/policy"
)

var digestKey = func() *policy.DigestKey {
	k, random := new(policy.DigestKey), rand.New(rand.NewPCG(1, 1))
	for i := range k {
		for j := range k[i] {
			k[i][j] = random.Uint64()
		}
	}
	return k
}()

// A difference in any one bit, in any two, and in the same bit of any two words,
// is seen; and digests fall into the table's buckets evenly.
func TestDigestHash(t *testing.T) {
	type words = [20]uint64
	seen := map[uint64]words{}
	look := func(w words) {
		h := digestKey.Hash(&w)
		if other, known := seen[h]; known && other != w {
			t.Fatalf("%x and %x have the same digest", other, w)
		}
		seen[h] = w
	}
	look(words{})
	for i := range 20 * 64 {
		var one words
		one[i/64] ^= 1 << (i % 64)
		look(one)
		for j := range i {
			two := one
			two[j/64] ^= 1 << (j % 64)
			look(two)
		}
	}
	var buckets [16]int
	for h := range seen {
		buckets[h>>60]++
	}
	for i, n := range buckets {
		if want := len(seen) / len(buckets); n < want*9/10 || n > want*11/10 {
			t.Errorf("bucket %d has %d of %d digests", i, n, len(seen))
		}
	}
}

// segment is a TCP segment over IPv4 with 8 bytes of options and some text.
func segment() []byte {
	frame := []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x08\x00" +
		"\x45\x00\x00\x50\x12\x34\x40\x00\x40\x06\xaa\xbb\xc0\x00\x02\x01\xc6\x33\x64\x02" +
		"\x01\xbb\x30\x39\x00\x00\x10\x00\x00\x00\x20\x00\x70\x18\x01\x00\xcc\xdd\x00\x00\x01\x01\x01\x01\x01\x01\x01\x01" +
		"the quick brown fox jumps over the lazy dog"[:32])
	return frame
}

func segment6() []byte {
	return []byte("\x00\x00\x5e\x00\x53\x01\x00\x00\x5e\x00\x53\x02\x86\xdd" +
		"\x60\x00\x00\x00\x00\x24\x06\x40" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x01\xbb\x30\x39\x00\x00\x10\x00\x00\x00\x20\x00\x50\x18\x01\x00\xcc\xdd\x00\x00" + "0123456789abcdef")
}

func set(at int, value ...byte) func([]byte) []byte {
	return func(frame []byte) []byte { copy(frame[at:], value); return frame }
}

func tagged(tci uint16) func([]byte) []byte {
	return func(frame []byte) []byte {
		return slices.Insert(frame, 12, 0x81, 0, byte(tci>>8), byte(tci))
	}
}

func both(a, b func([]byte) []byte) func([]byte) []byte {
	return func(frame []byte) []byte { return b(a(frame)) }
}

const usual = policy.IgnoreTTL | policy.IgnoreChecksums | policy.IgnoreVLAN | policy.IgnoreMAC

// What one change does to the digest, under what is usually ignored and under nothing.
func TestDigest(t *testing.T) {
	same := func(frame []byte) []byte { return frame }
	for _, row := range []struct {
		name          string
		frame         func() []byte
		change        func([]byte) []byte
		usual, strict bool // the digest is still the same
	}{
		{"nothing", segment, same, true, true},
		{"TTL and IP checksum", segment, both(set(22, 63), set(24, 0xab, 0xbb)), true, false},
		{"MACs", segment, set(0, 0, 0, 0x5e, 0, 0x53, 9, 0, 0, 0x5e, 0, 0x53, 8), true, false},
		{"a tag", segment, tagged(100), true, false},
		{"two tags", segment, both(tagged(100), tagged(0x2064)), true, false},
		{"TCP checksum", segment, set(50, 0, 0), true, false},
		{"padding", segment, func(f []byte) []byte { return append(f, 0, 0, 0, 0) }, true, true},
		{"TOS", segment, set(15, 0x20), false, false},
		{"IP id", segment, set(18, 0x12, 0x35), false, false},
		{"IP flags", segment, set(20, 0x20), false, false},
		{"protocol", segment, set(23, 17), false, false},
		{"source", segment, set(29, 9), false, false},
		{"destination", segment, set(33, 9), false, false},
		{"port", segment, set(35, 0xbc), false, false},
		{"sequence", segment, set(41, 1), false, false},
		{"acknowledgement", segment, set(45, 1), false, false},
		{"TCP flags", segment, set(47, 0x10), false, false},
		{"window", segment, set(49, 1), false, false},
		{"option", segment, set(55, 3), false, false},
		{"first byte", segment, set(62, 'T'), false, false},
		{"last byte", segment, set(93, '!'), false, false},
		{"length", segment, both(set(16, 0, 0x4f), func(f []byte) []byte { return f[:len(f)-1] }), false, false},
		{"cut", segment, func(f []byte) []byte { return f[:len(f)-1] }, false, false},

		{"IPv6: nothing", segment6, same, true, true},
		{"IPv6: hop limit", segment6, set(21, 63), true, false},
		{"IPv6: traffic class", segment6, set(14, 0x6f, 0xf0), false, false},
		{"IPv6: flow label", segment6, set(15, 0x0f), false, false},
		{"IPv6: TCP checksum", segment6, set(70, 0, 0), true, false},
		{"IPv6: sequence", segment6, set(61, 1), false, false},
		{"IPv6: text", segment6, set(80, 'x'), false, false},

		{"ARP: nothing", arp, same, true, true},
		{"ARP: MACs count", arp, set(6, 0, 0, 0x5e, 0, 0x53, 9), false, false},
		{"ARP: target", arp, set(41, 9), false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for ignore, want := range map[policy.Ignored]bool{usual: row.usual, 0: row.strict} {
				before, _ := policy.Digest(row.frame(), false, ignore, digestKey)
				after, _ := policy.Digest(row.change(row.frame()), false, ignore, digestKey)
				if (before == after) != want {
					t.Errorf("ignoring %05b: the same digest: %v, want %v", ignore, before == after, want)
				}
			}
		})
	}
}

func arp() []byte {
	return []byte("\xff\xff\xff\xff\xff\xff\x00\x00\x5e\x00\x53\x02\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" +
		"\x00\x00\x5e\x00\x53\x02\xc0\x00\x02\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x02")
}

// Each field is left out by its own word and by no other.
func TestDigestIgnoresOneByOne(t *testing.T) {
	for _, row := range []struct {
		name   string
		ignore policy.Ignored
		change func([]byte) []byte
	}{
		{"TTL", policy.IgnoreTTL, both(set(22, 63), set(24, 0xab, 0xbb))},
		{"TOS", policy.IgnoreTOS, both(set(15, 0x20), set(24, 0xab, 0xbb))},
		{"checksums", policy.IgnoreChecksums, both(set(24, 0, 0), set(50, 0, 0))},
		{"VLAN", policy.IgnoreVLAN, tagged(7)},
		{"MAC", policy.IgnoreMAC, set(0, 2)},
	} {
		for _, ignore := range []policy.Ignored{policy.IgnoreTTL, policy.IgnoreTOS, policy.IgnoreChecksums, policy.IgnoreVLAN, policy.IgnoreMAC} {
			before, _ := policy.Digest(segment(), false, ignore, digestKey)
			after, _ := policy.Digest(row.change(segment()), false, ignore, digestKey)
			if (before == after) != (ignore == row.ignore) {
				t.Errorf("%s changed, %05b ignored: the same digest: %v", row.name, ignore, before == after)
			}
		}
	}
}

func TestDigestNumbered(t *testing.T) {
	zero := set(18, 0, 0)(segment())
	for _, row := range []struct {
		name  string
		frame []byte
		rawIP bool
		want  bool
	}{
		{"IPv4", segment(), false, true},
		{"IPv4 with id 0", zero, false, false},
		{"IPv4, bare", segment()[14:], true, true},
		{"IPv6", segment6(), false, false},
		{"ARP", arp(), false, false},
		{"nothing", nil, false, false},
	} {
		if _, got := policy.Digest(row.frame, row.rawIP, usual, digestKey); got != row.want {
			t.Errorf("%s: numbered is %v, want %v", row.name, got, row.want)
		}
	}
}

// The same packet over a bridge and as bare IP is one packet.
func TestDigestOfBareIP(t *testing.T) {
	for _, frame := range [][]byte{segment(), segment6()} {
		over, _ := policy.Digest(frame, false, usual, digestKey)
		bare, _ := policy.Digest(frame[14:], true, usual, digestKey)
		if over != bare {
			t.Errorf("the digest of % x depends on its Ethernet header", frame[14:18])
		}
	}
}

// Later fragments have no transport header: the bytes that would be its checksum count.
func TestDigestOfFragments(t *testing.T) {
	fragment := func() []byte { return set(20, 0x20, 0x10)(segment()) }
	before, _ := policy.Digest(fragment(), false, usual, digestKey)
	after, _ := policy.Digest(set(50, 0, 0)(fragment()), false, usual, digestKey)
	if before == after {
		t.Error("bytes of a later fragment are taken for a checksum")
	}
}

// FuzzDigest: no frame panics, the digest is a function of the frame, and a router's work does not change it.
func FuzzDigest(f *testing.F) {
	f.Add(segment(), false, uint8(usual))
	f.Add(segment6(), false, uint8(0))
	f.Add(segment()[14:], true, uint8(31))
	f.Add([]byte{0x60}, true, uint8(31))
	f.Fuzz(func(t *testing.T, frame []byte, rawIP bool, ignore uint8) {
		before, _ := policy.Digest(frame, rawIP, policy.Ignored(ignore), digestKey)
		again, _ := policy.Digest(slices.Clone(frame), rawIP, policy.Ignored(ignore), digestKey)
		if before != again {
			t.Fatal("the digest of the same frame differs")
		}
		if rawIP || len(frame) < 34 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[14]>>4 != 4 {
			return
		}
		ttl := slices.Clone(frame)
		ttl[22]--
		ttl[24]++
		after, _ := policy.Digest(ttl, rawIP, policy.Ignored(ignore)|policy.IgnoreTTL, digestKey)
		before, _ = policy.Digest(frame, rawIP, policy.Ignored(ignore)|policy.IgnoreTTL, digestKey)
		if before != after {
			t.Fatal("a router changes the digest")
		}
	})
}
