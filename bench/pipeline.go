package main

import (
	"context"
	"path/filepath"
	"runtime"
	"time"

	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/collector"
)

const pipeline = "unspan"

// liveCollector is the whole way as unspan run goes it: XDP, AF_XDP, workers,
// ledger, pcapng.
type liveCollector struct {
	live *collector.Live
}

// Captures are rotated, so that a long run does not fill the memory they lie in.
const (
	rotateSize = 256 << 20
	keepFiles  = 2
)

func newCollector(t task) (*liveCollector, error) {
	c := collector.Default()
	c.Interface, c.Mode, c.Version = t.Interface, loader.Native, "bench"
	if t.Frames > 0 {
		c.Frames = t.Frames
	}
	if t.Workers > 0 {
		c.Workers = t.Workers
	}
	c.Write = t.Directory != ""
	c.Store.Path = filepath.Join(t.Directory, "unspan.pcapng")
	c.Store.RotateSize, c.Store.Keep = rotateSize, keepFiles
	live, err := collector.New(c)
	return &liveCollector{live}, err
}

func (l *liveCollector) run(ready func(), stop <-chan struct{}) error {
	runtime.LockOSThread() // in the namespace of the process, but the rule is the rule
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for l.live.Ready() != nil {
			if ctx.Err() != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		ready()
		<-stop
		cancel()
	}()
	return l.live.Run(ctx)
}

func (l *liveCollector) tally() (tally, error) {
	s, err := l.live.Snapshot()
	if err != nil {
		return tally{}, err
	}
	t := tally{
		Time:   s.Start.Add(s.Elapsed).UnixNano(),
		Frames: s.Output.Written + s.Output.Unasked,
		Lost:   s.Output.Backlog + s.Output.Refused,
	}
	t.Written = s.Output.WrittenBytes
	for _, q := range s.Queues {
		t.Lost += q.RingFull + q.FillRingEmpty + q.TooLong
	}
	if s.Final {
		err = s.Check()
	}
	return t, err
}
