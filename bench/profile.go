package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profile begins a CPU profile; the function that it returns ends it.
func profile(path string) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profiling: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close() // a profile that could not be written shows when it is read
	}, nil
}
