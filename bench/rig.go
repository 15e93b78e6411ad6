package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/mirror"
)

// rig is a cable with a generator at one end; receivers take turns at the other.
//
//	CPU 0  generator ─► veth ─► NAPI, XDP, copy to a socket ─┐
//	CPU 1  receiver, a process of its own                  ◄─┘
type rig struct {
	lab       *lab.Lab
	directory string // for captures
	self      string // this program
	steady    steadiness
}

const (
	senderCPU   = 0
	receiverCPU = 1
	cableMTU    = 1600 // the largest frame of the mix, and what wraps it
)

func openRig(directory string) (*rig, error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("two CPUs are needed: one generates and receives, on the other the receivers work")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(lab.Config{MTU: cableMTU})
	if err != nil {
		return nil, err
	}
	return &rig{lab: l, directory: directory, self: self}, nil
}

func (g *rig) close() error { return g.lab.Close() }

// offer is how the generator sends.
type offer struct {
	Load   load
	Rate   float64 // packets per second; 0: as fast as it goes
	Warm   time.Duration
	Window time.Duration // measured, after Warm
}

// outcome is what came of an offer.
type outcome struct {
	Sent    mirror.Stats
	Start   int64 // on the receiver's clock, ns
	Window  tally // what was done between Warm and the end; Time is its length
	Whole   tally // from first to last
	CPU     time.Duration
	Softirq time.Duration // of CPU, what the sender's CPU spent receiving
	Memory  int64         // bytes resident at most
}

// rate is packets delivered per second in the window.
func (o *outcome) rate() float64 { return float64(o.Window.Frames) / (float64(o.Window.Time) / 1e9) }

// loss is the share of what was sent that was not delivered, for whatever reason.
func (o *outcome) loss() float64 {
	if o.Sent.Frames == 0 {
		return 0
	}
	return (float64(o.Sent.Frames) - float64(o.Whole.Frames)) / float64(o.Sent.Frames)
}

// per is a delivered packet's part of a time, in nanoseconds.
func (o *outcome) per(t time.Duration) float64 {
	return float64(t.Nanoseconds()) / float64(max(o.Whole.Frames, 1))
}

// measure starts a receiver, offers it a load and stops it.
func (g *rig) measure(ctx context.Context, t task, o offer) (outcome, error) {
	t.Interface, t.Ifindex = g.lab.Collector.Link, g.lab.Collector.Ifindex
	if err := g.steady.probe(); err != nil {
		return outcome{}, err
	}
	out, err := g.attempt(ctx, t, o)
	if t.Directory == g.directory {
		err = errors.Join(err, clearCaptures(g.directory))
	}
	if err != nil {
		return out, fmt.Errorf("%s at %s: %w", t.Receiver, o.Load.Title, err)
	}
	return out, nil
}

// clearCaptures takes away what a receiver has written.
func clearCaptures(directory string) error {
	files, err := filepath.Glob(filepath.Join(directory, "*.pcap*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

func (g *rig) attempt(ctx context.Context, t task, o offer) (out outcome, err error) {
	undo, err := g.openStack(t)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	var l lever
	if t.Lever != "" {
		if l, err = leverNamed(t.Lever); err != nil {
			return out, err
		}
	}
	p, err := g.start(t, l)
	if err != nil {
		return out, err
	}
	defer p.kill()
	if l.napi != (napi{}) {
		if err := g.setNAPI(l.napi); err != nil {
			return out, err
		}
	}
	sender, err := g.sender(o)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, sender.Close()) }()

	begin, err := p.usage()
	if err != nil {
		return out, err
	}
	sending, cancel := context.WithTimeout(ctx, o.Warm+o.Window)
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- sender.Run(sending) }()
	select {
	case <-time.After(o.Warm):
	case <-ctx.Done():
	}
	first, err := p.ask("mark")
	out.Start = first.Time - o.Warm.Nanoseconds()
	if err == nil {
		select {
		case <-time.After(o.Window - markMargin):
		case <-ctx.Done():
		}
		out.Window, err = p.ask("mark")
	}
	if e := <-sent; err == nil {
		err = e
	}
	if err != nil {
		return out, err
	}
	end, err := p.usage()
	if err != nil {
		return out, err
	}
	out.Sent = sender.Stats()
	out.Window = out.Window.since(first)
	out.CPU, out.Softirq, out.Memory = end.cpu-begin.cpu+end.softirq-begin.softirq, end.softirq-begin.softirq, end.memory
	if l.napi != (napi{}) {
		if err := g.setNAPI(napi{}); err != nil {
			return out, err
		}
	}
	if out.Whole, err = p.ask("stop"); err != nil {
		return out, err
	}
	return out, errors.Join(p.wait(), ctx.Err())
}

