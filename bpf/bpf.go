// Package bpf is the kernel half and the contract between the halves.
//
// A packet becomes a record and a frame:
//
//	wire       [ Ethernet | IP | GRE | ERSPAN | inner frame ]
//	classify   whose packet, which tunnel            not ours: XDP_PASS, untouched
//	admit      exporter, feed                        not wanted: XDP_DROP, counted
//	meet       the policy                            the same
//	strip                        [ record | inner frame ]
//	finish     one verdict, counted                  XDP_REDIRECT to an AF_XDP socket
//
// The types are generated from contract.h; what C and Go must agree on is said
// there, once.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" -type record -type feed_key -type feed_state -type sequence -type tally -type limit -type encap -type verdict -type record_flag -type sequence_flag -type policy_limit -type dimension -type side -type rule_direction -type loop_action -type duplicate_limit -type ignored Decap decap.bpf.c

// The contract's types under the names Go uses.
type (
	// Record stands in front of every frame that reaches an AF_XDP socket.
	Record = DecapRecord
	// Config holds the settings fixed at load.
	Config = DecapConfig
	// FeedKey is the identity of a mirror stream.
	FeedKey = DecapFeedKey
	// FeedState is what the kernel knows of a feed.
	FeedState = DecapFeedState
	// Sequence is the sequence tracker of a feed.
	Sequence = DecapSequence
	// Tally is one box of the XDP line of the ledger.
	Tally = DecapTally
	// Encap says how a mirror session wraps what it copies.
	Encap = DecapEncap
	// Verdict is the one outcome of a frame.
	Verdict = DecapVerdict
)
