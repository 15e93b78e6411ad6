package bpf

// The sending side, mirror.bpf.c, is a program of its own. Its types carry the
// generator's prefix Mirror; only userspace/mirror uses them.

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu" -type packet Mirror mirror.bpf.c
