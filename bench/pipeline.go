package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/loader"
	"github.com/unspan/unspan/userspace/collector"
)

const (
	pipeline         = "unspan"
	droppingPipeline = "unspan, every packet dropped by the kernel half"
)

// liveCollector is the whole way as unspan run goes it: XDP, AF_XDP, workers,
// ledger, pcapng.
type liveCollector struct {
	task task
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
		c.Sockets.Frames = t.Frames
	}
	if t.Workers > 0 {
		c.Workers = t.Workers
	}
	c.Write = t.Directory != ""
	c.Store.Path = filepath.Join(t.Directory, "unspan.pcapng")
	c.Store.RotateSize, c.Store.Keep, c.Store.Prepare = rotateSize, keepFiles, keepFiles+1
	if t.Disk {
		c.Store.Keep = 0
	}
	flows := collector.DefaultFlows()
	c.Flows = &flows
	if t.Receiver == droppingPipeline {
		c.Policy = ruled(someRules, true)
	}
	if t.Lever != "" {
		l, err := leverNamed(t.Lever)
		if err != nil {
			return nil, err
		}
		if l.config != nil {
			l.config(&c)
		}
	}
	live, err := collector.New(c)
	return &liveCollector{t, live}, err
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
	if err := l.live.Run(ctx); err != nil || !l.task.Disk {
		return err
	}
	return synced(l.task.Directory)
}

// synced returns when the file system of a directory is on its disk.
func synced(directory string) error {
	d, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("writing %s to the disk: %w", directory, err)
	}
	return nil
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
		t.Time = time.Now().UnixNano() // the files are finished, too
		err = s.Check()
	}
	return t, err
}
