package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the receiver: the harness starts itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && (os.Args[1] == "-receive" || os.Args[1] == "-decap") {
		main()
		return
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const reason = "network namespaces and XDP need root: run with sudo"
	if os.Getenv("UNSPAN_CI") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// tiny is a run that shows that everything works, and says nothing of speed.
func tiny() plan {
	return plan{
		loads: []load{load64}, rounds: 1, warm: 50 * time.Millisecond, window: 400 * time.Millisecond, repeat: 1000,
		lossless: nil, searches: 1, precision: 0.3, trial: 50 * time.Millisecond, confirm: 60 * time.Millisecond,
		offlinePackets: 1000, offlineRounds: 1, diskBytes: 8 << 20, diskRounds: 1, growthRounds: 1,
	}
}

func testBench(t *testing.T) *bench {
	needRoot(t)
	b := &bench{plan: tiny(), report: newReport("test"), diskDirectory: t.TempDir()}
	var err error
	if b.rig, err = openRig(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.rig.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Every receiver must deliver every packet of a feed that is slow enough.
func TestReceivers(t *testing.T) {
	b := testBench(t)
	reading := task{Receiver: readingLoop, Frames: 1024}
	bare := task{Receiver: bareLoop, Frames: 1024}
	for _, r := range append([]task{bare, reading, b.pipeline()}, b.peers()...) {
		t.Run(r.Receiver, func(t *testing.T) {
			out, err := b.rig.measure(t.Context(), r, offer{Load: load64, Rate: 2000, Window: 400 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if out.Sent.Frames == 0 || out.Whole.Frames != out.Sent.Frames || out.loss() != 0 {
				t.Errorf("%d delivered of %d sent, loss %v", out.Whole.Frames, out.Sent.Frames, out.loss())
			}
			if r.Directory != "" && tools[r.Receiver].program == "" && out.Whole.Written != 64*out.Sent.Frames {
				t.Errorf("%d bytes written of %d packets", out.Whole.Written, out.Sent.Frames)
			}
			if out.Memory == 0 {
				t.Error("a receiver without memory")
			}
		})
	}
	if left, err := os.ReadDir(b.rig.directory); err != nil || len(left) > 0 {
		t.Errorf("captures are left behind: %v, %v", left, err)
	}
}

// With every lever the whole way must deliver every packet of such a feed.
func TestLevers(t *testing.T) {
	b := testBench(t)
	for _, l := range levers {
		t.Run(l.name, func(t *testing.T) {
			work := b.pipeline()
			work.Lever = l.name
			out, err := b.rig.measure(t.Context(), work, offer{Load: load64, Rate: 2000, Window: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if out.Sent.Frames == 0 || out.Whole.Frames != out.Sent.Frames || out.loss() != 0 {
				t.Errorf("%d delivered of %d sent, loss %v", out.Whole.Frames, out.Sent.Frames, out.loss())
			}
		})
	}
}

// The XDP program's cost is of the verdict that was meant: programCost says so
// itself, this sees that it runs for every encapsulation.
func TestParts(t *testing.T) {
	b := testBench(t)
	var out bytes.Buffer
	for _, p := range parts {
		switch p.name {
		case "worker", "growth", "lossless", "levers": // another test's, or long
			continue
		}
		if err := p.measure(b, context.Background()); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	for _, one := range b.report.Tables {
		if err := one.text(&out); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"pipeline_over_ceiling_64", "pipeline_over_bare_64", "kernel_drop_over_floor", "decap_offline_mpps",
		"xdp_ns_erspan1", "xdp_ns_erspan2", "xdp_ns_erspan3", "xdp_ns_gre", "xdp_ns_drop", "xdp_ns_floor",
	} {
		if _, ok := b.report.Figures[name]; !ok {
			t.Errorf("no figure %s", name)
		}
	}
	if !strings.Contains(out.String(), pipeline) {
		t.Errorf("the tables do not name the whole way:\n%s", &out)
	}
}

// A receiver that cannot begin says why.
func TestReceiverFails(t *testing.T) {
	b := testBench(t)
	_, err := b.rig.measure(t.Context(), task{Receiver: "carrier pigeon"}, offer{Load: load64, Rate: 1000, Window: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "there is none of this name") {
		t.Errorf("%v, want the receiver's own words", err)
	}
}
