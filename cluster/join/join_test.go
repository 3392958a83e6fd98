package join

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const goodToken = "abcdef.0123456789abcdef"

// apiServer is one that shows a chain as ours does; seen counts requests with a token.
type apiServer struct {
	*httptest.Server
	hash, address string
	seen          atomic.Int32
}

func newAPIServer(t *testing.T, notBefore, notAfter time.Time, showAuthority bool, handle http.HandlerFunc) *apiServer {
	t.Helper()
	ca, caKey := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: notBefore, NotAfter: notAfter.Add(time.Hour),
	}, nil, nil)
	leaf, key := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: notBefore, NotAfter: notAfter,
	}, ca, caKey)
	chain := [][]byte{leaf.Raw}
	if showAuthority {
		chain = append(chain, ca.Raw)
	}
	s := &apiServer{hash: HashOf(ca)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			s.seen.Add(1)
		}
		if handle != nil {
			handle(w, r)
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.address = s.Listener.Addr().String()
	return s
}

func issue(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestDiscoveryTrustsThePinnedAuthorityAlone(t *testing.T) {
	now := time.Now()
	good := newAPIServer(t, now.Add(-time.Hour), now.Add(time.Hour), true, nil)
	silent := newAPIServer(t, now.Add(-time.Hour), now.Add(time.Hour), false, nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	shut := closed.Listener.Addr().String()
	closed.Close()
	_, port, err := net.SplitHostPort(good.address)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server, hash string
		now          time.Time
		want         []string
	}{
		"the right hash":             {good.address, good.hash, now, nil},
		"another hash":               {good.address, silent.hash, now, []string{"--ca-hash", good.hash, "token was not sent"}},
		"an authority not shown":     {silent.address, silent.hash, now, []string{"does not show its authority", "token was not sent"}},
		"a port without TLS":         {plain.Listener.Addr().String(), good.hash, now, []string{"does not speak TLS"}},
		"nobody there":               {shut, good.hash, now, []string{"no API server can be reached", "check address and port"}},
		"a name not in it":           {"localhost:" + port, good.hash, now, []string{"not good for that address", "token was not sent"}},
		"a clock that is behind":     {good.address, good.hash, now.Add(-48 * time.Hour), []string{"not valid yet", now.Add(-48 * time.Hour).UTC().Format(time.RFC3339), "the server says " + now.UTC().Format("2006-01-02T15"), "token was not sent"}},
		"a clock that is in advance": {good.address, good.hash, now.Add(48 * time.Hour), []string{"has expired", "the server says"}},
	} {
		t.Run(name, func(t *testing.T) {
			ca, err := discover(t.Context(), c.server, c.hash, c.now)
			if len(c.want) == 0 {
				if err != nil || len(ca) == 0 {
					t.Errorf("refused: %v", err)
				}
				return
			}
			for _, part := range c.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v; want %q in it", err, part)
				}
			}
		})
	}
	if good.seen.Load()+silent.seen.Load() > 0 {
		t.Error("a token was sent")
	}
}

