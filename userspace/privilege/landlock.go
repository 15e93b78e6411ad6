package privilege

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// newest is the newest version of Landlock whose meaning for this program is
// known; what a later one could forbid is not forbidden.
const newest = 8

// What a collector may do in a directory, and no more: it makes no directories,
// links, sockets or devices, and runs nothing.
const (
	read    landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	remove  landlock.AccessFSSet = ll.AccessFSRemoveFile
	write   landlock.AccessFSSet = read | remove | ll.AccessFSMakeReg | ll.AccessFSWriteFile | ll.AccessFSTruncate
	execute landlock.AccessFSSet = read | ll.AccessFSExecute
	null    landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSWriteFile

	// ofFiles are the rights that a file can have that is no directory.
	ofFiles landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSExecute
)

// Of the system: what the Go runtime, the process's own metrics and the loading
// of a BPF program read, and what a program needs to run at all and to resolve a
// name in a filter.
var (
	always = []string{
		"/proc/self", "/proc/stat", "/proc/sys", "/sys/devices/system/cpu", "/sys/kernel/btf",
		"/etc/localtime", "/usr/share/zoneinfo",
	}
	programs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64"}
	lookup   = []string{
		"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf",
		"/etc/host.conf", "/etc/gai.conf", "/etc/protocols", "/etc/services", "/etc/networks", "/etc/ethers",
		"/dev/urandom",
	}
)

// restrict puts the process under Landlock and says which version of it was to
// be had.
func (c *Config) restrict() (version int, err error) {
	version, err = ll.LandlockGetABIVersion()
	if err != nil {
		return 0, nil // built without, or switched off at boot
	}
	var rules []landlock.Rule
	for _, of := range []struct {
		paths  []string
		rights landlock.AccessFSSet
		needed bool
	}{
		{c.Write, write, true},
		{c.Remove, remove, true},
		{c.Read, read, true},
		{always, read, false},
		{[]string{"/dev/null"}, null, false}, // os/exec gives it to programs
	} {
		more, err := allow(of.rights, of.needed, of.paths)
		if err != nil {
			return 0, err
		}
		rules = append(rules, more...)
	}
	// Of those that the system does not have there is nothing to allow.
	if c.Programs {
		run, _ := allow(execute, false, programs)
		rules = append(rules, run...)
	}
	if c.Programs || c.Resolve {
		resolve, _ := allow(read, false, lookup)
		rules = append(rules, resolve...)
	}
	restriction := level(version)
	if c.Connect {
		restriction.HandledAccessNet &^= ll.AccessNetConnectTCP
	}
	if err := restriction.BestEffort().Restrict(rules...); err != nil {
		return 0, fmt.Errorf("restricting files: %w", err)
	}
	return min(version, newest), nil
}

// level is what to ask for. Before version 8 each thread gets a domain of its own,
// and a kernel without the fix that its documentation lists as erratum 2 then
// forbids signals from one thread of this process to another, by which the Go
// runtime interrupts them. There signals are left alone.
func level(version int) landlock.Config {
	const betweenThreads = 1 << (2 - 1)
	if errata, err := ll.LandlockGetErrata(); version < 8 && (err != nil || errata&betweenThreads == 0) {
		return landlock.V5
	}
	return landlock.V8
}

// allow gives rights to paths, to a file those that a file can have.
func allow(rights landlock.AccessFSSet, needed bool, paths []string) (rules []landlock.Rule, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil && needed:
			return nil, fmt.Errorf("restricting files: %w", err)
		case err != nil:
		case info.IsDir():
			rules = append(rules, landlock.PathAccess(rights, path).IgnoreIfMissing())
		default:
			rules = append(rules, landlock.PathAccess(rights&ofFiles, path).IgnoreIfMissing())
		}
	}
	return rules, nil
}
