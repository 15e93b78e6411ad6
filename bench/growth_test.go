package main

import (
	"math"
	"testing"

	"github.com/unspan/unspan/bpf"
)

func TestFeedRate(t *testing.T) {
	packet, _, err := wrapped(bpf.EncapERSPAN2)
	if err != nil {
		t.Fatal(err)
	}
	// 64 inner bytes, wrapped, and 24 more on the wire: 138 bytes of 8 bits.
	if want := 10e9 / float64(8*(len(packet)+24)); math.Abs(feedRate(64)-want) > 1 {
		t.Errorf("%v packets a second, want %v", feedRate(64), want)
	}
}
