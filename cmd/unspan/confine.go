package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/unspan/unspan/userspace/privilege"
)

// guard keeps of the process's privileges what this command line needs after
// everything is set up; nil when it asks to keep all.
func (r *runCommand) guard(log *slog.Logger) (*privilege.Guard, error) {
	if r.KeepPrivileges {
		return nil, nil
	}
	c := privilege.Config{
		// The offloads of the interface are put back at the end.
		Keep: privilege.SetOf(unix.CAP_NET_ADMIN),
		Log:  log,
	}
	if dir := r.writeFlags.folder(); dir != "" {
		c.Write = []string{dir}
	}
	c.Write = append(c.Write, r.flowFlags.folders()...)
	c.Connect, c.Resolve = r.flowFlags.dials(), r.flowFlags.resolves()
	if path := controlPath(r.Control, r.Interface); path != "" {
		c.Remove = []string{filepath.Dir(path)}
	}
	if r.Policy != "" || r.Control != "" {
		// Another policy is another program, and tcpdump compiles its filters.
		c.Keep |= privilege.SetOf(unix.CAP_BPF, unix.CAP_PERFMON)
		c.Programs = true
	}
	if r.Policy != "" {
		c.Read = append(c.Read, beside(r.Policy)...)
	}
	if r.WebConfig != "" {
		files, err := webFiles(r.WebConfig)
		if err != nil {
			return nil, err
		}
		c.Read = append(c.Read, files...)
	}
	return privilege.New(c), nil
}

// folder is the directory in which files are begun while packets flow: "" when
// all that is written is open from the start.
func (f *writeFlags) folder() string {
	switch {
	case f.Write == "" || f.Write == "-":
		return ""
	case strings.HasSuffix(f.Write, "/"): // made when the output is opened
		return f.Write
	}
	if info, err := os.Stat(f.Write); err == nil && info.IsDir() {
		return f.Write
	}
	if f.RotateSize > 0 || f.RotateInterval > 0 {
		return filepath.Dir(f.Write)
	}
	return ""
}

// webFiles are the web configuration and the files it names: they are read anew
// for every connection, so that a certificate can be renewed.
func webFiles(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading web configuration: %w", err)
	}
	var c web.Config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("reading web configuration %s: %w", path, err)
	}
	dirs := beside(path)
	for _, file := range []string{c.TLSConfig.TLSCertPath, c.TLSConfig.TLSKeyPath, c.TLSConfig.ClientCAs} {
		if file == "" {
			continue
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		dirs = append(dirs, beside(file)...)
	}
	return dirs, nil
}

// beside are the directories in which a file that is read again later stands and
// to which it links: whoever changes it puts a new file in its place.
func beside(file string) []string {
	dirs := []string{filepath.Dir(file)}
	if real, err := filepath.EvalSymlinks(file); err == nil && filepath.Dir(real) != dirs[0] {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}
