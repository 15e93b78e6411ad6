package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/unspan/unspan/userspace/collector"
	"github.com/unspan/unspan/userspace/ledger"
	"github.com/unspan/unspan/userspace/policy"
)

// applyPolicy puts a policy file's content into force in a running collector,
// together with what the command line says of exporters.
func (r *runCommand) applyPolicy(live *collector.Live, log *slog.Logger) func(context.Context, string, []byte) error {
	return func(ctx context.Context, name string, content []byte) error {
		p, err := policy.Read(ctx, name, content)
		if err != nil {
			return err
		}
		if err := r.admission(p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := live.Apply(p); err != nil {
			return err
		}
		log.Info("policy applied", "file", name, "rules", len(p.Rules))
		return nil
	}
}

// showPolicy prints the policy in force and what its rules have met.
func showPolicy(live *collector.Live, w io.Writer, asJSON bool) error {
	var compiled *policy.Compiled
	var snapshot ledger.Snapshot
	for { // until both are of one policy
		compiled = live.Policy()
		if compiled == nil {
			return errors.New("the collector is still setting up: try again")
		}
		var err error
		if snapshot, err = live.Snapshot(); err != nil {
			return err
		}
		if live.Policy() == compiled {
			break
		}
	}
	explained := compiled.Explain()
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Policy   *policy.Explanation `json:"policy"`
			Met      []ledger.Rule       `json:"met,omitempty"`
			Overlaps []ledger.Overlap    `json:"overlaps,omitempty"`
		}{explained, snapshot.Rules, snapshot.Overlaps})
	}
	if err := explained.WriteText(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return snapshot.WriteRules(w)
}
