package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/klog/v2"
	testingclock "k8s.io/utils/clock/testing"
)

func TestWhoMayAsk(t *testing.T) {
	n := newNode(t)
	n.reviews.tokens["good"] = authenticationv1.UserInfo{Username: "scraper", Groups: []string{"metrics"},
		Extra: map[string]authenticationv1.ExtraValue{"scope": {"x"}}}
	n.reviews.allowed = []string{"scraper get metrics", "reader get proxy"}
	n.start()
	other := newAuthority(t, "others")

	tests := map[string]struct {
		certificate         *tls.Certificate
		token, method, path string
		wantStatus          int
		want                string
	}{
		"nobody is not served":                       {path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"an unknown token is not served":             {token: "bad", path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"another authority's certificate":            {certificate: other.client("admin", []string{"system:masters"}, nil), path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"a server's certificate":                     {certificate: n.clients.client("admin", []string{"system:masters"}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"a certificate that has ended":               {certificate: n.clients.client("admin", []string{"system:masters"}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"a certificate without a name":               {certificate: n.clients.client("", []string{"system:masters"}, nil), path: "/healthz", wantStatus: 401, want: "Unauthorized"},
		"a wrong certificate with a good token":      {certificate: other.client("admin", nil, nil), token: "good", path: "/metrics", wantStatus: 200},
		"a master":                                   {certificate: n.clients.client("admin", []string{"system:masters"}, nil), path: "/healthz", wantStatus: 200, want: "ok"},
		"a token that may":                           {token: "good", path: "/metrics", wantStatus: 200},
		"a token that may not":                       {token: "good", path: "/stats/summary", wantStatus: 403, want: "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[stats])\n"},
		"either of two subresources is enough":       {certificate: n.clients.client("reader", nil, nil), path: "/healthz", wantStatus: 200, want: "ok"},
		"both subresources are named in a refusal":   {token: "good", path: "/pods", wantStatus: 403, want: "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"},
		"reading does not allow running":             {certificate: n.clients.client("reader", nil, nil), method: "POST", path: "/run/default/web/main?cmd=id", wantStatus: 403, want: "Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])\n"},
		"a path that climbs is judged where it ends": {token: "good", path: "/metrics/../exec/default/web/main", wantStatus: 403, want: "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[proxy])\n"},
		"an encoded path that climbs finds nothing":  {token: "good", path: "/metrics%2f..%2fexec/default/web/main", wantStatus: 404, want: "404 page not found\n"},
		"a path that nobody serves":                  {certificate: n.clients.client("admin", []string{"system:masters"}, nil), path: "/nowhere", wantStatus: 404, want: "404 page not found\n"},
		"a method that nobody serves":                {certificate: n.clients.client("admin", []string{"system:masters"}, nil), method: "DELETE", path: "/pods", wantStatus: 405, want: "Method Not Allowed\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			status, body := n.do(n.as(test.certificate), method, test.path, test.token)
			if status != test.wantStatus || test.want != "" && body != test.want {
				t.Errorf("answer is %d %q, want %d %q", status, body, test.wantStatus, test.want)
			}
		})
	}
}

func TestWhatTheAPIServerIsAsked(t *testing.T) {
	n := newNode(t)
	n.reviews.tokens["good"] = authenticationv1.UserInfo{Username: "u", UID: "7", Groups: []string{"g"},
		Extra: map[string]authenticationv1.ExtraValue{"scope": {"x"}}}
	n.start()
	n.do(n.as(nil), http.MethodGet, "/stats/summary", "good")

	q := n.reviews.lastQuestion
	if q.User != "u" || q.UID != "7" || q.ResourceAttributes.Name != "n1" || q.ResourceAttributes.Resource != "nodes" ||
		q.ResourceAttributes.Version != "v1" || q.ResourceAttributes.Group != "" {
		t.Errorf("asked for %+v, %+v", q, q.ResourceAttributes)
	}
	if diff := cmp.Diff([]string{"g", "system:authenticated"}, q.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("x", q.Extra["scope"][0]); diff != "" {
		t.Errorf("extra (-want +got):\n%s", diff)
	}
}

func TestAnswersAreKeptForAWhile(t *testing.T) {
	n := newNode(t)
	n.reviews.tokens["good"] = authenticationv1.UserInfo{Username: "u"}
	n.reviews.allowed = []string{"u get metrics"}
	n.start()
	client := n.as(nil)
	ask := func(path, token string, want int) {
		t.Helper()
		if status, body := n.do(client, http.MethodGet, path, token); status != want {
			t.Fatalf("%s answers %d %q, want %d", path, status, body, want)
		}
	}
	asked := func(tokens, questions int) {
		t.Helper()
		if n.reviews.tokensAsked != tokens || len(n.reviews.asked) != questions {
			t.Fatalf("%d tokens and %d questions, want %d and %d", n.reviews.tokensAsked, len(n.reviews.asked), tokens, questions)
		}
	}
	ask("/metrics", "good", 200)
	ask("/metrics", "good", 200)
	ask("/stats/summary", "good", 403)
	ask("/stats/summary", "good", 403)
	asked(1, 2)

	n.clock.Step(deniedTTL + time.Second) // the refusal is forgotten first
	n.reviews.allowed = append(n.reviews.allowed, "u get stats")
	ask("/stats/summary", "good", 200)
	ask("/metrics", "good", 200)
	asked(1, 3)

	n.clock.Step(tokenTTL)
	delete(n.reviews.tokens, "good")
	ask("/metrics", "good", 401)
	ask("/metrics", "good", 401)
	asked(2, 3)
}

func TestAnAPIServerThatDoesNotAnswerLetsNobodyIn(t *testing.T) {
	n := newNode(t)
	n.reviews.err = errors.New("no route to the API server")
	n.reviews.tokens["good"] = authenticationv1.UserInfo{Username: "u"}
	n.start()
	if status, _ := n.do(n.as(nil), http.MethodGet, "/metrics", "good"); status != 401 {
		t.Errorf("a token gets %d", status)
	}
	status, body := n.do(n.as(n.clients.client("u", nil, nil)), http.MethodGet, "/metrics", "")
	if want := "Authorization error (user=u, verb=get, resource=nodes, subresource=metrics)"; status != 500 || body != want {
		t.Errorf("a certificate gets %d %q", status, body)
	}
	if status, _ := n.do(n.admin(), http.MethodGet, "/metrics", ""); status != 200 {
		t.Errorf("a master gets %d", status)
	}
}

func TestSubresources(t *testing.T) {
	for path, want := range map[string][]string{
		"/stats": {"stats"}, "/stats/summary": {"stats"}, "/statsx": {"proxy"}, "/metrics/cadvisor": {"metrics"},
		"/logs/": {"log"}, "/containerLogs/a/b/c": {"proxy"}, "/exec/a/b/c": {"proxy"}, "/": {"proxy"}, "": {"proxy"},
		"/pods": {"pods", "proxy"}, "/podsy": {"proxy"}, "/healthz/ping": {"healthz", "proxy"}, "/configz": {"configz", "proxy"},
		"/statusz": {"statusz"}, "/flagz": {"configz"}, "/checkpoint/a": {"checkpoint"}, "/runningpods/": {"pods", "proxy"},
	} {
		if diff := cmp.Diff(want, subresources(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestBearerToken(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer x": "x", "bearer  x ": "x", "Basic x": "", "Bearer": "", "Bearer a b": "", "": "", "x": "",
	} {
		if got := bearerToken(header); got != want {
			t.Errorf("%q holds %q, want %q", header, got, want)
		}
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	dir, now := t.TempDir(), testingclock.NewFakeClock(time.Now())
	caFile, first, second := filepath.Join(dir, "ca.crt"), newAuthority(t, "first"), newAuthority(t, "second")
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(caFile, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first.pem())
	o := CertificateOptions{Dir: dir, NodeName: "n1", ClientCAFile: caFile, Clock: now, Log: klog.Background()}
	c, err := NewCertificates(o)
	if err != nil {
		t.Fatal(err)
	}
	knows := func(a *authority) bool {
		_, err := a.certificate.Verify(x509.VerifyOptions{Roots: c.clientRoots()})
		return err == nil
	}
	write(append(first.pem(), second.pem()...))
	if knows(second) {
		t.Error("the file was read at once, on every request")
	}
	now.Step(recheckInterval)
	if !knows(second) {
		t.Error("the new authority does not count")
	}
	write([]byte("nothing"))
	now.Step(recheckInterval)
	if !knows(second) {
		t.Error("a broken file took the authorities away")
	}
}

func TestSelfSignedCertificate(t *testing.T) {
	dir, now := t.TempDir(), testingclock.NewFakeClock(time.Now())
	open := func(name string) *x509.Certificate {
		t.Helper()
		c, err := NewCertificates(CertificateOptions{Dir: dir, NodeName: name, Clock: now, Log: klog.Background()})
		if err != nil {
			t.Fatal(err)
		}
		return c.serving.get().Leaf
	}
	first := open("n1")
	if err := first.VerifyHostname("n1"); err != nil {
		t.Error(err)
	}
	if !open("n1").Equal(first) {
		t.Error("a restart made a new certificate")
	}
	if open("n2").Equal(first) {
		t.Error("another name got the same certificate")
	}
	held, err := NewCertificates(CertificateOptions{Dir: dir, NodeName: "n2", Clock: now, Log: klog.Background()})
	if err != nil {
		t.Fatal(err)
	}
	before := held.serving.get().Leaf
	now.Step(selfSignedLifetime - renewBefore + time.Hour)
	if after := held.serving.get().Leaf; after.Equal(before) || !after.NotAfter.After(before.NotAfter) {
		t.Error("a certificate that ends soon was not made again")
	}
	if err := os.WriteFile(filepath.Join(dir, selfSignedFile), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open("n2").VerifyHostname("n2"); err != nil {
		t.Error(err)
	}
}

func TestCertificatesThatCannotBeReadNameTheirFlag(t *testing.T) {
	for flag, o := range map[string]CertificateOptions{
		"--tls-cert-file, --tls-private-key-file: open /nowhere/a: no such file or directory": {CertFile: "/nowhere/a", KeyFile: "/nowhere/b"},
	} {
		o.Clock = testingclock.NewFakeClock(time.Now())
		if _, err := NewCertificates(o); err == nil || err.Error() != flag {
			t.Errorf("error is %v, want %s", err, flag)
		}
	}
}
