package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const suricataPeer = "Suricata, decode and pcap-log (decapsulates, writes outer packets)"

// suricataCounts is in what it says at the end: what its ring has delivered, and
// what of that the ring has lost (AFPDumpCounters in its source-af-packet.c).
var suricataCounts = regexp.MustCompile(`packets: (\d+), drops: (\d+)`)

// suricataConfig makes it decode packets and log them, and nothing else: no
// rules, no streams, no application layers. One thread takes packets from a ring
// as large as the other peers', decodes and writes.
const suricataConfig = `%%YAML 1.1
---
default-log-dir: %[2]s
stats:
  enabled: no
logging:
  default-log-level: notice
  outputs:
    - console:
        enabled: yes
af-packet:
  - interface: %[1]s
    threads: 1
    cluster-id: 99
    cluster-type: cluster_flow
    defrag: no
    use-mmap: yes
    tpacket-v3: yes
    block-size: %[3]d
    ring-size: %[4]d
    bpf-filter: "ip proto 47"
    checksum-checks: no
outputs:
  - pcap-log:
      enabled: yes
      filename: tool.pcap
      limit: 4gb
      mode: normal
      use-stream-depth: no
      honor-pass-rules: no
app-layer:
  protocols: {}
stream:
  inline: no
  checksum-validation: no
  memcap: 64mb
  reassembly:
    memcap: 64mb
    depth: 1
vars: {}
max-pending-packets: 1024
unix-command:
  enabled: no
`

// suricataArgs writes the configuration beside the captures and names it.
func suricataArgs(link, file string) ([]string, error) {
	directory := filepath.Dir(file)
	config := filepath.Join(directory, "suricata.pcap.yaml") // taken away as captures are
	// A packet takes at least two kilobytes of the ring, as it reckons: the number
	// of packets sets how many blocks there are.
	text := fmt.Sprintf(suricataConfig, link, directory, ringBlock, ringBlock*ringBlocks/2048)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return []string{"-c", config, "-S", "/dev/null", "--runmode", "workers", "-k", "none",
		"--af-packet=" + link, "-l", directory, "--pidfile", filepath.Join(directory, "suricata.pcap.pid")}, nil
}
