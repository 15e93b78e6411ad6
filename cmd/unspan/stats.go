package main

import "context"

type statsCommand struct {
	askFlags
	JSON bool `name:"json" help:"Print the ledger as JSON."`
}

// Run prints the ledger of a running collector.
func (s *statsCommand) Run(ctx context.Context, e env) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	return client.Stats(ctx, e.stdout, s.JSON)
}
