package check_test

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/check"
	"github.com/unspan/unspan/userspace/lab"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "loading BPF and making network namespaces need root: run sudo go test"
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// find returns the findings by name.
func find(r check.Report) map[string]check.Finding {
	byName := map[string]check.Finding{}
	for _, f := range r.Findings {
		byName[f.Name] = f
	}
	return byName
}

func mustOpen(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	l, err := lab.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// inside runs the check where the collector is.
func inside(t *testing.T, l *lab.Lab, name string) (r check.Report) {
	t.Helper()
	err := l.Collector.Do(func() error {
		r = check.Run(name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVethIsReady(t *testing.T) {
	needRoot(t)
	l := mustOpen(t, lab.Config{Queues: 2, MTU: 1600})
	r := inside(t, l, l.Collector.Link)
	if !r.Ready {
		t.Error("not ready")
	}
	native := "yes (known of drivers"
	if _, err := netlink.GenlFamilyGet("netdev"); err == nil {
		native = "yes (the driver says)" // Linux 6.3
	}
	got := find(r)
	for name, found := range map[string]string{
		"native XDP":     native,
		"XDP program":    "the verifier accepts it",
		"AF_XDP":         "a socket opens",
		"link":           "up, driver veth",
		"addresses":      "2: ",
		"other XDP":      "no program is attached",
		"zero-copy":      "no: ",
		"MTU":            "1600: a mirrored frame of full size fits",
		"receive queues": "2: ",
	} {
		if f := got[name]; f.Status != check.OK || !strings.HasPrefix(f.Found, found) {
			t.Errorf("%s is %q (%s), want %q", name, f.Found, f.Status, found)
		}
	}
}

func TestInterfaceIsNotReady(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name    string
		config  lab.Config
		alter   func() error // in the collector's namespace
		on      string
		finding string
		found   string
	}{
		{name: "no such interface", on: "eth77", finding: "interface", found: "there is none of that name here"},
		{name: "another program", config: lab.Config{CollectorPass: true}, finding: "other XDP", found: "is attached"},
		{name: "down", finding: "link", found: "down", alter: func() error {
			ifi, err := netlink.LinkByName("collector0")
			if err != nil {
				return err
			}
			return netlink.LinkSetDown(ifi)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := mustOpen(t, tt.config)
			if tt.alter != nil {
				if err := l.Collector.Do(tt.alter); err != nil {
					t.Fatal(err)
				}
			}
			if tt.on == "" {
				tt.on = l.Collector.Link
			}
			r := inside(t, l, tt.on)
			f := find(r)[tt.finding]
			if r.Ready || f.Status != check.Missing || !strings.Contains(f.Found, tt.found) || f.Cure == "" {
				t.Errorf("ready: %t, %s is %+v, want %q missing", r.Ready, tt.finding, f, tt.found)
			}
		})
	}
}

// state of an interface that a check could disturb.
func state(t *testing.T, l *lab.Lab) (features map[string]ethtool.FeatureState, link netlink.LinkAttrs) {
	t.Helper()
	err := l.Collector.Do(func() error {
		ifi, err := netlink.LinkByName(l.Collector.Link)
		if err != nil {
			return err
		}
		link = *ifi.Attrs()
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		features, err = e.FeaturesWithState(l.Collector.Link)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return features, link
}

func TestNothingIsChanged(t *testing.T) {
	needRoot(t)
	l := mustOpen(t, lab.Config{})
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	inside(t, l, l.Collector.Link) // libraries open what they keep
	before, link := state(t, l)
	fds := descriptors()
	inside(t, l, l.Collector.Link)
	if now := descriptors(); now != fds {
		t.Errorf("%d descriptors are open, were %d", now, fds)
	}
	after, now := state(t, l)
	for name, feature := range before {
		if after[name] != feature {
			t.Errorf("offload %s is %+v, was %+v", name, after[name], feature)
		}
	}
	if now.RawFlags != link.RawFlags || now.MTU != link.MTU || now.Promisc != link.Promisc || now.Xdp.Attached != link.Xdp.Attached {
		t.Errorf("the interface is %+v, was %+v", now, link)
	}
}

// A thread without capabilities is what an ordinary user has.
func TestWithoutPrivilege(t *testing.T) {
	reports := make(chan check.Report)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Error(err)
		}
		reports <- check.Run("")
	}()
	r := <-reports
	got := find(r)
	for _, name := range []string{"XDP program", "AF_XDP"} {
		if f := got[name]; f.Status != check.Missing || f.Found != "could not be tried without privilege" || !strings.Contains(f.Cure, "setcap cap_bpf") {
			t.Errorf("%s is %+v, want it missing for want of privilege", name, f)
		}
	}
	if r.Ready {
		t.Error("ready without privilege")
	}
}

func TestText(t *testing.T) {
	r := check.Report{
		Interface: "eth1",
		Findings: []check.Finding{
			{Area: "kernel", Name: "version", Status: check.OK, Found: "Linux 6.12.9"},
			{Area: "kernel", Name: "BPF JIT", Status: check.Warning, Found: "off", Cure: "sysctl -w net.core.bpf_jit_enable=1"},
			{Area: "interface", Name: "link", Status: check.Missing, Found: "down", Cure: "ip link set dev eth1 up"},
		},
	}
	const want = `kernel
  ok    version  Linux 6.12.9
  warn  BPF JIT  off
                 → sysctl -w net.core.bpf_jit_enable=1

interface eth1
  fail  link     down
                 → ip link set dev eth1 up

Not ready: 1 needed missing, 1 could be better.
`
	var got strings.Builder
	if err := r.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestJSON(t *testing.T) {
	got, err := json.Marshal(check.Report{Interface: "eth1", Findings: []check.Finding{
		{Area: "interface", Name: "link", Status: check.Missing, Found: "down", Cure: "ip link set dev eth1 up"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"interface":"eth1","ready":false,"findings":[{"area":"interface","name":"link","status":"fail","found":"down","cure":"ip link set dev eth1 up"}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
