package main

import (
	"context"

	"github.com/unspan/unspan/userspace/control"
)

// askFlags say which running collector is asked.
type askFlags struct {
	Interface string `short:"i" placeholder:"IF" help:"Interface of the collector; not needed when one is running."`
	Control   string `placeholder:"PATH" help:"Socket of the collector, when it was given another than ${control}."`
}

func (a *askFlags) client() (*control.Client, error) {
	switch {
	case a.Control != "":
		return control.NewClient(a.Control), nil
	case a.Interface != "":
		return control.NewClient(control.Path(a.Interface)), nil
	}
	path, err := control.Find(control.Directory)
	if err != nil {
		return nil, err
	}
	return control.NewClient(path), nil
}

// controlPath is where the collector of an interface listens: the default names
// no interface yet.
func controlPath(flag, interfaceName string) string {
	if flag == control.Path(placeholder) {
		return control.Path(interfaceName)
	}
	return flag
}

// placeholder stands for the interface in the default of --control.
const placeholder = "IF"

type sessionsCommand struct {
	askFlags
	JSON bool `name:"json" help:"Print them as JSON."`
}

// Run prints the feeds of a running collector.
func (s *sessionsCommand) Run(ctx context.Context, e env) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	return client.Sessions(ctx, e.stdout, s.JSON)
}
