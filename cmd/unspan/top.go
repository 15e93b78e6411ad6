package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/unspan/unspan/userspace/control"
)

type topCommand struct {
	askFlags
	viewFlags
	Sort     string        `enum:"${orders}" default:"rate" placeholder:"WHAT" help:"Which rows come first: most ${enum} (${default})."`
	Limit    int           `placeholder:"N" help:"Rows of flows; else as many as the terminal has, or 25."`
	Interval time.Duration `default:"2s" placeholder:"TIME" help:"Look again so often (${default})."`
}

// Run draws a screen again and again until q or Ctrl-C; where standard output is
// no terminal, it prints one.
func (c *topCommand) Run(ctx context.Context, e env) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	asked := control.Looking{By: c.By, Order: c.Sort, Limit: max(c.Limit, 0), Search: c.Search}
	if c.JSON {
		return client.Flows(ctx, e.stdout, asked, true)
	}
	if !e.screen {
		return client.Top(ctx, e.stdout, asked)
	}
	if c.Interval < 100*time.Millisecond {
		return fmt.Errorf("interval %v: give 100ms at least", c.Interval)
	}
	return c.watch(ctx, client, asked)
}

// watch draws until it is told to end.
func (c *topCommand) watch(ctx context.Context, client *control.Client, asked control.Looking) error {
	s, err := openScreen(os.Stdin, os.Stdout)
	if err != nil {
		return err
	}
	err = c.draw(ctx, s, client, asked)
	return errors.Join(err, s.close())
}

// views and sorts are the keys that choose them.
var (
	views = map[byte]string{'f': "flow", 'a': "address", 's': "service", 'e': "edge"}
	sorts = map[byte]string{'r': "rate", 'b': "bytes", 'p': "packets", 'c': "flows", 'l': "loss", 'h': "handshake", 'n': "newest"}
)

const keysHelp = "q quit   f flows  a addresses  s services  e who calls what   by: r rate  b bytes  p packets  c flows  l loss  h handshake  n newest"

func (c *topCommand) draw(ctx context.Context, s *screen, client *control.Client, asked control.Looking) error {
	answered := false
	for {
		height, width := s.size()
		asked.Feeds = max(3, height/4)
		if c.Limit == 0 {
			asked.Limit = max(3, height-asked.Feeds-12)
		}
		var b bytes.Buffer
		err := client.Top(ctx, &b, asked)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !answered:
			return err
		case err != nil: // it has ended, or is busy: what was seen last goes, the reason stays
			fmt.Fprintln(&b, err)
		}
		answered = true
		title := fmt.Sprintf("%s by %s  %s  %s", asked.By, asked.Order, asked.Search, time.Now().Format(time.TimeOnly))
		if err := s.show(title, b.String(), keysHelp, height, width); err != nil {
			return err
		}
		key, err := s.key(ctx, c.Interval)
		if err != nil || ctx.Err() != nil || key == 'q' {
			return err
		}
		if by, is := views[key]; is {
			asked.By = by
		}
		if order, is := sorts[key]; is {
			asked.Order = order
		}
	}
}