func TestAJoinThatIsRefusedLeavesNothing(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		status int
		body   string
		hash   string
		want   string
		sent   bool
	}{
		"a token that is not known":     {status: 401, want: "does not accept the token with ID abcdef", sent: true},
		"a token of another group":      {status: 403, want: "system:bootstrappers:keelson:nodes", sent: true},
		"a cluster of another kind":     {status: 404, want: "clusters of 'keelson up' only", sent: true},
		"settings that are not there":   {status: 200, body: `{"data":{}}`, want: "has no key node.json", sent: true},
		"settings that cannot be read":  {status: 200, body: `{"data":{"node.json":"{"}}`, want: "decode node.json", sent: true},
		"another authority, no sending": {hash: "sha256:" + strings.Repeat("0", 64), want: "token was not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newAPIServer(t, now.Add(-time.Hour), now.Add(time.Hour), true, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				body := c.body
				if body == "" {
					reason := map[int]string{401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}[c.status]
					body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"` + reason + `"}`
				} else {
					body = `{"kind":"ConfigMap","apiVersion":"v1",` + body[1:]
				}
				_, _ = io.WriteString(w, body)
			})
			o := NewOptions()
			o.DataDir, o.RunDir = filepath.Join(t.TempDir(), "data"), t.TempDir()
			if len(o.RunDir) > maxRunDir {
				o.RunDir = "/run/keelson-join-test"
			}
			o.Server, o.Token, o.CAHash, o.NodeName = server.address, goodToken, server.hash, "attic"
			if c.hash != "" {
				o.CAHash = c.hash
			}
			l, err := newLayout(o.DataDir, o.RunDir)
			if err != nil {
				t.Fatal(err)
			}
			unlock, err := lockCommand(l)
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
			j := &joiner{options: *o, layout: l, now: time.Now, say: t.Logf}
			_, err = j.enroll(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), goodToken) {
				t.Errorf("error %v; want %q in it, and no token", err, c.want)
			}
			if sent := server.seen.Load() > 0; sent != c.sent {
				t.Errorf("the token was sent: %t, want %t", sent, c.sent)
			}
			if err := l.forgetUnlessJoined(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(o.DataDir); !os.IsNotExist(err) {
				t.Errorf("the data directory is left: %v", err)
			}
		})
	}
}

func TestNamesThatAreTaken(t *testing.T) {
	node := func(id string, ready corev1.ConditionStatus) *keelsonv1.Node {
		n := &keelsonv1.Node{}
		n.Name, n.Status.NodeInfo.MachineID = "attic", id
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
		return n
	}
	for name, c := range map[string]struct {
		node *keelsonv1.Node
		want string
	}{
		"nobody has it":                          {nil, ""},
		"this machine had it":                    {node("mine", corev1.ConditionUnknown), ""},
		"a Node that no machine has reported to": {node("", corev1.ConditionFalse), ""},
		"another machine had it":                 {node("theirs", corev1.ConditionUnknown), "is another machine"},
		"a machine with it is ready":             {node("mine", corev1.ConditionTrue), "it is ready"},
	} {
		err := checkName(c.node, "mine")
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--replace")) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestNetworksThatOverlap(t *testing.T) {
	config := ClusterConfig{ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16,fd00::/48"}
	for name, c := range map[string]struct{ network, want string }{
		"a network of its own":         {"192.168.1.0/24", ""},
		"one within the range of Pods": {"10.244.7.0/24", "range of Pods"},
		"one around both ranges":       {"10.0.0.0/8", "range of Services"},
		"the other family":             {"fd00::/64", "fd00::/48"},
	} {
		err := checkNetworks(config, []network{{"eth7", netip.MustParsePrefix(c.network)}})
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "eth7")) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestOptionsAreRefused(t *testing.T) {
	good := func() *Options {
		o := NewOptions()
		o.Server, o.Token, o.CAHash = "192.0.2.1:6443", goodToken, "sha256:"+strings.Repeat("a", 64)
		return o
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no server":             {func(o *Options) { o.Server = "" }, "HOST:PORT"},
		"no port":               {func(o *Options) { o.Server = "192.0.2.1" }, "HOST:PORT"},
		"a port out of range":   {func(o *Options) { o.Server = "192.0.2.1:70000" }, "not a port"},
		"no token":              {func(o *Options) { o.Token = "" }, "--token: is required"},
		"half a token":          {func(o *Options) { o.Token = "abcdef" }, "--token"},
		"no hash":               {func(o *Options) { o.CAHash = "" }, "--ca-hash: is required"},
		"a short hash":          {func(o *Options) { o.CAHash = "sha256:ab" }, "--ca-hash"},
		"a bad name":            {func(o *Options) { o.NodeName = "Attic!" }, "--node-name"},
		"an address of IPv6":    {func(o *Options) { o.NodeIP = "::1" }, "--node-ip"},
		"a relative socket":     {func(o *Options) { o.ContainerdAddress = "x" }, "--containerd-address"},
		"a relative run folder": {func(o *Options) { o.RunDir = "run" }, "--run-dir"},
		"no time":               {func(o *Options) { o.Timeout = 0 }, "--timeout"},
	} {
		o := good()
		c.change(o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestAMachineThatHasJoinedIsTakenForNoOther(t *testing.T) {
	l, err := newLayout(t.TempDir(), "/run/x")
	if err != nil {
		t.Fatal(err)
	}
	s := settings{Server: "192.0.2.1:6443", NodeName: "attic"}
	if err := s.write(l.settingsFile()); err != nil {
		t.Fatal(err)
	}
	j := &joiner{layout: l, options: Options{Server: "192.0.2.2:6443"}, say: t.Logf}
	if _, err := j.startAgain(t.Context(), s); err == nil || !strings.Contains(err.Error(), "is the node attic of the cluster at 192.0.2.1:6443 already") {
		t.Errorf("error %v", err)
	}
	if err := l.forgetUnlessJoined(); err != nil || !Joined(Options{DataDir: l.data}) {
		t.Errorf("a refused join forgot the node: %v", err)
	}
}

func TestLeavingAMachineThatHasNotJoinedSaysSo(t *testing.T) {
	var out bytes.Buffer
	if err := Leave(t.Context(), Options{DataDir: t.TempDir(), RunDir: "/run/x"}, &out); err != nil || !strings.Contains(out.String(), "Nothing to leave") {
		t.Errorf("%v: %s", err, out.String())
	}
}
