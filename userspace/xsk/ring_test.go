package xsk

import (
	"math"
	"runtime"
	"slices"
	"testing"
)

func TestRingConsume(t *testing.T) {
	tests := []struct {
		name   string
		start  uint32 // both indexes
		filled int
		peek   int
		want   []int
	}{
		{"empty", 0, 0, 4, nil},
		{"fewer than asked for", 0, 3, 4, []int{0, 1, 2}},
		{"more than asked for", 0, 8, 4, []int{0, 1, 2, 3}},
		{"full", 0, 8, 8, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"stops at the end of the memory", 6, 4, 4, []int{6, 7}},
		{"begins again at the start", 8, 2, 4, []int{0, 1}},
		{"index runs over", math.MaxUint32 - 1, 4, 4, []int{6, 7}},
		{"index has run over", 0, 2, 2, []int{0, 1}},
		{"nothing asked for", 0, 8, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := memoryRing[int](8)
			for i := range r.entries {
				r.entries[i] = i
			}
			r.own, r.other = test.start, test.start
			r.consumer.Store(test.start)
			r.producer.Store(test.start + uint32(test.filled))

			if got := r.Waiting(); got != (test.filled > 0) {
				t.Errorf("Waiting is %t with %d entries", got, test.filled)
			}
			got := r.Peek(test.peek)
			if !slices.Equal(got, test.want) {
				t.Errorf("Peek returned %v, want %v", got, test.want)
			}
			r.Release(len(got))
			if got, want := r.consumer.Load(), test.start+uint32(len(test.want)); got != want {
				t.Errorf("after Release the consumer index is %d, want %d", got, want)
			}
			if got, want := r.Waiting(), len(test.want) < test.filled; got != want {
				t.Errorf("after Release Waiting is %t, want %t", got, want)
			}
		})
	}
}

func TestRingProduce(t *testing.T) {
	tests := []struct {
		name    string
		start   uint32
		filled  int // submitted and not consumed
		reserve int
		want    int
	}{
		{"empty", 0, 0, 4, 4},
		{"all of it", 0, 0, 8, 8},
		{"more than there is", 0, 0, 9, 8},
		{"less room than asked for", 0, 6, 4, 2},
		{"full", 0, 8, 1, 0},
		{"stops at the end of the memory", 5, 0, 8, 3},
		{"index runs over", math.MaxUint32 - 2, 0, 8, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := memoryRing[int](8)
			r.own = test.start + uint32(test.filled)
			r.other = test.start // stale is never too far
			r.consumer.Store(test.start)
			r.producer.Store(r.own)

			got := r.Reserve(test.reserve)
			if len(got) != test.want {
				t.Fatalf("Reserve returned %d entries, want %d", len(got), test.want)
			}
			r.Submit(len(got))
			if got, want := r.producer.Load(), r.own; got != want {
				t.Errorf("after Submit the producer index is %d, want %d", got, want)
			}
			if got, want := r.Unconsumed(), test.filled+test.want; got != want {
				t.Errorf("after Submit %d entries are unconsumed, want %d", got, want)
			}
		})
	}
}

// Reserve reads the consumer's index again when what it knows does not suffice.
func TestRingSeesConsumption(t *testing.T) {
	r := memoryRing[int](4)
	r.Submit(len(r.Reserve(4)))
	if n := len(r.Reserve(1)); n != 0 {
		t.Fatalf("Reserve of a full ring returned %d entries", n)
	}
	kernel := otherSide(r)
	kernel.Release(len(kernel.Peek(3)))
	if n := len(r.Reserve(4)); n != 3 {
		t.Errorf("Reserve returned %d entries after 3 were consumed, want 3", n)
	}
}

// Two goroutines, each on its side: everything arrives once and in order. Run
// with -race it also shows that the indexes order the entries.
func TestRingConcurrent(t *testing.T) {
	const total = 100_000
	producer := memoryRing[uint64](64)
	consumer := otherSide(producer)
	go func() {
		for next := uint64(0); next < total; {
			entries := producer.Reserve(int(min(7, total-next)))
			for i := range entries {
				entries[i] = next
				next++
			}
			producer.Submit(len(entries))
			if len(entries) == 0 {
				runtime.Gosched()
			}
		}
	}()
	for next := uint64(0); next < total; {
		entries := consumer.Peek(5)
		for _, got := range entries {
			if got != next {
				t.Fatalf("got %d, want %d", got, next)
			}
			next++
		}
		consumer.Release(len(entries))
		if len(entries) == 0 {
			runtime.Gosched()
		}
	}
}
