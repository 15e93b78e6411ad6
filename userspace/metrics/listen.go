package metrics

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// admit decides whether to serve on an address. The ledger tells who talks on a
// network: off this machine it goes only encrypted and to those who may ask.
func admit(listen, webConfig string) (*net.TCPAddr, error) {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("%w: give host:port, like %s", err, DefaultListen)
	}
	if webConfig != "" {
		if err := web.Validate(webConfig); err != nil {
			return nil, fmt.Errorf("reading web configuration %s: %w", webConfig, err)
		}
	}
	if addr.IP.IsLoopback() { // an empty host is nil: every address
		return addr, nil
	}
	if webConfig == "" {
		return nil, errors.New("not a loopback address: name a web configuration with TLS and users (--web-config), or listen on " + DefaultListen)
	}
	lacks, err := missing(webConfig)
	if err != nil {
		return nil, fmt.Errorf("reading web configuration %s: %w", webConfig, err)
	}
	if lacks != "" {
		return nil, fmt.Errorf("not a loopback address, and web configuration %s has no %s: add it, or listen on %s", webConfig, lacks, DefaultListen)
	}
	return addr, nil
}

// missing names what a web configuration lacks to be open to a network.
func missing(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var c web.Config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return "", err
	}
	switch {
	case !c.TLSConfig.IsEnabled():
		return "tls_server_config", nil
	// A certificate that is asked for and checked is authentication too.
	case len(c.Users) == 0 && c.TLSConfig.ClientAuth != "RequireAndVerifyClientCert":
		return "basic_auth_users", nil
	}
	return "", nil
}

// cure says what to do about an address that cannot be had.
func cure(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case unix.EADDRINUSE:
		return fmt.Errorf("%w: stop the other unspan, or choose another port with --listen", errno)
	case unix.EADDRNOTAVAIL:
		return fmt.Errorf("%w: no interface of this machine has it; choose another with --listen", errno)
	case unix.EACCES:
		return fmt.Errorf("%w: a port below 1024 needs CAP_NET_BIND_SERVICE; choose another with --listen", errno)
	}
	return errno
}
