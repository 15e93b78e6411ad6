package bpf

import "unsafe"

// RecordSize is the length of a Record in bytes, in memory and in front of a frame.
const RecordSize = int(unsafe.Sizeof(Record{}))

// Split takes apart what an AF_XDP socket received: the record and the Length
// bytes that belong to its frame. Both alias buf and live as long as it does.
// It returns false when buf is not what the XDP program writes.
func Split(buf []byte) (rec *Record, frame []byte, ok bool) {
	if len(buf) < RecordSize {
		return nil, nil, false
	}
	// The kernel half stored the struct with this layout, in this byte order
	// (contract.h; the object is built for little-endian only). In copy mode it
	// is aligned; in zero-copy mode it need not be, which amd64 and arm64 allow.
	rec = (*Record)(unsafe.Pointer(unsafe.SliceData(buf)))
	if rec.Version != RecordVersion || uint64(rec.Length) > uint64(len(buf)-RecordSize) {
		return nil, nil, false
	}
	return rec, buf[RecordSize : RecordSize+int(rec.Length)], true
}

// Append writes rec as the XDP program does, for the frame that is to follow.
func (r *DecapRecord) Append(buf []byte) []byte {
	return append(buf, unsafe.Slice((*byte)(unsafe.Pointer(r)), RecordSize)...)
}
