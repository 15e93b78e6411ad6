package policy

import "github.com/cilium/ebpf"

// LoadHarness is the program that holds nothing but bpf/policy.h.
func LoadHarness() (*ebpf.CollectionSpec, error) { return loadKernel() }

// HarnessProgram is the name of its one program.
const HarnessProgram = kernelProgHarness

// SipHash hashes whole words.
func SipHash(key [2]uint64, words ...uint64) uint64 {
	h := newSipHash(key)
	for _, w := range words {
		h.word(w)
	}
	return h.sum()
}
