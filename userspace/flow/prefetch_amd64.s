#include "textflag.h"

// func prefetch(bucket, entry unsafe.Pointer)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ bucket+0(FP), AX
	MOVQ entry+8(FP), BX
	PREFETCHT0 (AX)
	PREFETCHT0 (BX)
	RET
