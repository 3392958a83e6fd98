package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Who sends a request, in whose name does it reach the API server, and what was asked
// before?
func TestInWhoseName(t *testing.T) {
	asAlice := func(what string, more ...string) seen {
		return seen{What: what, User: "alice", UID: "u1", Groups: append([]string{"dev", "system:authenticated"}, more...), Extra: map[string]string{"Example.com%2fkey": "v"}}
	}
	tests := map[string]struct {
		method, path, token string
		user                string // shows a client certificate
		groups              []string
		header              http.Header
		allowed             []string
		wantCode            int
		wantMessage         string
		wantSeen            []seen
		wantAsked           []string
	}{
		"without credentials nobody gets in": {path: "/api/v1/configmaps", wantCode: 401, wantMessage: "Unauthorized"},
		"not even to the version":            {path: "/version", wantCode: 401, wantMessage: "Unauthorized"},
		"a token that the API server does not believe, such as one for another audience": {
			path: "/api/v1/configmaps", token: "for-a-vault", wantCode: 401, wantMessage: "Unauthorized",
		},
		"what is not ours goes on in the caller's name, and nobody is asked": {
			path: "/api/v1/namespaces/a/configmaps", token: "alice", wantCode: 200, wantSeen: []seen{asAlice("GET /api/v1/namespaces/a/configmaps")},
		},
		"a client certificate names user and groups": {
			path: "/api/v1/namespaces/a/configmaps", user: "carol", groups: []string{"ops"}, wantCode: 200,
			wantSeen: []seen{{What: "GET /api/v1/namespaces/a/configmaps", User: "carol", Groups: []string{"ops", "system:authenticated"}}},
		},
		"our kinds are authorized on the names that the client used": {
			path: "/api/v1/namespaces/a/pods", token: "alice", allowed: []string{"alice list pods in a"}, wantCode: 200,
			wantAsked: []string{"alice list pods in a"},
			wantSeen:  []seen{asAlice("GET /apis/core.keelson.dev/v1/namespaces/a/pods", "keelson:gateway:authorized")},
		},
		"a right on the stored names is none on the usual ones": {
			path: "/api/v1/namespaces/a/pods", token: "alice", allowed: []string{"alice list pods.core.keelson.dev in a"}, wantCode: 403,
			wantAsked:   []string{"alice list pods in a"},
			wantMessage: `pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "a"`,
		},
		"the custom resources themselves are the API server's": {
			path: "/apis/core.keelson.dev/v1/namespaces/a/pods", token: "alice", wantCode: 200,
			wantSeen: []seen{asAlice("GET /apis/core.keelson.dev/v1/namespaces/a/pods")},
		},
		"a Node in a namespace is nothing of ours, whatever somebody may do with nodes there": {
			method: http.MethodDelete, path: "/api/v1/namespaces/a/nodes/n", token: "alice", allowed: []string{"alice delete nodes in a"}, wantCode: 200,
			wantSeen: []seen{asAlice("DELETE /api/v1/namespaces/a/nodes/n")},
		},
		"nor is its agent": {
			method: http.MethodPost, path: "/api/v1/namespaces/a/nodes/n/proxy/run/a/p/c", token: "alice", allowed: []string{"alice create nodes/proxy in a"}, wantCode: 200,
			wantSeen: []seen{asAlice("POST /api/v1/namespaces/a/nodes/n/proxy/run/a/p/c")},
		},
		"nor is an agent that the right to watch would reach": {
			method: http.MethodPost, path: "/api/v1/watch/nodes/n/proxy/run/a/p/c", token: "alice", allowed: []string{"alice watch nodes/proxy"}, wantCode: 200,
			wantSeen: []seen{asAlice("POST /api/v1/watch/nodes/n/proxy/run/a/p/c")},
		},
		"metrics are ours": {
			path: "/apis/metrics.k8s.io/v1beta1/nodes", token: "alice", wantCode: 403, wantAsked: []string{"alice list nodes.metrics.k8s.io"},
			wantMessage: `nodes.metrics.k8s.io is forbidden: User "alice" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope`,
		},
		"who may do everything is not asked about": {
			path: "/api/v1/nodes", token: "root", wantCode: 200,
			wantSeen: []seen{{What: "GET /apis/core.keelson.dev/v1/nodes", User: "root", Groups: []string{"system:masters", "system:authenticated", "keelson:gateway:authorized"}}},
		},
		"a stream by GET needs the right to create": {
			path: "/api/v1/namespaces/a/pods/p/exec?command=id&stdout=1", token: "alice", allowed: []string{"alice get pods/exec in a"}, wantCode: 403,
			wantAsked:   []string{"alice get pods/exec in a", "alice create pods/exec in a"},
			wantMessage: `pods "p" is forbidden: User "alice" cannot create resource "pods/exec" in API group "" in the namespace "a"`,
		},
		"impersonation without the right to it": {
			path: "/api/v1/namespaces/a/configmaps", token: "alice", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 403,
			wantMessage: `User "alice" cannot impersonate-on:user-info:list resource "configmaps"`,
		},
		"impersonation with the right to it": {
			path: "/api/v1/namespaces/a/configmaps", token: "alice", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"x"}},
			allowed: []string{"alice impersonate users", "alice impersonate groups"}, wantCode: 200,
			wantSeen: []seen{{What: "GET /api/v1/namespaces/a/configmaps", User: "bob", Groups: []string{"x", "system:authenticated"}}},
		},
		"the impersonated user's rights count": {
			path: "/api/v1/namespaces/a/pods", token: "root", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 403,
			wantAsked: []string{"bob list pods in a"}, wantMessage: `User "bob" cannot list resource "pods"`,
		},
		"nobody acts as a member of the gateway's group": {
			path: "/api/v1/namespaces/a/configmaps", token: "root", header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"keelson:gateway:authorized"}},
			wantCode: 403, wantMessage: "gateway's own",
		},
		"nobody is a member of the gateway's group": {
			path: "/api/v1/namespaces/a/configmaps", token: "forge", wantCode: 403, wantMessage: "gateway's own",
		},
		"groups without a user": {
			path: "/api/v1/namespaces/a/configmaps", token: "root", header: http.Header{"Impersonate-Group": {"x"}}, wantCode: 400, wantMessage: "without impersonating a user",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			api.allowed = tt.allowed
			s := serve(t, api, nil)
			method := tt.method
			if method == "" {
				method = http.MethodGet
			}
			code, status, body := s.ask(t, s.client(tt.user, tt.groups...), method, tt.path, tt.token, tt.header)
			if code != tt.wantCode {
				t.Errorf("code %d, want %d: %s", code, tt.wantCode, body)
			}
			if tt.wantMessage != "" && !strings.Contains(status.Message, tt.wantMessage) {
				t.Errorf("message %q lacks %q", status.Message, tt.wantMessage)
			}
			requests, asked, leaked := api.log()
			for i := range requests {
				delete(requests[i].Extra, "Authentication.kubernetes.io%2fcredential-Id") // of the certificate
			}
			if diff := cmp.Diff(tt.wantSeen, requests, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("reached the API server (-want +got):\n%s", diff)
			}
			if len(leaked) != len(requests) || slices.ContainsFunc(leaked, func(name string) bool { return name != "Authorization" }) {
				t.Errorf("requests carried %q, want the gateway's own Authorization each", leaked)
			}
			if tt.wantAsked != nil {
				if diff := cmp.Diff(tt.wantAsked, asked); diff != "" {
					t.Errorf("reviews (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// A request that is taken for less than it is makes objects that the caller may not make.
func TestMayCreate(t *testing.T) {
	for name, tt := range map[string]struct {
		verb, subresource, contentType string
		want                           bool
	}{
		"an update":                  {verb: "update", want: true},
		"an update of a status":      {verb: "update", subresource: "status"},
		"a creation":                 {verb: "create"},
		"a JSON patch":               {verb: "patch", contentType: "application/json-patch+json"},
		"a merge patch":              {verb: "patch", contentType: "application/merge-patch+json; charset=utf-8"},
		"a strategic merge patch":    {verb: "patch", contentType: "application/strategic-merge-patch+json"},
		"an apply":                   {verb: "patch", contentType: "application/apply-patch+yaml", want: true},
		"an apply behind a space":    {verb: "patch", contentType: "\u00a0application/apply-patch+yaml", want: true},
		"an apply in other letters":  {verb: "patch", contentType: "Application/Apply-Patch+yaml", want: true},
		"an apply of another format": {verb: "patch", contentType: "application/apply-patch+cbor", want: true},
		"a patch of no type":         {verb: "patch", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{"Content-Type": {tt.contentType}}}
			if got := mayCreate(r, &request.RequestInfo{Verb: tt.verb, Subresource: tt.subresource}); got != tt.want {
				t.Errorf("may create: %t, want %t", got, tt.want)
			}
		})
	}
}

// Apply makes objects that are not there, which takes a right of its own.
func TestApplyInTheNameOfThoseWhoMayNotCreate(t *testing.T) {
	for name, tt := range map[string]struct {
		allowed   []string
		wantGroup string
	}{
		"who may create":        {[]string{"alice patch pods in a", "alice create pods in a"}, "keelson:gateway:authorized"},
		"who may only patch it": {[]string{"alice patch pods in a"}, "keelson:gateway:authorized:without-create"},
	} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			api.allowed = tt.allowed
			s := serve(t, api, nil)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.url+"/api/v1/namespaces/a/pods/p?fieldManager=m",
				strings.NewReader(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"a"}}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"Content-Type": {"application/apply-patch+yaml"}, "Authorization": {"Bearer alice"}}
			answer, err := s.client("").Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			requests, _, _ := api.log()
			if len(requests) == 0 {
				t.Fatalf("code %d, and nothing reached the API server", answer.StatusCode)
			}
			for _, r := range requests {
				if r.User != "" && !slices.Contains(r.Groups, tt.wantGroup) {
					t.Errorf("%s came with the groups %q, which lack %s", r.What, r.Groups, tt.wantGroup)
				}
			}
		})
	}
}

