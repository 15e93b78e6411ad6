package metrics_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

const monitoring = "../../scripts/monitoring"

// Alerts and dashboard ask for metrics that there are: those of docs/metrics.md,
// which another test holds to the code.
func TestMonitoringNamesMetrics(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(monitoring, file))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\bunspan_[a-z_]+`).FindAll(text, -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !bytes.Contains(doc, []byte("| `"+string(name)+"` |")) {
				t.Errorf("%s asks for %s, which is not in docs/metrics.md", file, name)
			}
		}
	}
}

func TestDashboardIsJSON(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Title == "" || len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %+v shows nothing", p)
		}
	}
	if len(dashboard.Panels) == 0 {
		t.Error("no panel")
	}
}

func TestAlerts(t *testing.T) {
	path, err := exec.LookPath("promtool")
	if err != nil {
		const reason = "no promtool here: scripts/setup installs it"
		if os.Getenv("UNSPAN_CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		promtool := exec.Command(path, args...)
		promtool.Dir = monitoring
		if out, err := promtool.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v: %s", args, err, out)
		}
	}
}
