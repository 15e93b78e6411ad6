package policy

//go:generate go tool bpf2go -output-suffix _test -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu" kernel harness.bpf.c

import (
	"encoding/binary"

	"github.com/cilium/ebpf"

	"github.com/unspan/unspan/bpf"
)

// LoadHarness is the program that holds nothing but bpf/policy.h.
func LoadHarness() (*ebpf.CollectionSpec, error) { return loadKernel() }

// HarnessProgram is the name of its one program.
const HarnessProgram = kernelProgHarness

// Known makes a filled harness predictable: its digests have this key, its
// collector these settings and addresses.
func Known(spec *ebpf.CollectionSpec, key *DigestKey, config *bpf.Config, collectors [][16]byte) error {
	var set repeats
	if err := spec.Variables[kernelVarDuplicates].Get(&set); err != nil {
		return err
	}
	set.Key = *key
	if err := spec.Variables[kernelVarDuplicates].Set(&set); err != nil {
		return err
	}
	list := kernelAddressList{Count: uint32(len(collectors))}
	for i, c := range collectors {
		list.Address[i].High = binary.NativeEndian.Uint64(c[:8])
		list.Address[i].Low = binary.NativeEndian.Uint64(c[8:])
	}
	spec.Maps[kernelMapCollectors].Contents = []ebpf.MapKV{{Key: uint32(0), Value: list}}
	return spec.Variables[kernelVarSettings].Set(config)
}

// Hash is the digest of words that no packet stands for.
func (k *DigestKey) Hash(words *[digestWords]uint64) uint64 { return k.hash(words) }

// SetDigestKey makes the engine's digests those of a kernel with the same key.
func (e *Engine) SetDigestKey(key *DigestKey) { e.sightings.key = key }