func TestAnybodyMayLookAtTheHealth(t *testing.T) {
	api := newAPIServer(t)
	s := serve(t, api, nil)
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if code, _, body := s.ask(t, s.client(""), http.MethodGet, path, "", nil); code != 200 || body != "ok" {
			t.Errorf("%s: %d %s", path, code, body)
		}
		answer, err := http.Get(s.health + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s on the health address: %d", path, answer.StatusCode)
		}
	}
	api.Close()
	// What was seen a moment ago counts for that moment.
	deadline := time.Now().Add(30 * time.Second)
	for {
		code, _, body := s.ask(t, s.client(""), http.MethodGet, "/readyz", "", nil)
		if code == 503 && strings.Contains(body, "apiserver") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("without an API server /readyz says %d %s", code, body)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if code, _, _ := s.ask(t, s.client(""), http.MethodGet, "/livez", "", nil); code != 200 {
		t.Errorf("without an API server the gateway is not alive: %d", code)
	}
}

// Good credentials must not be taken for bad ones while nobody can be asked.
func TestWithoutTheAPIServerNobodyIsRejected(t *testing.T) {
	api := newAPIServer(t)
	s := serve(t, api, func(o *Options) { o.Authorization.AllowCacheTTL = metav1.Duration{} })
	api.Close()
	for name, tt := range map[string]struct {
		token, user string
	}{
		"a token": {token: "alice"}, "a certificate, whose rights nobody knows": {user: "carol"},
	} {
		code, status, body := s.ask(t, s.client(tt.user), http.MethodGet, "/api/v1/namespaces/a/pods", tt.token, nil)
		if code != http.StatusServiceUnavailable || status.Reason != metav1.StatusReasonServiceUnavailable {
			t.Errorf("%s: %d %s, want 503", name, code, body)
		}
	}
}

