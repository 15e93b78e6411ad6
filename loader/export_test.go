package loader

import "github.com/cilium/ebpf"

// Bound is the program that asks the driver of a device, before it is loaded.
func Bound(config Config, device int) (*ebpf.CollectionSpec, error) {
	return config.spec(variant{device: device})
}
