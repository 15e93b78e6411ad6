package collector_test

import (
	"path/filepath"
	"testing"

	"github.com/unspan/unspan/bpf"
	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/frame"
	"github.com/unspan/unspan/userspace/policy"
)

// Every capture must give exactly the frames that are in it.
func TestOfflineCaptures(t *testing.T) {
	for _, c := range captures(t) {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.pcapng")
			config := collector.Default()
			config.Settings.AnyDestination = 1
			config.Policy.Loops = policy.LoopKeep // some carry mirrors inside of mirrors
			config.Frame.RestoreVLAN = frame.RestoreNever
			config.Write, config.Store.Path = true, out
			if err := bpf.Accept(&config.Settings, accepted); err != nil {
				t.Fatal(err)
			}
			o, err := collector.NewOffline(config, []string{c.path})
			if err != nil {
				t.Fatal(err)
			}
			err = o.Run(t.Context())
			if (err != nil) != c.malformed {
				t.Fatalf("reading gave %v, malformed is %v", err, c.malformed)
			}
			s := o.Snapshot()
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			got := packets(t, out)
			if s.Output.Written != uint64(len(got)) {
				t.Errorf("the ledger says %d were written, the file has %d", s.Output.Written, len(got))
			}
			compare(t, answers(got), c.want)
		})
	}
}
