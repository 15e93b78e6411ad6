package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// task is what a receiving process is told on its command line.
type task struct {
	Receiver  string
	Interface string
	Ifindex   int
	Directory string // for captures
	Frames    int    // bare loop: frames in circulation; unspan: buffers, 0 as it comes
	Workers   int    // unspan
	Disk      bool   // unspan: keep every file, and end when all is on the disk
	Lever     string // unspan: what is changed; empty: nothing
	Profile   string // file for a CPU profile; empty: none
}

// tally is what a receiver has done so far.
type tally struct {
	Time    int64  `json:"time"`    // when, ns on the receiver's clock
	Frames  uint64 `json:"frames"`  // inner frames delivered to where this receiver delivers
	Written uint64 `json:"written"` // bytes of capture files
	Lost    uint64 `json:"lost"`    // frames that the receiver's kernel side says it lost
}

// receiver is one way to take a mirror feed off an interface. A receiver runs
// in a process of its own, bound to the receivers' CPU, in the collector's
// network namespace.
type receiver interface {
	// run receives until stop is closed and everything that has arrived is
	// delivered. It calls ready when the first frame may come.
	run(ready func(), stop <-chan struct{}) error
	// tally may be called while run runs.
	tally() (tally, error)
}

func newReceiver(t task) (receiver, error) {
	switch t.Receiver {
	case bareLoop, readingLoop:
		return &socketLoop{task: t, reads: t.Receiver == readingLoop}, nil
	case pipeline, droppingPipeline:
		return newCollector(t)
	case dropFloor:
		return &dropper{task: t}, nil
	case parserPeer, stackPeer, newPacketPeer, rawPeer, devicePeer:
		return &userspaceDecap{task: t}, nil
	}
	if _, ok := tools[t.Receiver]; ok {
		return &tool{task: t}, nil
	}
	return nil, fmt.Errorf("receiver %q: there is none of this name", t.Receiver)
}

// receive is the receiving process: it answers "mark" and "stop" on commands
// with a tally each, and "ready" of its own accord.
func receive(text string, commands io.Reader, answers io.Writer) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	r, err := newReceiver(t)
	if err != nil {
		return err
	}
	stopProfile, err := profile(t.Profile)
	if err != nil {
		return err
	}
	var (
		out   = json.NewEncoder(answers)
		ready = make(chan struct{})
		stop  = make(chan struct{})
		ended = make(chan error, 1)
		lines = make(chan string)
	)
	go func() { ended <- r.run(func() { close(ready) }, stop) }()
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(commands); s.Scan(); {
			lines <- s.Text()
		}
	}()
	answer := func() error {
		got, err := r.tally()
		if err != nil {
			return err
		}
		if got.Time == 0 {
			got.Time = time.Now().UnixNano()
		}
		return out.Encode(got)
	}
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("ended without being told to")
			}
			return err
		case <-ready:
			ready = nil
			if err := answer(); err != nil {
				return err
			}
		case line := <-lines: // "" when the commands end: the parent is gone
			if line == "mark" {
				if err := answer(); err != nil {
					return err
				}
				continue
			}
			close(stop)
			if err := <-ended; err != nil {
				return err
			}
			stopProfile()
			return answer()
		}
	}
}

// scratch makes an empty directory, in memory where there is /dev/shm, and the
// function that removes it.
func scratch() (string, func(), error) {
	for _, parent := range []string{"/dev/shm", os.TempDir()} {
		if dir, err := os.MkdirTemp(parent, "unspan-bench-"); err == nil {
			return dir, func() { os.RemoveAll(dir) }, nil
		}
	}
	return "", nil, errors.New("making a directory for captures: neither /dev/shm nor the temporary directory can be written to")
}
