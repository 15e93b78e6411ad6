package loader

import (
	"github.com/cilium/ebpf"

	"github.com/unspan/unspan/userspace/policy"
)

// Bound is the program that asks the driver of a device, before it is loaded.
func Bound(config Config, device int) (*ebpf.CollectionSpec, error) {
	compiled, err := policy.Compile(policy.Default())
	if err != nil {
		return nil, err
	}
	return config.spec(variant{device: device}, compiled)
}
