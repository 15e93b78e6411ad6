package pcapng

// MinFiller is the size of the smallest filler block.
const MinFiller = minBlock

// FillerHead is the size of what PutFillerHead writes, and FillerTail of what
// PutFillerTail writes; between them a filler may hold anything.
const (
	FillerHead = 8
	FillerTail = 4
)

// PutFillerHead begins a filler block of size bytes at b. A filler holds space
// in a file and means nothing: its type is of the range for local use, which
// readers skip. Size is a multiple of 4, at least MinFiller, at most MaxBlock.
func PutFillerHead(b []byte, size int) {
	order.PutUint32(b, blockFiller)
	order.PutUint32(b[4:], uint32(size))
}

// PutFillerTail ends a filler block of size bytes: it stands in its last
// FillerTail bytes.
func PutFillerTail(b []byte, size int) {
	order.PutUint32(b, uint32(size))
}
