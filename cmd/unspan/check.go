package main

import (
	"encoding/json"
	"fmt"

	"github.com/unspan/unspan/userspace/check"
)

type checkCommand struct {
	Interface string `short:"i" placeholder:"IF" help:"Look at this interface as well."`
	JSON      bool   `name:"json" help:"Print the findings as JSON."`
}

// Run says no, by the exit code, when unspan run would not work here.
func (c *checkCommand) Run(e env) error {
	report := check.Run(c.Interface)
	var err error
	if c.JSON {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = report.WriteText(e.stdout)
	}
	if err != nil {
		return fmt.Errorf("printing the findings: %w", err)
	}
	if !report.Ready {
		return errFound
	}
	return nil
}
