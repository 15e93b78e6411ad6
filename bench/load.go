package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/unspan/unspan/userspace/traffic"
)

// load is what is offered: inner frames of one size, or a mix of sizes.
type load struct {
	Name  string // as figures are called after it
	Title string
	Sizes []int
}

var (
	load64   = load{"64", "64 bytes", []int{64}}
	load512  = load{"512", "512 bytes", []int{512}}
	load1400 = load{"1400", "1400 bytes", []int{1400}}
	loadIMIX = load{"imix", "IMIX", traffic.IMIX()}
)

// The generator copies every frame from a table; one that fits into a core's
// cache keeps that cheap for all sizes.
const (
	loadFlows  = 240
	loadFrames = 480 // of both directions, and a multiple of the mix's twelve
)

// frames makes the inner frames.
func (l load) frames() [][]byte {
	return traffic.Load{Seed: 1, Sizes: l.Sizes, Flows: loadFlows, Frames: loadFrames}.Make()
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
