package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is a terminal that is drawn upon: what stood there comes back at the
// end, and keys come as they are hit. Ctrl-C stays a signal.
type screen struct {
	in, out *os.File
	before  *unix.Termios // nil: in is no terminal, there are no keys
}

// Control sequences (ECMA-48, and xterm's private modes).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other buffer, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
	reverse     = "\x1b[7m"
	plainText   = "\x1b[0m"
)

func openScreen(in, out *os.File) (*screen, error) {
	s := &screen{in: in, out: out}
	if before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
		keys := *before
		keys.Lflag &^= unix.ICANON | unix.ECHO
		keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 0, 0 // termios(3): a read returns what is there
		if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &keys); err != nil {
			return nil, fmt.Errorf("setting up the terminal: %w", err)
		}
		s.before = before
	}
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return nil, fmt.Errorf("drawing on the terminal: %w", err)
	}
	return s, nil
}

// close puts everything back.
func (s *screen) close() error {
	_, err := io.WriteString(s.out, leaveScreen)
	if s.before != nil {
		if back := unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, s.before); err == nil {
			err = back
		}
	}
	if err != nil {
		return fmt.Errorf("putting the terminal back: %w: reset(1) does", err)
	}
	return nil
}

// size is the terminal's, or that of a usual one.
func (s *screen) size() (height, width int) {
	w, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 {
		return 24, 80
	}
	return int(w.Row), int(w.Col)
}

// show draws a title, as much of the text as there is room for, and a last line.
func (s *screen) show(title, text, last string, height, width int) error {
	var b strings.Builder
	b.WriteString(homeCursor + reverse + fitted(title, width) + plainText + clearLine)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for _, line := range lines[:min(len(lines), max(0, height-3))] {
		b.WriteString("\r\n" + fitted(line, width) + clearLine)
	}
	b.WriteString("\r\n" + clearLine + "\r\n" + reverse + fitted(last, width) + plainText + clearLine + clearRest)
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("drawing on the terminal: %w", err)
	}
	return nil
}

// fitted is as much of a line as fits.
func fitted(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

// key waits for a key, the time or the end; 0 is none. Without a terminal to
// read from, only time passes.
func (s *screen) key(ctx context.Context, patience time.Duration) (byte, error) {
	for end := time.Now().Add(patience); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			return 0, nil
		}
		// The end is looked for now and then: poll(2) knows no context.
		wait := int(min(left, 100*time.Millisecond)/time.Millisecond) + 1
		fds := []unix.PollFd{{Fd: int32(s.in.Fd()), Events: unix.POLLIN}}
		if s.before == nil {
			fds = nil
		}
		n, err := unix.Poll(fds, wait)
		switch {
		case err == unix.EINTR || err == nil && n == 0:
			continue
		case err != nil:
			return 0, fmt.Errorf("waiting for a key: %w", err)
		}
		var one [1]byte
		if n, err := unix.Read(int(s.in.Fd()), one[:]); err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("reading a key: %w", err)
		} else if n == 1 {
			return one[0], nil
		} else if err == nil {
			return 'q', nil // the terminal has gone
		}
	}
	return 0, nil
}
