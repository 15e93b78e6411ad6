package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// steadiness is what the machine itself did before each measurement: a virtual
// machine's CPUs are moved about by its host and share their cores with others.
// It explains spreads, and corrects nothing.
type steadiness struct {
	apart sample // ns that a cache line takes from one CPU to the other and back
	pace  sample // ns that a fixed sequence of additions takes on the sender's CPU
}

const (
	roundTrips = 20_000
	additions  = 1 << 20
)

// probe measures both, in a few milliseconds.
func (s *steadiness) probe() error {
	var ball atomic.Int64
	answered := make(chan error, 1)
	go func() {
		answered <- onCPU(receiverCPU, func() error {
			for at := ball.Load(); at >= 0; at = ball.Load() {
				if at&1 == 1 {
					ball.CompareAndSwap(at, at+1)
				}
			}
			return nil
		})
	}()
	err := onCPU(senderCPU, func() error {
		s.pace = append(s.pace, pace())
		s.apart = append(s.apart, serve(&ball))
		return nil
	})
	ball.Store(-1)
	if e := <-answered; err == nil {
		err = e
	}
	return err
}

// table is the two in figures; nothing when nothing was measured.
func (s *steadiness) table() table {
	t := table{
		Title:   "The machine meanwhile",
		Columns: []string{"what", "median", "spread"},
		Note:    "Asked before every measurement. Where the second is several times the first, a host moves this machine's CPUs about or lends their cores to others, and rates differ by as much from round to round: trust quotients within a round.",
	}
	if len(s.apart) > 0 {
		t.row("a cache line from one CPU to the other and back, ns", fmt.Sprintf("%.0f", s.apart.median()), s.apart.spread("%.0f"))
		t.row("a fixed sequence of additions, µs", fmt.Sprintf("%.0f", s.pace.median()/1e3), scaled(s.pace, 1e-3).spread("%.0f"))
	}
	return t
}

// serve plays the ball there and back.
func serve(ball *atomic.Int64) float64 {
	start := time.Now()
	for range roundTrips {
		next := ball.Add(1) + 1
		for ball.Load() != next {
			if time.Since(start) > time.Second {
				return float64(time.Since(start).Nanoseconds()) / roundTrips // the other CPU is not there
			}
		}
	}
	return float64(time.Since(start).Nanoseconds()) / roundTrips
}

// pace adds what cannot be added ahead of its turn.
func pace() float64 {
	sum, start := uint64(1), time.Now()
	for range additions {
		sum += sum>>7 ^ additions
	}
	took := time.Since(start).Nanoseconds()
	runtime.KeepAlive(sum)
	return float64(took)
}
