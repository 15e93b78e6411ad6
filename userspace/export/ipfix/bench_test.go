package ipfix_test

import (
	"context"
	"testing"

	"github.com/unspan/unspan/userspace/flow"
)

// BenchmarkWrite is the cost of a record on its way into a datagram of the
// loopback, which nobody reads.
func BenchmarkWrite(b *testing.B) {
	conn := listenUDP(b)
	s := newSink(b, "udp", conn.LocalAddr().String(), nil)
	records := make([]flow.Flow, 256) // fewer messages than a burst
	for i := range records {
		records[i] = tcp4()
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(records) {
		if _, err := s.Write(context.Background(), records); err != nil {
			b.Fatal(err)
		}
	}
}