// markMargin is how long before the sender stops the last mark is asked for: a
// receiver that has nothing to do would spoil its window.
const markMargin = 50 * time.Millisecond

// since is what was done after an earlier tally.
func (t tally) since(earlier tally) tally {
	return tally{t.Time - earlier.Time, t.Frames - earlier.Frames, t.Written - earlier.Written, t.Lost - earlier.Lost}
}

func (g *rig) sender(o offer) (sender *mirror.Sender, err error) {
	s := mirror.DefaultSession(bpf.EncapERSPAN2)
	s.SourceMAC, s.DestinationMAC = g.lab.Mirror.MAC, g.lab.Collector.MAC
	s.Source, s.Destination = g.lab.Mirror.IPv4, g.lab.Collector.IPv4
	c := mirror.Default()
	c.Interface, c.Method, c.Loop, c.CPU = g.lab.Mirror.Link, mirror.MethodLive, true, senderCPU
	c.Feeds = o.Load.feeds(s)
	c.Rate = mirror.Rate{Packets: o.Rate}
	err = g.lab.Mirror.Do(func() error {
		sender, err = mirror.New(c)
		return err
	})
	return sender, err
}

// process is a receiver at work.
type process struct {
	command  *exec.Cmd
	commands io.WriteCloser
	answers  *json.Decoder
	complain *strings.Builder
	ended    bool
}

// start runs this program as a receiver and waits until it is ready.
func (g *rig) start(t task, l lever) (*process, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.Command(g.self, "-receive", string(text)), complain: &strings.Builder{}}
	p.command.Stderr = p.complain
	if l.places > 0 {
		p.command.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", l.places))
	}
	if p.commands, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	answers, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = json.NewDecoder(bufio.NewReader(answers))
	if err := g.lab.Collector.Do(func() error {
		if t.Disk || l.loose {
			return p.command.Start() // the thread that writes runs where it finds room
		}
		return onCPU(receiverCPU, p.command.Start)
	}); err != nil {
		return nil, err
	}
	if _, err := p.answer(); err != nil {
		return nil, err
	}
	return p, nil
}

// onCPU runs f on a CPU: a process that it starts inherits that, with all its
// threads.
func onCPU(cpu int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("running on CPU %d: %w", cpu, err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}

func (p *process) ask(what string) (tally, error) {
	if _, err := fmt.Fprintln(p.commands, what); err != nil {
		return tally{}, p.failed(err)
	}
	return p.answer()
}

func (p *process) answer() (t tally, err error) {
	if err := p.answers.Decode(&t); err != nil {
		return t, p.failed(err)
	}
	return t, nil
}

// failed ends the process and says why, in its own words if it has any.
func (p *process) failed(err error) error {
	p.kill()
	if said := strings.TrimSpace(p.complain.String()); said != "" {
		return errors.New(said)
	}
	return err
}

func (p *process) wait() error {
	p.ended = true
	p.commands.Close()
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, p.complain)
	}
	return nil
}

func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	p.command.Process.Kill()
	p.command.Wait()
}
