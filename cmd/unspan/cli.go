package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
)

// env is the world a command sees; tests make their own.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	tty    bool // stderr is a terminal: progress may be drawn
	screen bool // so is stdout: it may be drawn upon
}

func terminal() env {
	return env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, tty: isTerminal(os.Stderr), screen: isTerminal(os.Stdout)}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// commands is the command line. Verbs change the state of the machine while
// they run; nouns only look.
type commands struct {
	Run      runCommand      `cmd:"" help:"Collect mirror feeds from an interface."`
	Decap    decapCommand    `cmd:"" help:"Take the wrapping off the packets of capture files."`
	Send     sendCommand     `cmd:"" help:"Mirror the packets of a capture file: a feed generator."`
	Flows    flowsCommand    `cmd:"" help:"Print the flows in capture files, or what they add up to."`
	Top      topCommand      `cmd:"" help:"Watch a running collector: feeds, losses, flows."`
	Sessions sessionsCommand `cmd:"" help:"Print the feeds of a running collector, with their rates."`
	Stats    statsCommand    `cmd:"" help:"Print the ledger of a running collector."`
	Policy   policyCommand   `cmd:"" help:"Check, try, apply and show what becomes of which frames."`
	Check    checkCommand    `cmd:"" help:"Say what this kernel, interface and user can do, each with its cure."`
	Demo     demoCommand     `cmd:"" help:"Show the whole way in two network namespaces of its own."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

// errFound is returned by commands whose answer is no: it sets the exit code
// and prints nothing more.
var errFound = errors.New("")

// run is the whole program as a function: it returns the exit code. 1: what was
// asked for did not work; 2: the command line is wrong.
func run(ctx context.Context, e env, args []string) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("unspan"),
		kong.Description("Unspan turns mirror feeds (ERSPAN, GRE, ...) back into the packets they carry, and accounts for every one."),
		kong.Writers(e.stdout, e.stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars(defaults()),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(e),
	)
	if err != nil {
		fmt.Fprintf(e.stderr, "unspan: building the command line: %v\n", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help
	}
	if err != nil {
		fmt.Fprintf(e.stderr, "unspan: %v\n", err)
		return 2
	}
	err = command.Run()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
	default:
		fmt.Fprintf(e.stderr, "unspan: %v\n", err)
	}
	return 1
}
