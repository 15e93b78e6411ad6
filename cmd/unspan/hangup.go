package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// policySource is where the policy of a collector comes from and how another one
// gets into force. One without a file is none.
type policySource struct {
	file  string
	apply func(ctx context.Context, name string, content []byte) error
}

// hangup gives SIGHUP its meaning until the returned context is done: the policy
// file is read again; without one, the terminal has gone and the capture ends as
// with Ctrl-C. Under nohup(1) it goes on.
func (p *policySource) hangup(ctx context.Context, log *slog.Logger) (context.Context, context.CancelFunc) {
	if p.file == "" {
		if signal.Ignored(unix.SIGHUP) {
			return context.WithCancel(ctx)
		}
		return signal.NotifyContext(ctx, unix.SIGHUP)
	}
	ctx, cancel := context.WithCancel(ctx)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			if err := p.reload(ctx); err != nil {
				log.Error("the old policy stays in force", "error", err)
			}
		}
	}()
	return ctx, cancel
}

func (p *policySource) reload(ctx context.Context) error {
	content, err := os.ReadFile(p.file)
	if err != nil {
		return fmt.Errorf("reading policy: %w", err)
	}
	return p.apply(ctx, p.file, content)
}
