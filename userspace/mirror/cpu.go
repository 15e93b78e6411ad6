package mirror

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU runs f bound to a CPU, or anywhere if cpu is negative.
func onCPU(cpu int, f func() error) error {
	if cpu < 0 {
		return f()
	}
	ended := make(chan error)
	go func() {
		// Never unlocked: the bound thread ends with the goroutine.
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			ended <- fmt.Errorf("running on CPU %d: %w", cpu, err)
			return
		}
		ended <- f()
	}()
	return <-ended
}
