package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/unspan/unspan/userspace/export"
)

func TestIPFIXTarget(t *testing.T) {
	for text, want := range map[string]ipfixTarget{
		"udp://192.0.2.9":            {"udp", "192.0.2.9:4739"},
		"tcp://192.0.2.9:9995":       {"tcp", "192.0.2.9:9995"},
		"tcp://[2001:db8::9]":        {"tcp", "[2001:db8::9]:4739"},
		"udp://collector.example:1/": {"udp", "collector.example:1"},
		"192.0.2.9:4739":             {},
		"http://192.0.2.9":           {},
		"udp://":                     {},
		"udp://192.0.2.9/path":       {},
		"udp://192.0.2.9:99999":      {},
		"udp://192.0.2.9?x=1":        {},
	} {
		var got ipfixTarget
		if err := got.UnmarshalText([]byte(text)); (err != nil) != (want == ipfixTarget{}) || err == nil && got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestKafkaTarget(t *testing.T) {
	for text, want := range map[string][]string{
		"192.0.2.9/flows":                   {"flows", "192.0.2.9:9092"},
		"a.example,[2001:db8::9]:9093/flow": {"flow", "a.example:9092", "[2001:db8::9]:9093"},
		"192.0.2.9":                         nil,
		"192.0.2.9/":                        nil,
		"/flows":                            nil,
		"a,/flows":                          nil,
		"a/b/c":                             nil,
	} {
		var got kafkaTarget
		err := got.UnmarshalText([]byte(text))
		if (err != nil) != (want == nil) || err == nil && !slices.Equal(append([]string{got.topic}, got.brokers...), want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestFlowDomain(t *testing.T) {
	for text, want := range map[string]flowDomain{
		"all":             {ID: 1},
		"7=192.0.2.0/24":  {ID: 7, Exporters: netip.MustParsePrefix("192.0.2.0/24")},
		"7=192.0.2.9/24":  {ID: 7, Exporters: netip.MustParsePrefix("192.0.2.0/24")},
		"8=2001:db8::9":   {ID: 8, Exporters: netip.MustParsePrefix("2001:db8::9/128")},
		"0=192.0.2.0/24":  {},
		"x=192.0.2.0/24":  {},
		"7":               {},
		"7=":              {},
		"2147483648=::/0": {},
	} {
		var got flowDomain
		if err := got.UnmarshalText([]byte(text)); (err != nil) != (want == flowDomain{}) || err == nil && got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// jsonRows reads JSON lines.
func jsonRows(t *testing.T, text string) (rows []export.Row) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	for decoder.More() {
		var r export.Row
		if err := decoder.Decode(&r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

// parquetRows reads all Parquet files of a directory.
func parquetRows(t *testing.T, dir string) (rows []export.Row) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		some, err := pq.ReadFile[export.Row](f)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		rows = append(rows, some...)
	}
	return rows
}

// Names are in the records of flows and in the capture, each file of it.
func TestNames(t *testing.T) {
	names := write(t, "names", "192.0.2.53 dns.example # from the test\n00:00:5e:00:53:fe gateway.example\n198.51.100.111 client.example\n")
	dir := t.TempDir()
	code, stdout, stderr := unspan(t, "", "decap", feedCapture, "--flows-json", "-", "--names", names, "-w", dir, "--rotate-size", "64K")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	named := 0
	for _, r := range jsonRows(t, stdout) {
		for _, end := range [][2]string{{r.ClientIP, r.ClientName}, {r.ServerIP, r.ServerName}} {
			want := map[string]string{"192.0.2.53": "dns.example", "198.51.100.111": "client.example"}[end[0]]
			if end[0] != "" && end[1] != want {
				t.Errorf("%s is called %q, want %q", end[0], end[1], want)
			}
			if want != "" {
				named++
			}
		}
	}
	if named == 0 {
		t.Error("no flow has a name")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pcapng"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	shown := 0
	for _, f := range files {
		// Not each file has packets of a host that has a name.
		_, got, _ := unspan(t, "", "flows", f)
		if strings.Contains(got, "client.example") || strings.Contains(got, "dns.example") {
			shown++
		}
		if strings.Contains(got, "192.0.2.53:") || strings.Contains(got, "198.51.100.111:") {
			t.Errorf("the names in %s are not shown: %s", f, got)
		}
		if got := output(t, "tshark", "-r", f, "-q", "-z", "hosts"); !strings.Contains(got, "192.0.2.53\tdns.example") {
			t.Errorf("tshark does not know the names of %s: %s", f, got)
		}
	}
	if shown == 0 {
		t.Error("no file's names are shown")
	}
	if code, _, stderr := unspan(t, "", "decap", feedCapture, "--names", write(t, "bad", "x y\n")); code != 1 || !strings.Contains(stderr, "bad:1: ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// The flows of a file go to standard output, to files and to Parquet, the same
// everywhere; the ledger makes way.
func TestDecapFlows(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := unspan(t, "", "decap", feedCapture, "--flows-json", "-", "--flows-parquet", dir, "--flow-domain", "all")
	if code != 0 || !strings.Contains(stderr, "Every line adds up.") || !strings.Contains(stderr, "taken by parquet") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	rows := jsonRows(t, stdout)
	var packets uint64
	for _, r := range rows {
		packets += r.ClientPackets + r.ServerPackets
		if r.Domain != 1 || r.ClientFeed == "" || r.End != "forced" && r.End != "closed" && r.End != "idle" {
			t.Errorf("row %+v", r)
		}
	}
	if packets != 311 {
		t.Errorf("%d packets in %d flows, the ledger has 311", packets, len(rows))
	}
	if got := parquetRows(t, dir); !slices.Equal(got, rows) {
		t.Errorf("%d rows in Parquet, %d in JSON lines, or not the same", len(got), len(rows))
	}

	jsons := t.TempDir()
	file := filepath.Join(jsons, "flows.jsonl")
	for _, path := range []string{jsons, file, file} { // a file is appended to
		if code, _, stderr := unspan(t, "", "decap", feedCapture, "--flows-json", path, "--flow-domain", "all"); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	found, err := filepath.Glob(filepath.Join(jsons, "flows-*.jsonl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files %v, %v", found, err)
	}
	for path, want := range map[string]int{found[0]: len(rows), file: 2 * len(rows)} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := jsonRows(t, string(text)); len(got) != want {
			t.Errorf("%s: %d rows, want %d", path, len(got), want)
		}
	}
}
