package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/unspan/unspan/userspace/mirror"
	"github.com/unspan/unspan/userspace/traffic"
)

// load is what is offered: inner frames of one size, or a mix of sizes.
type load struct {
	Name  string // as figures are called after it
	Title string
	Sizes []int
	Flows int // 0: loadFlows
	Feeds int // mirror sessions that carry it in turn; 0: one
}

var (
	load64   = load{Name: "64", Title: "64 bytes", Sizes: []int{64}}
	load512  = load{Name: "512", Title: "512 bytes", Sizes: []int{512}}
	load1400 = load{Name: "1400", Title: "1400 bytes", Sizes: []int{1400}}
	loadIMIX = load{Name: "imix", Title: "IMIX", Sizes: traffic.IMIX()}
)

// The generator copies every frame from a table; one that fits into a core's
// cache keeps that cheap for all sizes.
const loadFlows = 240 // frames are twice as many, for both directions: a multiple of the mix's twelve

// frames makes the inner frames.
func (l load) frames() [][]byte {
	flows := max(l.Flows, loadFlows)
	return traffic.Load{Seed: 1, Sizes: l.Sizes, Flows: flows, Frames: 2 * flows}.Make()
}

// feeds spreads the frames over mirror sessions that differ in the exporter's
// address and the session id.
func (l load) feeds(one mirror.Session) []mirror.Feed {
	const sessions = 1 << 10 // a session id has 10 bits
	frames := l.frames()
	n := max(l.Feeds, 1)
	feeds := make([]mirror.Feed, n)
	source := one.Source
	for i := range feeds {
		one.Source, one.ID = source, uint16(1+i%(sessions-1))
		for range i / (sessions - 1) {
			one.Source = one.Source.Next()
		}
		feeds[i].Session = one
		for at := i % len(frames); at < len(frames); at += n {
			feeds[i].Frames = append(feeds[i].Frames, frames[at])
		}
	}
	return feeds
}

// mean is the average size of the inner frames in bytes.
func (l load) mean() float64 {
	sum := 0
	for _, s := range l.Sizes {
		sum += s
	}
	return float64(sum) / float64(len(l.Sizes))
}

// chooseLoads reads a list of the names of loads.
func chooseLoads(list string) (chosen []load, err error) {
	all := []load{load64, load512, load1400, loadIMIX}
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(l load) bool { return l.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("load %q: must be 64, 512, 1400 or imix", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
