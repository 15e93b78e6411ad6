package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	tcpdumpPeer = "tcpdump -w (not decapsulating)"
	dumpcapPeer = "dumpcap (not decapsulating)"
)

// tools are programs that capture the outer packets as they are.
var tools = map[string]struct {
	program string
	args    func(link, file string) []string
	ready   string         // in a line that it prints when it captures
	count   *regexp.Regexp // of the packets it captured, in a line at the end
	timeout time.Duration  // libpcap hands a block that is not full over after this
}{
	tcpdumpPeer: {
		"tcpdump",
		func(link, file string) []string {
			return []string{"-i", link, "-n", "-Z", "root", "-B", strconv.Itoa(ringBlock * ringBlocks >> 10),
				"-w", file, "ip proto 47"}
		},
		"listening on",
		regexp.MustCompile(`^(\d+) packets captured`),
		time.Second,
	},
	dumpcapPeer: {
		"dumpcap",
		func(link, file string) []string {
			return []string{"-i", link, "-q", "-B", strconv.Itoa(ringBlock * ringBlocks >> 20),
				"-w", file, "-f", "ip proto 47"}
		},
		"File:",
		regexp.MustCompile(`^Packets received/dropped on interface .*: (\d+)/`),
		250 * time.Millisecond,
	},
}

// tool runs such a program.
type tool struct {
	task   task
	frames atomic.Uint64 // known at the end only
}

func (t *tool) tally() (tally, error) { return tally{Frames: t.frames.Load()}, nil }

func (t *tool) run(ready func(), stop <-chan struct{}) error {
	how := tools[t.task.Receiver]
	command := exec.Command(how.program, how.args(t.task.Interface, filepath.Join(t.task.Directory, "tool.pcap"))...)
	said, err := command.StderrPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	listening := make(chan struct{})
	read := make(chan error, 1)
	go func() { read <- t.listen(said, how.ready, how.count, listening) }()
	select {
	case <-listening:
		ready()
		<-stop
		// Interrupted, they leave what is still in the ring.
		time.Sleep(how.timeout + 200*time.Millisecond)
		if err := command.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		err = <-read
	case err = <-read:
		err = errors.Join(err, fmt.Errorf("%s never said that it captures", how.program))
	}
	if e := command.Wait(); e != nil && err == nil {
		err = fmt.Errorf("%s: %w", how.program, e)
	}
	return err
}

// listen reads what the program says until its end.
func (t *tool) listen(said io.Reader, ready string, count *regexp.Regexp, listening chan<- struct{}) error {
	counted := false
	for lines := bufio.NewScanner(said); lines.Scan(); {
		line := lines.Text()
		if listening != nil && strings.Contains(line, ready) {
			close(listening)
			listening = nil
		}
		if m := count.FindStringSubmatch(line); m != nil {
			n, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				return err
			}
			t.frames.Store(n)
			counted = true
		}
	}
	if !counted {
		return errors.New("the program did not say how many packets it captured")
	}
	return nil
}
