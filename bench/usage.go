package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what receiving has cost so far.
type usage struct {
	cpu     time.Duration // of the receiving process, user and system
	softirq time.Duration // of the sender's CPU: NAPI runs there, the generator does not count
	memory  int64         // bytes, the most that were resident
}

// tick is the unit of times in /proc; USER_HZ is 100 on all that Go runs on.
const tick = 10 * time.Millisecond

func (p *process) usage() (u usage, err error) {
	if err := u.add(p.command.Process.Pid); err != nil {
		return u, err
	}
	u.softirq, err = softirq(senderCPU)
	return u, err
}

// add counts a process and the programs that it runs.
func (u *usage) add(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The name, field 2, is in parentheses and may hold anything (proc(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, i := range []int{14 - 3, 15 - 3} { // utime, stime
		t, err := ticks(fields, i)
		if err != nil {
			return err
		}
		u.cpu += t
	}
	if kilobytes, _, ok := strings.Cut(field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), " "); ok {
		n, err := strconv.ParseInt(kilobytes, 10, 64)
		if err != nil {
			return err
		}
		u.memory += n << 10
	}
	// A child is listed with the thread that made it.
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				return err
			}
			if err := u.add(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// softirq is the time that a CPU has spent in softirq.
func softirq(cpu int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	name := "cpu" + strconv.Itoa(cpu)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == name {
			return ticks(fields, 7) // user nice system idle iowait irq softirq
		}
	}
	return 0, fmt.Errorf("/proc/stat has no line for %s", name)
}

func ticks(fields []string, i int) (time.Duration, error) {
	if i >= len(fields) {
		return 0, fmt.Errorf("reading times from /proc: %d fields, %d are needed", len(fields), i+1)
	}
	n, err := strconv.ParseInt(fields[i], 10, 64)
	return time.Duration(n) * tick, err
}
