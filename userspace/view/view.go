// Package view shows what flow tables answer: to people as a table, to scripts
// and the web page as JSON. It reads questions, too.
package view

import (
	"fmt"
	"strings"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// Answer is a flow.Answer as JSON.
type Answer struct {
	Rows []Row `json:"rows"`
	Rest Sums  `json:"rest"` // what matched and is not among the rows
}

// Row has the names that exported records have. In the row of a group only what
// makes the group identifies anything: of an address client_ip, of a service
// what the server has, of an edge both.
type Row struct {
	export.Row
	Flows uint64 `json:"flows"`
	Rate  uint64 `json:"bytes_per_second"`
}

// Sums are what other rows add up to.
type Sums struct {
	Flows   uint64 `json:"flows"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Rate    uint64 `json:"bytes_per_second"`
}

// Of writes an answer with what names there are.
func Of(a *flow.Answer, labels *export.Labels) Answer {
	v := Answer{
		Rows: make([]Row, 0, len(a.Rows)),
		Rest: Sums{
			Flows:   a.Rest.Flows,
			Packets: a.Rest.Packets[0] + a.Rest.Packets[1],
			Bytes:   a.Rest.Bytes[0] + a.Rest.Bytes[1],
			Rate:    a.Rest.Rate,
		},
	}
	for i := range a.Rows {
		r := &a.Rows[i]
		v.Rows = append(v.Rows, Row{Row: export.RowOf(&r.Flow, labels), Flows: r.Flows, Rate: r.Rate})
	}
	return v
}

// groups and orders by the names that people and URLs give them.
var (
	groups = [...]string{flow.ByFlow: "flow", flow.ByAddress: "address", flow.ByService: "service", flow.ByEdge: "edge"}
	orders = [...]string{
		flow.MostRate: "rate", flow.MostBytes: "bytes", flow.MostPackets: "packets", flow.MostFlows: "flows",
		flow.MostLoss: "loss", flow.SlowestHandshake: "handshake", flow.Newest: "newest",
	}
)

// Groups and Orders list the names, for help.
func Groups() string { return strings.Join(groups[:], ",") }
func Orders() string { return strings.Join(orders[:], ",") }

// Group reads what a row adds up; "" is a flow.
func Group(name string) (flow.Group, error) {
	for g, n := range groups {
		if n == name || name == "" {
			return flow.Group(g), nil
		}
	}
	return 0, fmt.Errorf("by %q: it is none of %s", name, Groups())
}

// Order reads which rows come first; "" is the rate.
func Order(name string) (flow.Order, error) {
	for o, n := range orders {
		if n == name || name == "" {
			return flow.Order(o), nil
		}
	}
	return 0, fmt.Errorf("order %q: it is none of %s", name, Orders())
}
