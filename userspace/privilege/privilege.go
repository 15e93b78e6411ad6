// Package privilege gives up what the collector needed to set itself up, before
// the first packet of a stranger is looked at.
//
//	              setting up             Drop     while packets flow
//	capabilities  what it was given  ───────────► none in force; Keep is put aside, and
//	                                              Raise takes it up for one call on one thread
//	gaining more  set-uid programs   ───────────► no_new_privs, nothing in the bounding set,
//	                                              root is a user without privileges (NOROOT)
//	files         all                ───────────► Landlock: what is listed, for what is listed
//	network       all                ───────────► Landlock: no TCP socket bound, nor connected but for Connect
//	processes     all                ───────────► Landlock: no signal, no tracing outside
//
// Descriptors that are open stay what they are: BPF maps, AF_XDP sockets, the
// XDP link, the web listener and the capture file need no privilege any more.
//
// All of it is the process's, not a thread's: credentials(7) are per thread in
// Linux, so every system call here is made on all of them.
//
// There is no seccomp filter: a list of system calls for a Go program must hold
// what its runtime of tomorrow calls. systemd sets one from outside
// (scripts/unspan.service), where it can be changed without a new program.
package privilege

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Config says what is still needed when everything is set up.
type Config struct {
	// Keep are the capabilities that Raise takes up. Those that the process
	// does not have are not missed.
	Keep Set

	Write  []string // directories in which files are made, written, listed and removed
	Remove []string // directories from which files are removed, and nothing else
	Read   []string // files, and directories with all below, that are read

	// Programs lets the process run the system's programs, which get no
	// capability and live under the same restrictions.
	Programs bool

	// Connect lets the process make TCP connections.
	Connect bool

	// Resolve lets the process look up names of hosts.
	Resolve bool

	Log *slog.Logger // is told what Drop has come to; nil: nobody is
}

// Guard drops privileges once and raises some of them again for a call. A nil
// Guard keeps everything and raises nothing. Its methods may be called by any
// goroutine.
type Guard struct {
	config Config
	mu     sync.Mutex
	state  State
	down   bool
}

// New makes a guard that has not dropped anything yet.
func New(config Config) *Guard { return &Guard{config: config} }

// State is what Drop has come to.
type State struct {
	InForce    Set  // capabilities of every thread
	PutAside   Set  // capabilities that Raise takes up
	NoNewPrivs bool // prctl(2): no program that this one runs gains any
	Bounded    bool // the bounding set is empty and root is nobody special
	Landlock   int  // version of the restrictions in force; 0: the kernel has none
}

// LogValue lists the state for a log line.
func (s State) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("capabilities", s.InForce.String()),
		slog.String("put_aside", s.PutAside.String()),
		slog.Bool("no_new_privs", s.NoNewPrivs),
		slog.Bool("bounded", s.Bounded),
		slog.Int("landlock", s.Landlock),
	)
}

// Drop gives up everything that Config does not name, for good and for every
// thread. Where the kernel lacks a part of it the rest is done; State says what
// came of it. An error means that the process is not to be trusted with packets.
func (g *Guard) Drop() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.drop(); err != nil {
		return fmt.Errorf("dropping privileges: %w: --keep-privileges goes on with all of them", err)
	}
	g.down = true
	if g.config.Log != nil {
		g.config.Log.Info("privileges dropped", "left", g.state)
	}
	return nil
}

func (g *Guard) drop() (err error) {
	had, err := current()
	if err != nil {
		return err
	}
	standing, err := g.standing(had)
	if err != nil {
		return err
	}
	if err := everywhere(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	g.state.NoNewPrivs = true
	if g.state.Bounded, err = bound(had); err != nil {
		return err
	}
	// Before the capabilities go: a path to a directory may need them.
	if g.state.Landlock, err = g.config.restrict(); err != nil {
		return err
	}
	left := sets{effective: standing, permitted: standing | g.config.Keep&had.permitted}
	if err := left.setEverywhere(); err != nil {
		return err
	}
	g.state.InForce, g.state.PutAside = left.effective, left.permitted&^left.effective
	return nil
}

// standing are the capabilities that stay in force: CAP_DAC_OVERRIDE, when root
// writes into a directory whose owner and mode would not let it. Landlock then
// still confines it to that directory.
func (g *Guard) standing(had sets) (Set, error) {
	override := SetOf(unix.CAP_DAC_OVERRIDE)
	if had.effective&override == 0 {
		return 0, nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bare := had
	bare.effective = 0
	if err := bare.setHere(); err != nil {
		return 0, err
	}
	var refused bool
	for _, dir := range g.config.Write {
		// With AT_EACCESS: access(2) itself would give root its capabilities back.
		err := unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		refused = refused || errors.Is(err, unix.EACCES)
	}
	if err := had.setHere(); err != nil {
		return 0, err
	}
	if refused {
		return override, nil
	}
	return 0, nil
}

// bound sees to it that nothing the process runs ever has capabilities: not by
// being root's, not by what is written on a file. It takes CAP_SETPCAP, which a
// service with a user of its own does not have, and then no_new_privs must do.
func bound(had sets) (bool, error) {
	if had.effective&SetOf(unix.CAP_SETPCAP) == 0 {
		return false, nil
	}
	// capabilities(7), "The securebits flags".
	const (
		noRoot         = 1 << 0
		noRootLocked   = 1 << 1
		noRaise        = 1 << 6
		noRaiseLocked  = 1 << 7
		nothingForRoot = noRoot | noRootLocked | noRaise | noRaiseLocked
	)
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return false, fmt.Errorf("reading the secure bits: %w", err)
	}
	if err := everywhere(unix.PR_SET_SECUREBITS, uintptr(bits)|nothingForRoot); err != nil {
		return false, fmt.Errorf("setting the secure bits: %w", err)
	}
	for c := uintptr(0); c < 64; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			break // EINVAL: the kernel has no more of them
		}
		if in == 0 {
			continue
		}
		if err := everywhere(unix.PR_CAPBSET_DROP, c); err != nil {
			return false, fmt.Errorf("dropping %s from the bounding set: %w", Set(1)<<c, err)
		}
	}
	return true, nil
}

// Raise calls do on the calling thread with the capabilities that were put
// aside, and puts them aside again. Threads and programs that are started
// meanwhile do not get them: the Go runtime starts threads of a locked one from
// another, and programs inherit none.
func (g *Guard) Raise(do func() error) (err error) {
	if g == nil {
		return do()
	}
	g.mu.Lock()
	down, state := g.down, g.state
	g.mu.Unlock()
	if !down {
		return do()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	low := sets{effective: state.InForce, permitted: state.InForce | state.PutAside}
	high := sets{effective: low.permitted, permitted: low.permitted}
	if err := high.setHere(); err != nil {
		return fmt.Errorf("raising %s: %w", state.PutAside, err)
	}
	defer func() {
		if lowering := low.setHere(); lowering != nil {
			runtime.LockOSThread() // the thread is spoilt: it ends with its goroutine
			err = errors.Join(err, fmt.Errorf("putting %s aside again: %w", state.PutAside, lowering))
		}
	}()
	return do()
}

// State is what Drop has come to; of a nil Guard nothing.
func (g *Guard) State() State {
	if g == nil {
		return State{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// everywhere is prctl(2) on every thread.
func everywhere(option int, argument uintptr) error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, uintptr(option), argument, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
