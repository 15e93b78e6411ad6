package metrics_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/unspan/unspan/userspace/lab"
	"github.com/unspan/unspan/userspace/metrics"
)

func config(listen string) metrics.Config {
	return metrics.Config{
		Listen:    listen,
		Collector: collector(busy()),
		Ready:     func() error { return nil },
		Log:       slog.New(slog.DiscardHandler),
	}
}

// start runs a server until the test ends and returns its address.
func start(t *testing.T, c metrics.Config) string {
	t.Helper()
	server, err := metrics.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("running the server: %v", err)
		}
		if _, err := net.Dial("tcp", server.Addr().String()); err == nil {
			t.Errorf("%s still answers", server.Addr())
		}
	})
	return server.Addr().String()
}

func get(t *testing.T, client *http.Client, url string) (status int, body string) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestPages(t *testing.T) {
	waiting := config("127.0.0.1:0")
	waiting.Ready = func() error { return errors.New("attaching to eth1") }
	housed := config("127.0.0.1:0")
	housed.Home = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "home of "+r.URL.Path)
	})
	tests := []struct {
		name, path string
		config     metrics.Config
		status     int
		body       string // somewhere in the answer
	}{
		{"the ledger", "/metrics", config("127.0.0.1:0"), 200, `unspan_afxdp_packets_total{kind="kernel",outcome="ring_full"} 4`},
		{"the process", "/metrics", config("127.0.0.1:0"), 200, "process_open_fds "},
		{"the runtime", "/metrics", config("127.0.0.1:0"), 200, "go_goroutines "},
		{"alive", "/healthz", config("127.0.0.1:0"), 200, "alive\n"},
		{"alive while not ready", "/healthz", waiting, 200, "alive\n"},
		{"ready", "/readyz", config("127.0.0.1:0"), 200, "receiving\n"},
		{"not ready, and why", "/readyz", waiting, 503, "attaching to eth1\n"},
		{"no page", "/", config("127.0.0.1:0"), 200, "/metrics"},
		{"a page of its own", "/", housed, 200, "home of /"},
		{"more than one page", "/feeds/7", housed, 200, "home of /feeds/7"},
		{"the ledger beside a page", "/healthz", housed, 200, "alive\n"},
		{"nothing there", "/nowhere", config("127.0.0.1:0"), 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := get(t, http.DefaultClient, "http://"+start(t, tt.config)+tt.path)
			if status != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("answer is %d %q, want %d with %q", status, body, tt.status, tt.body)
			}
		})
	}
}

// webConfig writes a web configuration of the parts named into a directory with
// a certificate, and returns its path and the certificate.
func webConfig(t *testing.T, parts ...string) (string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		IPAddresses:  []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("192.0.2.2")},
	}
	template.NotAfter = template.NotBefore.AddDate(9000, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{
		"tls":    "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n",
		"mtls":   "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n",
		"users":  "basic_auth_users:\n  prometheus: " + string(hash) + "\n",
		"nocert": "tls_server_config:\n  cert_file: none.pem\n  key_file: key.pem\n",
		"typo":   "tls_sever_config: {}\n",
	}
	dir := t.TempDir()
	var web bytes.Buffer
	for _, part := range parts {
		web.WriteString(text[part])
	}
	for name, content := range map[string][]byte{
		"web.yml":  web.Bytes(),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return filepath.Join(dir, "web.yml"), pool
}

// refusals are told before the address is taken, in one line with the cure.
func TestAddressesRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name   string
		listen string
		parts  []string // of the web configuration; nil: there is none
		want   []string // all somewhere in the error
	}{
		{"taken", taken.Addr().String(), nil,
			[]string{"listening on " + taken.Addr().String() + ": address already in use: ", "--listen"}},
		{"not an address", "9477", nil, []string{"listening on 9477: ", "host:port"}},
		{"every address", ":9477", nil, []string{"listening on :9477: not a loopback address: ", "--web-config"}},
		{"every IPv4 address", "0.0.0.0:9477", nil, []string{"not a loopback address: ", "--web-config"}},
		{"an address of the network", "192.0.2.2:9477", nil, []string{"not a loopback address: ", "127.0.0.1:9477"}},
		{"without users", "192.0.2.2:9477", []string{"tls"}, []string{"not a loopback address, ", "has no basic_auth_users"}},
		{"without TLS", "192.0.2.2:9477", []string{"users"}, []string{"not a loopback address, ", "has no tls_server_config"}},
		{"without either", "192.0.2.2:9477", []string{}, []string{"has no tls_server_config"}},
		{"with a certificate that is not there", "127.0.0.1:0", []string{"nocert", "users"}, []string{"reading web configuration ", "none.pem"}},
		{"with an unknown key", "127.0.0.1:0", []string{"typo"}, []string{"reading web configuration ", "tls_sever_config"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(tt.listen)
			if tt.parts != nil {
				c.WebConfig, _ = webConfig(t, tt.parts...)
			}
			server, err := metrics.Open(c)
			if err == nil {
				server.Close()
				t.Fatal("the address is taken, want an error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestWebConfigurationIsInForce(t *testing.T) {
	c := config("127.0.0.1:0")
	var pool *x509.CertPool
	c.WebConfig, pool = webConfig(t, "tls", "users")
	address := start(t, c)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for user, want := range map[string]int{
		"":                   401,
		"prometheus:wrong@":  401,
		"prometheus:secret@": 200,
	} {
		if status, _ := get(t, client, "https://"+user+address+"/metrics"); status != want {
			t.Errorf("%q gets %d, want %d", user, status, want)
		}
	}
	if status, _ := get(t, http.DefaultClient, "http://"+address+"/metrics"); status != 400 {
		t.Errorf("without TLS: %d, want 400", status)
	}
}

func TestAddressOfANetworkWithWebConfiguration(t *testing.T) {
	if os.Geteuid() != 0 {
		const reason = "network namespaces need root: run sudo go test"
		if os.Getenv("UNSPAN_CI") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	l, err := lab.Open(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, parts := range [][]string{{"tls", "users"}, {"mtls"}} {
		c := config("192.0.2.2:9477")
		c.WebConfig, _ = webConfig(t, parts...)
		err := l.Collector.Do(func() error {
			server, err := metrics.Open(c)
			if err != nil {
				return err
			}
			return server.Close()
		})
		if err != nil {
			t.Errorf("with %v: %v", parts, err)
		}
	}
}

func TestCloseTwice(t *testing.T) {
	server, err := metrics.Open(config("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	again, err := metrics.Open(config(server.Addr().String()))
	if err != nil {
		t.Fatalf("the address was not given back: %v", err)
	}
	again.Close()
}
