package main

import (
	"strings"
	"testing"
)

// What the programs say at their end, as they say it.
func TestToolCounts(t *testing.T) {
	tests := []struct {
		name, tool, said string
		want             uint64
		wantErr          string
	}{
		{"tcpdump", tcpdumpPeer, "tcpdump: listening on v0, link-type EN10MB\n812 packets captured\n815 packets received by filter\n3 packets dropped by kernel\n", 812, ""},
		{"dumpcap", dumpcapPeer, "File: x\nPackets captured: 7\nPackets received/dropped on interface 'v0': 7/2 (pcap:2/dumpcap:0/flushed:0/ps_ifdrop:0) (77.8%)\n", 7, ""},
		{"suricata, whose count has the lost ones in it", suricataPeer, "i: device: v0: packets: 900, drops: 100 (11.11%), invalid chksum: 0\n", 800, ""},
		{"suricata that lost more than came", suricataPeer, "i: device: v0: packets: 1, drops: 2 (200.00%), invalid chksum: 0\n", 0, "2 packets lost of 1"},
		{"silence", suricataPeer, "i: suricata: Signal Received.  Stopping engine.\n", 0, "did not say how many"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			var got tool
			err := got.listen(strings.NewReader(c.said), "listening on", tools[c.tool].count, make(chan struct{}))
			switch {
			case c.wantErr == "" && err != nil:
				t.Fatal(err)
			case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
				t.Fatalf("error %v, want one with %q", err, c.wantErr)
			}
			if n := got.frames.Load(); n != c.want {
				t.Errorf("%d packets, want %d", n, c.want)
			}
		})
	}
}
