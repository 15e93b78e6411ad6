package view

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/unspan/unspan/userspace/export"
	"github.com/unspan/unspan/userspace/flow"
)

// column is one of a table: right-aligned figures.
type column struct {
	head string
	cell func(*flow.Row) string
	rare bool // left out when there is nothing in it
}

// What both directions count stands as a pair: from the side that began, and
// back.
var (
	rate      = column{"Mbit/s", func(r *flow.Row) string { return fmt.Sprintf("%.2f", float64(r.Rate)*8/1e6) }, false}
	packets   = column{"packets", func(r *flow.Row) string { return amount(r.Packets[0]) }, false}
	back      = column{"back", func(r *flow.Row) string { return amount(r.Packets[1]) }, false}
	bytesOut  = column{"bytes", func(r *flow.Row) string { return amount(r.Bytes[0]) }, false}
	bytesBack = column{"back", func(r *flow.Row) string { return amount(r.Bytes[1]) }, false}
	flows     = column{"flows", func(r *flow.Row) string { return amount(r.Flows) }, false}
	handshake = column{"handshake", func(r *flow.Row) string { return span(max(r.Handshake, r.ServerRTT)) }, true}
	again     = column{"again", func(r *flow.Row) string { return pair(r.Retransmissions) }, true}
	late      = column{"late", func(r *flow.Row) string { return pair(r.OutOfOrder) }, true}
	mirror    = column{"mirror lost", func(r *flow.Row) string { return pair(r.MirrorGaps) }, true}
	state     = column{"state", func(r *flow.Row) string {
		if r.TCPState == flow.StateNone {
			return ""
		}
		return r.TCPState.String()
	}, true}
	sampled = column{"1 in", func(r *flow.Row) string {
		if r.Weight <= 1 {
			return ""
		}
		return strconv.Itoa(int(r.Weight))
	}, true}
)

var columns = [...][]column{
	flow.ByFlow:    {packets, back, bytesOut, bytesBack, sampled, handshake, again, late, mirror, state},
	flow.ByAddress: {relabel(packets, "sent"), relabel(back, "received"), bytesOut, bytesBack, sampled, flows, again, late, mirror},
	flow.ByService: {packets, back, bytesOut, bytesBack, sampled, flows, handshake, again, late, mirror},
	flow.ByEdge:    {packets, back, bytesOut, bytesBack, sampled, flows, handshake, again, late, mirror},
}

func relabel(c column, head string) column {
	c.head = head
	return c
}

// heads of the last column, which is left-aligned and as wide as it must be.
var heads = [...]string{flow.ByFlow: "flow", flow.ByAddress: "host", flow.ByService: "service", flow.ByEdge: "who calls what"}

// WriteText prints an answer as a table. live says that there are rates.
func WriteText(w io.Writer, a *flow.Answer, by flow.Group, labels *export.Labels, live bool) error {
	var b bytes.Buffer
	if len(a.Rows) == 0 {
		_, err := io.WriteString(w, "No flow.\n")
		return err
	}
	use := []column{}
	if live {
		use = append(use, rate)
	}
	for _, c := range columns[by] {
		if !c.rare || filled(a, c) {
			use = append(use, c)
		}
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range use {
		fmt.Fprintf(table, "%s\t", c.head)
	}
	fmt.Fprintf(table, "  %s\n", heads[by])
	for i := range a.Rows {
		r := &a.Rows[i]
		for _, c := range use {
			fmt.Fprintf(table, "%s\t", c.cell(r))
		}
		fmt.Fprintf(table, "  %s\n", subject(r, by, labels))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	switch rest := &a.Rest; {
	case rest.Flows == 0:
	case by == flow.ByAddress: // whose flows are counted at both ends
		b.WriteString("\nAnd more.\n")
	default:
		fmt.Fprintf(&b, "\nAnd more, with %s packets and %s bytes.\n", amount(rest.Packets[0]+rest.Packets[1]), amount(rest.Bytes[0]+rest.Bytes[1]))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// filled reports whether any cell of a column says something.
func filled(a *flow.Answer, c column) bool {
	for i := range a.Rows {
		if c.cell(&a.Rows[i]) != "" {
			return true
		}
	}
	return false
}

// subject says what a row is of.
func subject(r *flow.Row, by flow.Group, labels *export.Labels) string {
	protocol := protocolName(r)
	switch by {
	case flow.ByAddress:
		return end(r, 0, labels, false)
	case flow.ByService:
		return protocol + " " + end(r, 1, labels, true)
	case flow.ByEdge:
		return end(r, 0, labels, false) + " > " + protocol + " " + end(r, 1, labels, true)
	}
	text := protocol + " " + end(r, 0, labels, true) + " > " + end(r, 1, labels, true)
	for i, v := range r.VLAN {
		if v != 0 {
			text += []string{"  vlan ", "."}[i] + strconv.Itoa(int(v))
		}
	}
	if feed := labels.FeedName(r.Feed[0]); feed != "" {
		text += "  " + feed
		if other := labels.FeedName(r.Feed[1]); other != "" && other != feed {
			text += ", " + other
		}
	}
	return text
}

// end is a side's name or address, with its port where there is one.
func end(r *flow.Row, side int, labels *export.Labels, port bool) string {
	host := labels.EndName(&r.Flow, side)
	if host == "" && r.IsIP() {
		host = r.Addr(side).String()
	} else if host == "" {
		host = net.HardwareAddr(r.MAC[side][:]).String()
	}
	if port && r.Port[side] != 0 {
		return net.JoinHostPort(host, strconv.Itoa(int(r.Port[side])))
	}
	return host
}

// protocolName is what people call the protocol, or what carries it.
func protocolName(r *flow.Row) string {
	if !r.IsIP() {
		switch r.EtherType {
		case 0x0806:
			return "arp"
		case 0x88cc:
			return "lldp"
		}
		return fmt.Sprintf("ethernet %#04x", r.EtherType)
	}
	name := fmt.Sprintf("ip %d", r.Protocol)
	for _, known := range []string{"icmp", "igmp", "tcp", "udp", "gre", "esp", "ah", "icmp6", "ospf", "vrrp", "sctp"} {
		if protocols[known] == r.Protocol {
			name = known
		}
	}
	if strings.HasPrefix(name, "icmp") {
		name += fmt.Sprintf(" %d", r.ICMPType)
	}
	return name
}

// amount is a number in at most five characters or so.
func amount(n uint64) string {
	if n < 10_000 {
		return strconv.FormatUint(n, 10)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"k", "M", "G", "T", "P", "E"} {
		if value /= 1000; value < 999.5 {
			break
		}
	}
	if value < 99.95 {
		return fmt.Sprintf("%.1f%s", value, unit)
	}
	return fmt.Sprintf("%.0f%s", value, unit)
}

// span is a time of ns, "" when there is none.
func span(ns uint64) string {
	d := time.Duration(ns)
	switch {
	case d == 0:
		return ""
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// pair is a count of both directions together, "" when it is none.
func pair(n [2]uint32) string {
	if n == [2]uint32{} {
		return ""
	}
	return amount(uint64(n[0]) + uint64(n[1]))
}
