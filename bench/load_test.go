package main

import (
	"slices"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/mirror"
)

func TestLoadFeeds(t *testing.T) {
	for _, n := range []int{0, 1, 16, 4096} {
		l := load{Sizes: []int{64}, Flows: 2048, Feeds: n}
		s := mirror.DefaultSession(bpf.EncapERSPAN2)
		s.Source = exporterAddress
		feeds := l.feeds(s)
		if want := max(n, 1); len(feeds) != want {
			t.Errorf("%d feeds, want %d", len(feeds), want)
		}
		seen, frames := map[[2]any]bool{}, 0
		for _, f := range feeds {
			seen[[2]any{f.Session.Source, f.Session.ID}] = true
			frames += len(f.Frames)
			if len(f.Frames) == 0 || f.Session.ID == 0 || f.Session.ID > 1023 {
				t.Fatalf("feed of session %d with %d frames", f.Session.ID, len(f.Frames))
			}
		}
		if len(seen) != len(feeds) {
			t.Errorf("%d feeds are only %d sessions", len(feeds), len(seen))
		}
		if frames != 4096 {
			t.Errorf("the feeds have %d frames, the load 4096", frames)
		}
	}
}

func TestChooseLoads(t *testing.T) {
	got, err := chooseLoads("1400,imix")
	if err != nil || len(got) != 2 || got[0].Name != "1400" || got[1].Name != "imix" || got[0].mean() != 1400 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := chooseLoads("65"); err == nil {
		t.Error("no complaint of a load that is none")
	}
}

// Both peers must find the very frame that was wrapped, or they measure nothing.
func TestPeersDecapsulate(t *testing.T) {
	packet, l, err := wrapped(bpf.EncapERSPAN2)
	if err != nil {
		t.Fatal(err)
	}
	want := packet[l.overhead:]
	if !slices.Equal(want, load64.frames()[0]) {
		t.Fatalf("the overhead is not %d bytes", l.overhead)
	}
	for name, decap := range map[string]func([]byte) []byte{
		"parser":    parserDecap(),
		"NewPacket": newPacketDecap,
		"by hand":   func(b []byte) []byte { return innerOfIP(b[14:]) },
	} {
		if got := decap(packet); !slices.Equal(got, want) {
			t.Errorf("%s: % x, want % x", name, got, want)
		}
		if got := decap(packet[:40]); len(got) > 0 {
			t.Errorf("%s: % x out of a packet that is cut", name, got)
		}
	}
}
