// Package check says what this kernel, this user and an interface can do for a
// capture, before one is begun: a finding a line, each with its cure.
//
//	kernel     version, JIT, BTF, AF_XDP, ...     read from /proc and /sys, and tried
//	user       capabilities, locked memory, ...
//	interface  XDP, zero-copy, offloads, MTU, ... asked by netlink and ethtool
//
// What can be tried without a trace is tried: the XDP program is loaded and
// thrown away, a socket is opened and closed. Nothing on the system is changed.
//
// Reading and judging are apart: a machine and a link are plain values, so every
// judgement is tested without the hardware it is about.
package check

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Status of a finding.
type Status string

// The statuses. Only what cannot do without is Missing.
const (
	OK      Status = "ok"
	Warning Status = "warn" // works, but not as well as it could
	Missing Status = "fail" // unspan run would not work
)

// Finding is one thing looked at.
type Finding struct {
	Area   string `json:"area"` // kernel, user or interface
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Cure   string `json:"cure,omitempty"`
}

// Report is everything found.
type Report struct {
	Interface string    `json:"interface,omitempty"` // "": only kernel and user were looked at
	Ready     bool      `json:"ready"`               // nothing that is needed is missing
	Findings  []Finding `json:"findings"`
}

// Run looks at the machine and, when its name is not empty, at an interface in
// the network namespace of the calling thread.
func Run(interfaceName string) Report {
	root := os.DirFS("/")
	m := readMachine(root, try())
	findings := append(m.kernel(), m.user()...)
	if interfaceName != "" {
		findings = append(findings, lookAt(interfaceName, m.version)...)
	}
	return report(interfaceName, findings)
}

func report(interfaceName string, findings []Finding) Report {
	r := Report{Interface: interfaceName, Ready: true, Findings: findings}
	for _, f := range findings {
		r.Ready = r.Ready && f.Status != Missing
	}
	return r
}

func lookAt(interfaceName string, v version) []Finding {
	l, err := readLink(interfaceName)
	if err != nil {
		return []Finding{{"interface", "interface", Missing, err.Error(), "ip -br link lists those there are; name one with -i"}}
	}
	return l.findings(v)
}

// WriteText prints the report for people, findings under the heading of their
// area, each cure below what it cures.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	var name, warnings, missing int
	for _, f := range r.Findings {
		name = max(name, len(f.Name))
		switch f.Status {
		case Warning:
			warnings++
		case Missing:
			missing++
		}
	}
	area := ""
	for _, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteByte('\n')
			}
			area = f.Area
			heading := area
			if area == "interface" {
				heading += " " + r.Interface
			}
			b.WriteString(heading + "\n")
		}
		fmt.Fprintf(&b, "  %-4s  %-*s  %s\n", f.Status, name, f.Name, f.Found)
		if f.Cure != "" {
			fmt.Fprintf(&b, "        %-*s  → %s\n", name, "", f.Cure)
		}
	}
	switch {
	case missing > 0:
		fmt.Fprintf(&b, "\nNot ready: %d needed missing, %d could be better.\n", missing, warnings)
	case warnings > 0:
		fmt.Fprintf(&b, "\nReady; %d could be better.\n", warnings)
	default:
		b.WriteString("\nReady.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// list begins the findings of one area; add appends one.
func list(area string) (findings *[]Finding, add func(s Status, name, found, cure string)) {
	findings = &[]Finding{}
	return findings, func(s Status, name, found, cure string) {
		*findings = append(*findings, Finding{area, name, s, found, cure})
	}
}

// text reads a small file of /proc or /sys, "" when it is not there.
func text(root fs.FS, path string) string {
	b, err := fs.ReadFile(root, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
