package policy

import "github.com/cilium/ebpf"

// LoadHarness is the program that holds nothing but bpf/policy.h.
func LoadHarness() (*ebpf.CollectionSpec, error) { return loadKernel() }

// HarnessProgram is the name of its one program.
const HarnessProgram = kernelProgHarness
