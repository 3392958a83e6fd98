package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// seen is one request that reached the API server.
type seen struct {
	What   string // method and path
	User   string
	UID    string
	Groups []string
	Extra  map[string]string
}

// apiServer knows tokens and rights, answers reviews, and remembers all other requests.
type apiServer struct {
	*httptest.Server
	tokens map[string]authenticationv1.UserInfo
	// allowed are "user verb resource/subresource" of SubjectAccessReviews.
	allowed []string
	// answer replaces the answer to what is no review.
	answer http.HandlerFunc

	mu       sync.Mutex
	requests []seen
	asked    []string
	leaked   []string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{tokens: map[string]authenticationv1.UserInfo{
		"alice": {Username: "alice", UID: "u1", Groups: []string{"dev"}, Extra: map[string]authenticationv1.ExtraValue{"Example.com/Key": {"v"}}},
		"root":  {Username: "root", Groups: []string{"system:masters"}},
		"forge": {Username: "forge", Groups: []string{"keelson:gateway:authorized"}},
	}}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.EnableHTTP2 = true
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz":
		return
	case strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		a.reviewToken(w, r)
	case strings.HasSuffix(r.URL.Path, "/subjectaccessreviews"):
		a.reviewAccess(w, r)
	case r.URL.Path == "/apis/admissionregistration.k8s.io/v1":
		// The gateway asks for it by itself, whatever a test is about.
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"admissionregistration.k8s.io/v1","resources":[]}`) //nolint:errcheck // a test
	default:
		a.note(r)
		if a.answer != nil {
			a.answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}`) //nolint:errcheck // a test
	}
}

func (a *apiServer) note(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := seen{What: r.Method + " " + r.URL.Path, User: r.Header.Get("Impersonate-User"), UID: r.Header.Get("Impersonate-Uid"), Groups: r.Header["Impersonate-Group"]}
	for name, values := range r.Header {
		if key, ok := strings.CutPrefix(name, "Impersonate-Extra-"); ok {
			if one.Extra == nil {
				one.Extra = map[string]string{}
			}
			one.Extra[key] = strings.Join(values, ",")
		}
		if strings.HasPrefix(name, "X-Remote-") || name == "Authorization" {
			a.leaked = append(a.leaked, name)
		}
	}
	a.requests = append(a.requests, one)
}

func (a *apiServer) reviewToken(w http.ResponseWriter, r *http.Request) {
	var review authenticationv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(review.Spec.Audiences) > 0 {
		http.Error(w, "the API server's own audiences are wanted", http.StatusBadRequest)
		return
	}
	review.Status.User, review.Status.Authenticated = a.tokens[review.Spec.Token], false
	if _, ok := a.tokens[review.Spec.Token]; ok {
		review.Status.Authenticated = true
	}
	reply(w, &review)
}

func (a *apiServer) reviewAccess(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	question := review.Spec.User + " "
	if at := review.Spec.ResourceAttributes; at != nil {
		question += at.Verb + " " + at.Resource
		if at.Group != "" {
			question += "." + at.Group
		}
		if at.Subresource != "" {
			question += "/" + at.Subresource
		}
		if at.Namespace != "" {
			question += " in " + at.Namespace
		}
	}
	a.mu.Lock()
	a.asked = append(a.asked, question)
	a.mu.Unlock()
	review.Status.Allowed = slices.Contains(a.allowed, question)
	reply(w, &review)
}

func reply(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(object) //nolint:errcheck // a test
}

func (a *apiServer) log() (requests []seen, asked, leaked []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests), slices.Clone(a.asked), slices.Clone(a.leaked)
}

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "test authority"}}
	a.cert, a.key = a.sign(template)
	a.write("ca.crt", &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<60))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name string, blocks ...*pem.Block) string {
	a.t.Helper()
	var data []byte
	for _, b := range blocks {
		data = append(data, pem.EncodeToMemory(b)...)
	}
	// Replaced in one step, as the product does.
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// serving writes serving.pem for 127.0.0.1, with certificate and key.
func (a *authority) serving(commonName string) string {
	a.t.Helper()
	return a.leaf("serving.pem", &x509.Certificate{
		Subject: pkix.Name{CommonName: commonName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) leaf(name string, template *x509.Certificate) string {
	a.t.Helper()
	cert, key := a.sign(template)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// client makes a client that trusts the authority and shows a certificate of user, if
// there is one.
func (a *authority) client(user string, groups ...string) *http.Client {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	config := &tls.Config{RootCAs: pool}
	if user != "" {
		path := a.leaf("client.pem", &x509.Certificate{
			Subject: pkix.Name{CommonName: user, Organization: groups}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		pair, err := tls.LoadX509KeyPair(path, path)
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// plainHTTP1 makes a client without certificate that does not speak HTTP/2.
func (a *authority) plainHTTP1() *http.Client {
	client := a.client("")
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	return client
}

// served is a whole gateway in front of an apiServer.
type served struct {
	*authority
	url    string
	health string
	// end asks it to end; done is closed when it has.
	end  context.CancelFunc
	done chan struct{}
}

func serve(t *testing.T, api *apiServer, change func(*Options)) *served {
	t.Helper()
	ca := newAuthority(t)
	o := NewOptions()
	o.Serving.CertFile = ca.serving("first")
	o.Serving.PrivateKeyFile = o.Serving.CertFile
	o.Authentication.ClientCAFile = ca.file("ca.crt")
	o.MetricsBindAddress, o.HealthBindAddress = "0", freeAddress(t)
	if change != nil {
		change(o)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &served{authority: ca, url: "https://" + listener.Addr().String(), health: "http://" + o.HealthBindAddress, end: end, done: make(chan struct{})}
	config := &rest.Config{Host: api.URL, BearerToken: "gateway", TLSClientConfig: rest.TLSClientConfig{CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})}}
	go func() {
		defer close(s.done)
		if err := run(ctx, *o, config, listener); err != nil {
			t.Errorf("the gateway ended: %v", err)
		}
	}()
	t.Cleanup(func() { end(); <-s.done })
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ask sends one request with a token, if it is not empty.
func (s *served) ask(t *testing.T, client *http.Client, method, path, token string, header http.Header) (int, metav1.Status, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header.Clone()
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status metav1.Status
	json.Unmarshal(body, &status) //nolint:errcheck // it need not be one
	return answer.StatusCode, status, string(body)
}
