package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// ingressesFrom reads the specs of Ingresses a, b, c and so on, oldest first.
func ingressesFrom(t *testing.T, specs ...string) []*networkingv1.Ingress {
	t.Helper()
	var all []*networkingv1.Ingress
	for i, spec := range specs {
		ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: string(rune('a' + i)), CreationTimestamp: metav1.Unix(int64(i), 0),
		}}
		if err := yaml.UnmarshalStrict([]byte(spec), &ingress.Spec); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		all = append([]*networkingv1.Ingress{ingress}, all...) // a lister keeps no order
	}
	return all
}

// services have the address 10.0.0.<length of the name>.
func services(name types.NamespacedName) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIP: fmt.Sprintf("10.0.0.%d", len(name.Name)), Ports: []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "admin", Port: 81}},
	}}
	switch name.Name {
	case "missing":
		return nil
	case "headless":
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return s
}

func path(path, kind, service string) string {
	return fmt.Sprintf("{path: %s, pathType: %s, backend: {service: {name: %s, port: {number: 80}}}}", path, kind, service)
}

func host(host string, paths ...string) string {
	return fmt.Sprintf("rules: [{host: %q, http: {paths: [%s]}}]", host, strings.Join(paths, ", "))
}

func TestRequestsTakeTheirRoute(t *testing.T) {
	const book = "my.example.com"
	for name, tc := range map[string]struct {
		specs []string
		want  map[string]string // request: target, or the problem, or nothing
	}{
		"host and path must match": {
			[]string{host(book, path("/app", "Prefix", "my-app"))},
			map[string]string{book + "/app": "10.0.0.6:80", book + "/app/": "10.0.0.6:80", book + "/app/x": "10.0.0.6:80", book + "/apple": "", book + "/": "", "other.example.com/app": ""},
		},
		"an exact path is that alone": {
			[]string{host(book, path("/app", "Exact", "a"))},
			map[string]string{book + "/app": "10.0.0.1:80", book + "/app/": "", book + "/app/x": ""},
		},
		"the longest prefix wins, an exact path over it": {
			[]string{host(book, path("/", "Prefix", "a"), path("/x", "Prefix", "bb"), path("/x/y", "Prefix", "ccc"), path("/x/y", "Exact", "dddd"))},
			map[string]string{book + "/z": "10.0.0.1:80", book + "/x/z": "10.0.0.2:80", book + "/x/y/z": "10.0.0.3:80", book + "/x/y": "10.0.0.4:80"},
		},
		"a whole host wins over a wildcard, and that over none": {
			[]string{host("", path("/", "Prefix", "a")), host("*.example.com", path("/", "Prefix", "bb")), host(book, path("/", "Prefix", "ccc"))},
			map[string]string{book + "/": "10.0.0.3:80", "x.example.com/": "10.0.0.2:80", "x.y.example.com/": "10.0.0.1:80", "example.com/": "10.0.0.1:80"},
		},
		"an older Ingress wins": {
			[]string{host(book, path("/", "Prefix", "a")), host(book, path("/", "Prefix", "bb"))},
			map[string]string{book + "/": "10.0.0.1:80"},
		},
		"what nobody takes goes to the default backend": {
			[]string{"defaultBackend: {service: {name: a, port: {name: admin}}}", host("", path("/app", "Prefix", "bb"))},
			map[string]string{"x/app": "10.0.0.2:80", "x/y": "10.0.0.1:81"},
		},
		"a backend that is not there is no other route's affair": {
			[]string{host(book, path("/", "Prefix", "a"), path("/m", "Prefix", "missing"), path("/h", "Prefix", "headless"),
				"{path: /p, pathType: Prefix, backend: {service: {name: bb, port: {name: nosuch}}}}", "{path: /r, pathType: Prefix, backend: {resource: {kind: Bucket, name: b}}}")},
			map[string]string{book + "/m": "there is no Service ns/missing", book + "/h": "Service ns/headless has no address",
				book + "/p": "Service ns/bb has no port nosuch", book + "/r": "the backend is no Service", book + "/": "10.0.0.1:80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			routes := computeRoutes(ingressesFrom(t, tc.specs...), services)
			got := map[string]string{}
			for request := range tc.want {
				host, path, _ := strings.Cut(request, "/")
				for _, r := range routes {
					if !r.takes(host, "/"+path) {
						continue
					}
					if got[request] = r.problem; r.target != nil {
						got[request] = r.target.Host
					}
					break
				}
				if _, ok := got[request]; !ok {
					got[request] = ""
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProxyPassesOnWhatWasAsked(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.RequestURI+" for "+r.Header.Get("X-Forwarded-For"))
	}))
	defer backend.Close()
	routes := computeRoutes(ingressesFrom(t, host("my.example.com", path("/app", "Prefix", "a"), path("/m", "Prefix", "missing"), path("/d", "Prefix", "bb"))), services)
	for i := range routes {
		switch routes[i].path {
		case "/app":
			routes[i].target.Host = strings.TrimPrefix(backend.URL, "http://")
		case "/d":
			routes[i].target.Host = "127.0.0.1:1"
		}
	}
	var current atomic.Pointer[[]route]
	current.Store(&routes)
	p := newProxy(&current)
	for url, want := range map[string]string{
		"http://my.example.com/app/x?y=%2F": "200 my.example.com /app/x?y=%2F for 192.0.2.1",
		"http://MY.example.com.:8080/app":   "200 MY.example.com.:8080 /app for 192.0.2.1",
		"http://my.example.com/m":           "503 there is no Service ns/missing",
		"http://my.example.com/d":           "502 the server behind this address does not answer",
		"http://my.example.com/":            "404 no Ingress names this host and path",
	} {
		answer := httptest.NewRecorder()
		p.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, url, nil))
		if got := fmt.Sprintf("%d %s", answer.Code, strings.TrimSpace(answer.Body.String())); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func TestStatusListsTheAddressesOfTheServiceInFront(t *testing.T) {
	outside := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}
	outside.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}, {Hostname: "x.example.com"}}
	type addresses = []networkingv1.IngressLoadBalancerIngress
	for name, tc := range map[string]struct {
		service *corev1.Service
		want    addresses
	}{
		"no Service":           {nil, nil},
		"addresses outside":    {outside, addresses{{IP: "192.0.2.7"}, {Hostname: "x.example.com"}}},
		"one of the cluster":   {&corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}, addresses{{IP: "10.0.0.1"}}},
		"no address at all":    {&corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None"}}, nil},
		"not allocated so far": {&corev1.Service{}, nil},
	} {
		if diff := cmp.Diff(tc.want, computeStatus(tc.service)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := parseName("nowhere"); err == nil || !strings.Contains(err.Error(), "NAMESPACE/NAME") {
		t.Errorf("a name without a namespace: %v", err)
	}
}
