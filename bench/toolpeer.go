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

// tools are programs that write the outer packets as they are.
var tools = map[string]struct {
	program string
	args    func(link, file string) ([]string, error)
	ready   string         // in a line that it prints when it captures
	count   *regexp.Regexp // of the packets it captured, in a line at the end, and of those it lost if they are among them
	timeout time.Duration  // libpcap hands a block that is not full over after this
}{
	tcpdumpPeer: {
		"tcpdump",
		func(link, file string) ([]string, error) {
			return []string{"-i", link, "-n", "-Z", "root", "-B", strconv.Itoa(ringBlock * ringBlocks >> 10),
				"-w", file, "ip proto 47"}, nil
		},
		"listening on",
		regexp.MustCompile(`^(\d+) packets captured`),
		time.Second,
	},
	dumpcapPeer: {
		"dumpcap",
		func(link, file string) ([]string, error) {
			return []string{"-i", link, "-q", "-B", strconv.Itoa(ringBlock * ringBlocks >> 20),
				"-w", file, "-f", "ip proto 47"}, nil
		},
		"File:",
		regexp.MustCompile(`^Packets received/dropped on interface .*: (\d+)/`),
		250 * time.Millisecond,
	},
	suricataPeer: {"suricata", suricataArgs, "Engine started", suricataCounts, 250 * time.Millisecond},
}

// tool runs such a program.
type tool struct {
	task   task
	frames atomic.Uint64 // known at the end only
}

func (t *tool) tally() (tally, error) { return tally{Frames: t.frames.Load()}, nil }

func (t *tool) run(ready func(), stop <-chan struct{}) error {
	how := tools[t.task.Receiver]
	args, err := how.args(t.task.Interface, filepath.Join(t.task.Directory, "tool.pcap"))
	if err != nil {
		return err
	}
	command := exec.Command(how.program, args...)
	said, says, err := os.Pipe() // some speak to standard output, some to standard error
	if err != nil {
		return err
	}
	defer said.Close()
	command.Stdout, command.Stderr = says, says
	err = command.Start()
	says.Close()
	if err != nil {
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
			n, err := captured(m[1:])
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

// captured is the first count less the second, if there is one.
func captured(counts []string) (n uint64, err error) {
	for i, text := range counts {
		c, err := strconv.ParseUint(text, 10, 64)
		switch {
		case err != nil:
			return 0, err
		case i == 0:
			n = c
		case c > n:
			return 0, fmt.Errorf("%d packets lost of %d", c, n)
		default:
			n -= c
		}
	}
	return n, nil
}