// A client that reads nothing keeps its place until the deadline, not for ever.
func TestAClientThatDoesNotReadLosesItsPlace(t *testing.T) {
	api := newAPIServer(t)
	block := make([]byte, 1<<20)
	api.answer = func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/slow") {
			return
		}
		for range 64 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	s := serve(t, api, func(o *Options) {
		o.Limits.MaxRequestsInFlight, o.Limits.RequestTimeout = 1, metav1.Duration{Duration: time.Second}
	})
	open(t, s, s.plainHTTP1(), "alice", "/api/v1/namespaces/a/configmaps/slow") // and read nothing
	client := s.client("")
	ask := func() int {
		code, _, _ := s.ask(t, client, http.MethodGet, "/api/v1/configmaps", "alice", nil)
		return code
	}
	if code := ask(); code != 429 {
		t.Fatalf("beside the slow one: %d, want 429", code)
	}
	deadline := time.Now().Add(30 * time.Second)
	for ask() != 200 {
		if time.Now().After(deadline) {
			t.Fatal("the slow client keeps its place")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestManyRequestsOfOneUser(t *testing.T) {
	api := newAPIServer(t)
	s := serve(t, api, func(o *Options) { o.Limits.UserQPS, o.Limits.UserBurst = 0.001, 2 })
	client := s.client("")
	var codes []int
	for range 4 {
		code, _, _ := s.ask(t, client, http.MethodGet, "/api/v1/configmaps", "alice", nil)
		codes = append(codes, code)
	}
	if diff := cmp.Diff([]int{200, 200, 429, 429}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if code, _, _ := s.ask(t, client, http.MethodGet, "/api/v1/configmaps", "root", nil); code != 200 {
		t.Errorf("another user gets %d", code)
	}
}

func TestARenewedCertificateIsTakenUp(t *testing.T) {
	api := newAPIServer(t)
	s := serve(t, api, nil)
	shown := func() string {
		answer, err := s.client("").Get(s.url + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.TLS.PeerCertificates[0].Subject.CommonName
	}
	if name := shown(); name != "first" {
		t.Fatalf("the certificate is %s", name)
	}
	s.serving("second")
	deadline := time.Now().Add(90 * time.Second)
	for shown() != "second" {
		if time.Now().After(deadline) {
			t.Fatal("the old certificate is shown still")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestOptionsAreValidatedAllAtOnce(t *testing.T) {
	o := NewOptions()
	o.Serving.CertFile, o.Serving.PrivateKeyFile = "c", "k"
	if err := o.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := &Options{
		Serving: Serving{BindAddress: "host", Port: 70000}, NodeAgent: NodeAgent{ClientKey: "k"}, HealthBindAddress: "x", MetricsBindAddress: "y",
		Limits: Limits{MaxRequestsInFlight: -1, MaxMutatingRequestsInFlight: -1, UserQPS: 1}, Authorization: Authorization{DenyCacheTTL: metav1.Duration{Duration: -1}},
		Shutdown: Shutdown{Delay: metav1.Duration{Duration: -1}},
	}
	err := fmt.Sprint(bad.Validate())
	for _, want := range []string{
		`--bind-address: "host"`, "--secure-port: 70000", "--tls-cert-file", "--tls-private-key-file", "--node-agent-client-certificate", "--health-bind-address", "--metrics-bind-address",
		"--max-requests-inflight", "--max-mutating-requests-inflight", "--user-burst", "--authorization-webhook-cache-unauthorized-ttl", "--shutdown-delay", "--request-timeout", "--drain-timeout",
	} {
		if !strings.Contains(err, want) {
			t.Errorf("the error lacks %q:\n%s", want, err)
		}
	}
}
