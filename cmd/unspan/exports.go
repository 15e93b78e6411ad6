package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/export/ipfix"
	"github.com/unspan/unspan/userspace/export/jsonl"
	"github.com/unspan/unspan/userspace/export/kafka"
	"github.com/unspan/unspan/userspace/export/parquet"
	"github.com/unspan/unspan/userspace/flow"
	"github.com/unspan/unspan/userspace/hosts"
)

// flowFlags say whether flows are rebuilt and where their records go; the same
// for run and decap.
type flowFlags struct {
	Flows        bool          `help:"Rebuild flows, to be looked at with top. What exports them implies it."`
	IPFIX        []ipfixTarget `name:"ipfix" placeholder:"URL" help:"Send flow records to these IPFIX collectors: udp://HOST[:4739] or tcp://HOST[:4739]."`
	FlowsJSON    string        `name:"flows-json" placeholder:"PATH" help:"Write flow records as JSON lines to a file, a directory, or - for standard output."`
	FlowsParquet string        `name:"flows-parquet" placeholder:"DIR" help:"Write flow records to Parquet files in a directory."`
	Kafka        *kafkaTarget  `placeholder:"BROKER[,BROKER]/TOPIC" help:"Produce flow records to a Kafka topic, as JSON."`
	FlowDomain   []flowDomain  `placeholder:"ID=PREFIX" help:"Take the feeds of these exporters for one capture domain: a conversation that several of them mirror is one flow. all: all feeds. Else each feed has flows of its own."`
	FlowIdle     time.Duration `default:"15s" placeholder:"TIME" help:"A flow ends after so long without a packet (${default})."`
	FlowActive   time.Duration `default:"60s" placeholder:"TIME" help:"A flow that goes on has a record made so often (${default})."`
	Names        string        `type:"existingfile" placeholder:"FILE" help:"Names of IP and MAC addresses, as in /etc/hosts, for flows and captures."`
	MaxFlows     int           `default:"131072" placeholder:"N" help:"Flows kept at once; each takes about 410 bytes (${default})."`
}

// rebuilt reports whether flows are asked for.
func (f *flowFlags) rebuilt() bool {
	return f.Flows || len(f.IPFIX) > 0 || f.FlowsJSON != "" || f.FlowsParquet != "" || f.Kafka != nil
}

// lookAt is how views ask for flows; nil when none are rebuilt.
func (f *flowFlags) lookAt(live *collector.Live) func(context.Context, flow.Query) (flow.Answer, error) {
	if !f.rebuilt() {
		return nil
	}
	return live.Flows
}

func (f *flowFlags) apply(c *collector.Config, w *writeFlags, e env) error {
	if f.Names != "" {
		names, err := hosts.Open(f.Names)
		if err != nil {
			return err
		}
		c.Names = names
	}
	if !f.rebuilt() {
		return nil
	}
	if f.FlowsJSON == "-" && w.Write == "-" {
		return errors.New("--write - and --flows-json - exclude each other: standard output is one stream, give one of them a file")
	}
	flows := collector.DefaultFlows()
	flows.Table.Flows, flows.Table.Idle, flows.Table.Active = f.MaxFlows, f.FlowIdle, f.FlowActive
	for _, d := range f.FlowDomain {
		flows.Domains = append(flows.Domains, collector.Domain(d))
	}
	flows.Sinks = func(labels *export.Labels) ([]export.Target, error) { return f.open(w, e, labels) }
	c.Flows = &flows
	return nil
}

// open makes the sinks. What can be known of them now is an error now; a
// collector or broker that is away is not.
func (f *flowFlags) open(w *writeFlags, e env, labels *export.Labels) (targets []export.Target, err error) {
	add := func(name string, sink export.Sink, failed error) {
		if failed == nil {
			targets = append(targets, export.Target{Name: name, Sink: sink})
		}
		err = errors.Join(err, failed)
	}
	for _, t := range f.IPFIX {
		c := ipfix.Default()
		c.Network, c.Address = t.network, t.address
		sink, failed := ipfix.New(c)
		add("ipfix "+t.address, sink, failed)
	}
	if f.FlowsJSON != "" {
		sink, failed := f.lines(w, e, labels)
		add("json", sink, failed)
	}
	if f.FlowsParquet != "" {
		c := parquet.Default()
		c.Labels, c.Files = labels, files(f.FlowsParquet, w)
		sink, failed := parquet.New(c)
		add("parquet", sink, errors.Join(failed, c.Files.Check()))
	}
	if f.Kafka != nil {
		c := kafka.Default()
		c.Brokers, c.Topic, c.Labels = f.Kafka.brokers, f.Kafka.topic, labels
		sink, failed := kafka.New(c)
		add("kafka", sink, failed)
	}
	if err != nil {
		for _, t := range targets {
			err = errors.Join(err, t.Sink.Close())
		}
		return nil, err
	}
	return targets, nil
}

