package mirror

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/unspan/unspan/userspace/lab"
)

// holding keeps a program in the kernel's XDP dispatcher by attaching it to the
// loopback device of a namespace where nothing happens.
//
// Without it, each live-frame call puts the program into the dispatcher and
// takes it out again, and each change of the dispatcher waits for an RCU grace
// period (bpf_dispatcher_change_prog in kernel/bpf/dispatcher.c): some 20 ms, in
// which nothing is sent.
type holding struct {
	namespace *lab.Namespace
	link      link.Link
}

func hold(program *ebpf.Program) (*holding, error) {
	namespace, err := lab.NewNamespace("live sender's")
	if err != nil {
		return nil, err
	}
	h := &holding{namespace: namespace}
	const loopback = 1 // LOOPBACK_IFINDEX
	if err := namespace.Do(func() (err error) {
		h.link, err = link.AttachXDP(link.XDPOptions{
			Program:   program,
			Interface: loopback,
			Flags:     link.XDPGenericMode,
		})
		return err
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("holding the live sender's program: %w", err), namespace.Close())
	}
	return h, nil
}

func (h *holding) close() error {
	return errors.Join(h.link.Close(), h.namespace.Close())
}
