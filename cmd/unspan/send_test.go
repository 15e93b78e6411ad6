package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// What unspan send says it sent, and why it did not.
func TestSend(t *testing.T) {
	l := openLab(t)
	for _, test := range []struct {
		name string
		down bool
		args []string
		code int
		want string
	}{
		{"numbered", false, []string{"--encap", "erspan3", "--lose-every", "10"}, 0, "sent 100 packets in 104 frames"},
		{"what must be found", false, []string{"--encap", "erspan2", "--lose-every", "10"}, 0, "a receiver must find: 111 sequence numbers, 11 lost, 0 duplicated, 0 reordered"},
		{"not numbered", false, []string{"--encap", "erspan1", "--lose-every", "10"}, 0, "a receiver cannot see that 11 were lost, 0 duplicated, 0 reordered: there are no sequence numbers"},
		{"GRE, numbered", false, []string{"--encap", "gre", "--sequence", "7", "--lose-every", "10"}, 0, "a receiver must find: 111 sequence numbers, 11 lost"},
		{"a flag for another encapsulation", false, []string{"--encap", "gre", "--platform", "3"}, 1, "--platform: gre has no place for it"},
		{"a key without GRE", false, []string{"--encap", "rspan", "--key", "7"}, 1, "--key: rspan has no place for it"},
		{"a VNI", false, []string{"--encap", "vxlan", "--key", "7"}, 0, "there are no sequence numbers"},
		{"session id", false, []string{"--session", "1024"}, 1, "session of erspan2: session id 1024: must be at most 1023"},
		{"down", true, nil, 1, "interface mirror0 is down: ip link set dev mirror0 up"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"send", "-i", l.Mirror.Link, "--pcap", innerCapture, "--destination", l.Collector.IPv4.String(),
				"--destination-mac", l.Collector.MAC.String(), "--method", "socket", "--rate", "10kpps", "--loop", "--count", "100"}, test.args...)
			cmd := exec.Command(program(t), args...)
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := l.Mirror.Do(func() error {
				if test.down {
					device, err := netlink.LinkByName(l.Mirror.Link)
					if err != nil {
						return err
					}
					if err := netlink.LinkSetDown(device); err != nil {
						return err
					}
				}
				return cmd.Start()
			}); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its code is below
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(said.String(), test.want) {
				t.Errorf("exit code %d, %q, want %d and %q", code, said.String(), test.code, test.want)
			}
		})
	}
}
