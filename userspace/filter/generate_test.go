package filter_test

//go:generate go tool bpf2go -go-package filter_test -output-suffix _test -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu" harness harness.bpf.c
