package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/decap"
	"github.com/unspan/unspan/userspace/feed"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/ledger"

	"github.com/unspan/unspan/bpf"
)

// Offline collects the mirror feeds in capture files: the same work as Live, by
// the Go twin of the kernel half.
type Offline struct {
	Progress func(Progress) // told a few times a second; may be nil

	config  Config
	files   []string
	engine  *decap.Engine
	table   *feed.Table
	worker  *worker
	output  *output
	flows   *flows
	frames  uint64
	records [256]flow.Flow // on their way to the sinks
	ended   atomic.Bool    // all is read: the books stand still
	start   time.Time
	end     time.Time
}

// Progress is how far reading has come.
type Progress struct {
	File    string
	Read    int64 // bytes of the file
	Size    int64 // of the file, 0 when it is a pipe
	Packets uint64
}

// NewOffline checks the configuration; "-" among the files is Config.Input.
// Nothing is opened before Run.
func NewOffline(config Config, files []string) (*Offline, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no capture file named")
	}
	table := feed.NewTable(config.MaxFeeds)
	return &Offline{
		config: config,
		files:  files,
		table:  table,
		engine: decap.New(config.Settings, config.Collectors, table),
	}, nil
}

// Run reads the files in their order, as one capture. What was read before an
// error is written and in the books.
func (o *Offline) Run(ctx context.Context) (err error) {
	o.start = time.Now()
	defer func() { o.end = time.Now() }()
	if err = o.checkFiles(); err != nil {
		return err
	}
	if o.output, err = openOutput(&o.config, 1, o.books); err != nil {
		return err
	}
	if o.flows, err = openFlows(&o.config, 1, true); err != nil {
		o.output.abandon()
		return err
	}
	lim := newLimit(o.config.Count)
	if o.worker, err = newWorker(&o.config, o.table, nil, o.output, 0, lim); err != nil {
		return errors.Join(err, o.flows.close())
	}
	o.worker.rebuild(o.flows, 0)
	// One goroutine has both, so they share what rules have met and what was seen before.
	rules := o.worker.rules.Load()
	o.engine.SetPolicy(o.config.Policy.Exporters, o.config.Policy.DropStrangers, rules.Apply)
	for _, name := range o.files {
		if err = o.readFile(ctx, name); err != nil {
			break
		}
	}
	o.ended.Store(true)
	o.worker.finish()
	o.flows.hand(ctx, o.records[:])
	return errors.Join(err, o.output.wait(), o.flows.close())
}

// checkFiles looks at the captures before the output is opened: that empties a
// file, which must not be one of them, nor in vain because of a misspelt name.
func (o *Offline) checkFiles() error {
	var output os.FileInfo
	if path := o.config.Store.Path; o.config.Write && path != "-" {
		output, _ = os.Stat(path) // whatever is wrong with it, opening it says so
	}
	for _, name := range o.files {
		var info os.FileInfo
		var err error
		if name != "-" {
			info, err = os.Stat(name)
		} else if f, ok := o.config.Input.(*os.File); ok {
			info, err = f.Stat()
		}
		switch {
		case err != nil:
			return fmt.Errorf("opening capture: %w", err)
		case info == nil: // a reader, of no file that could be meant
		case info.IsDir():
			return fmt.Errorf("opening capture: %s is a directory: name the files in it", name)
		case output != nil && os.SameFile(info, output):
			return fmt.Errorf("writing to %s: it is the capture that is read: name another file", o.config.Store.Path)
		}
	}
	return nil
}

// books gives a feed's figures to the last file. Those finished before, by
// rotation, get none: the writer is another goroutine than the one that counts.
func (o *Offline) books(feed uint32) (bpf.FeedState, bool) {
	if !o.ended.Load() {
		return bpf.FeedState{}, false
	}
	return o.table.State(feed)
}

func (o *Offline) readFile(ctx context.Context, name string) (err error) {
	file := io.NopCloser(o.config.Input)
	progress := Progress{File: name}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("opening capture: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			progress.Size = info.Size()
		}
		file = f
	} else {
		progress.File = "standard input"
	}
	defer file.Close()
	r, err := pcapng.NewReader(file)
	if err == nil {
		err = o.read(ctx, r, &progress)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", progress.File, err)
	}
	return nil
}

// read hands every packet of a capture to the twin and to the worker.
func (o *Offline) read(ctx context.Context, r *pcapng.Reader, progress *Progress) error {
	var p pcapng.Packet
	for {
		if err := r.Next(&p); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		o.frames++
		if o.frames%256 == 0 {
			o.flows.hand(ctx, o.records[:]) // the ring has room for what 256 frames end
		}
		if o.frames%4096 == 0 {
			if ctx.Err() != nil {
				return fmt.Errorf("stopped after %d packets: %w", o.frames, context.Cause(ctx))
			}
			if o.Progress != nil && o.frames%(1<<18) == 0 {
				progress.Read, progress.Packets = r.Offset(), o.frames
				o.Progress(*progress)
			}
		}
		rec, data, v := o.engine.Captured(decap.LinkType(p.Interface.LinkType), p.Data, int(p.OrigLen), p.Time)
		switch v {
		case bpf.RedirectInner:
			o.worker.inner(&rec, data)
		case bpf.RedirectFragment:
			o.worker.fragment(&rec, data)
		}
	}
}

// Snapshot is the ledger; call it when Run has returned.
func (o *Offline) Snapshot() ledger.Snapshot {
	s := ledger.Snapshot{
		Subject: strings.Join(o.files, ", "),
		Start:   o.start, Elapsed: o.end.Sub(o.start), Final: true,
		Frames: o.frames, FramesCounted: true,
		XDP: o.engine.Frames(),
	}
	s.Flows = o.flows.ledger()
	for key, state := range o.table.All() {
		s.Feeds = append(s.Feeds, ledger.Feed{Key: key, State: state})
	}
	if o.worker != nil {
		rules := o.worker.rules.Load()
		if p := rules.Policy(); len(p.Rules) > 0 {
			s.Rules = ruleLines(p, rules.States())
		}
		s.Overlaps = overlapLines(rules.Pairs(), func(id uint32) string {
			if key, err := o.table.FeedKey(id); err == nil {
				return feed.Name(&key)
			}
			return "other"
		})
		s.Workers = []ledger.Worker{o.worker.ledger()}
		s.Output = o.output.ledger([]*worker{o.worker})
	}
	return s
}
