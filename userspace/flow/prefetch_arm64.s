#include "textflag.h"

// func prefetch(bucket, entry unsafe.Pointer)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVD bucket+0(FP), R0
	MOVD entry+8(FP), R1
	PRFM (R0), PLDL1KEEP
	PRFM (R1), PLDL1KEEP
	RET