// lines makes the sink of JSON lines.
func (f *flowFlags) lines(w *writeFlags, e env, labels *export.Labels) (*jsonl.Sink, error) {
	c := jsonl.Config{Labels: labels}
	switch dir := f.linesFolder(); {
	case f.FlowsJSON == "-":
		c.Out = e.stdout
	case dir != "":
		c.Files = files(dir, w)
		if err := c.Files.Check(); err != nil {
			return nil, err
		}
	default:
		c.Path = f.FlowsJSON
		file, err := os.OpenFile(c.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("opening flow file: %w: give a file that this user may write to", err)
		}
		if err := file.Close(); err != nil {
			return nil, fmt.Errorf("opening flow file: %w", err)
		}
	}
	return jsonl.New(c)
}

// linesFolder is the directory that JSON lines go to, "" when they go to a file.
func (f *flowFlags) linesFolder() string {
	if f.FlowsJSON == "" || f.FlowsJSON == "-" {
		return ""
	}
	if info, err := os.Stat(f.FlowsJSON); strings.HasSuffix(f.FlowsJSON, "/") || err == nil && info.IsDir() {
		return f.FlowsJSON
	}
	return ""
}

// files are rotated and kept as the captures are, when those go by the clock.
func files(dir string, w *writeFlags) export.Files {
	files := export.Files{Dir: dir, Interval: parquet.Default().Files.Interval}
	if w.RotateInterval >= time.Second {
		files.Interval, files.Keep = w.RotateInterval, w.Keep
	}
	return files
}

// folders are the directories in which files are begun while packets flow.
func (f *flowFlags) folders() (dirs []string) {
	switch dir := f.linesFolder(); {
	case f.FlowsJSON == "" || f.FlowsJSON == "-":
	case dir != "":
		dirs = append(dirs, dir)
	default:
		dirs = append(dirs, filepath.Dir(f.FlowsJSON))
	}
	if f.FlowsParquet != "" {
		dirs = append(dirs, f.FlowsParquet)
	}
	return dirs
}

// dials reports whether TCP connections are made to sinks.
func (f *flowFlags) dials() bool {
	return f.Kafka != nil || slices.ContainsFunc(f.IPFIX, func(t ipfixTarget) bool { return t.network == "tcp" })
}

// resolves reports whether sinks are known by names.
func (f *flowFlags) resolves() bool {
	named := func(address string) bool {
		_, err := netip.ParseAddrPort(address)
		return err != nil
	}
	return f.Kafka != nil || slices.ContainsFunc(f.IPFIX, func(t ipfixTarget) bool { return named(t.address) })
}

// ipfixTarget is where IPFIX goes to.
type ipfixTarget struct{ network, address string }

// ianaIPFIX is the port that IANA gave to IPFIX.
const ianaIPFIX = "4739"

// UnmarshalText reads udp://192.0.2.9, tcp://[2001:db8::9]:4740.
func (t *ipfixTarget) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("%q is no IPFIX collector: write udp://192.0.2.9:4739 or tcp://192.0.2.9:4739", text)
	}
	t.network = u.Scheme
	t.address, err = withPort(u.Host, ianaIPFIX)
	return err
}

// kafkaTarget is a topic of a cluster.
type kafkaTarget struct {
	brokers []string
	topic   string
}

// UnmarshalText reads 192.0.2.8:9092,192.0.2.9/flows.
func (t *kafkaTarget) UnmarshalText(text []byte) error {
	brokers, topic, ok := strings.Cut(string(text), "/")
	if !ok || brokers == "" || topic == "" || strings.Contains(topic, "/") {
		return fmt.Errorf("%q is no Kafka topic: write BROKER[:9092],BROKER.../TOPIC", text)
	}
	t.topic = topic
	t.brokers = nil
	for broker := range strings.SplitSeq(brokers, ",") {
		address, err := withPort(broker, "9092")
		if err != nil {
			return err
		}
		t.brokers = append(t.brokers, address)
	}
	return nil
}

// withPort is host:port with a port in any case.
func withPort(address, port string) (string, error) {
	host, given, err := net.SplitHostPort(address)
	if err != nil { // none given
		host, given = strings.Trim(address, "[]"), port
	}
	if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q is no address: write HOST or HOST:PORT, IPv6 as [2001:db8::9]:PORT", address)
	}
	return net.JoinHostPort(host, given), nil
}

// flowDomain is collector.Domain as people write it.
type flowDomain collector.Domain

// UnmarshalText reads 7=192.0.2.0/24, 7=192.0.2.1 and all.
func (d *flowDomain) UnmarshalText(text []byte) error {
	if string(text) == "all" {
		*d = flowDomain{ID: 1}
		return nil
	}
	id, exporters, _ := strings.Cut(string(text), "=")
	n, err := strconv.ParseUint(id, 10, 31)
	prefix, prefixErr := netip.ParsePrefix(exporters)
	if addr, addrErr := netip.ParseAddr(exporters); addrErr == nil && addr.Zone() == "" {
		prefix, prefixErr = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || n == 0 || prefixErr != nil {
		return fmt.Errorf("%q is no capture domain: write all, or a number above 0 and an exporter: 7=192.0.2.0/24", text)
	}
	*d = flowDomain{ID: uint32(n), Exporters: prefix.Masked()}
	return nil
}
