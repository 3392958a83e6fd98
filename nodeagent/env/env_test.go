package env

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "2", "LOOP": "$(A)", "EMPTY": ""}
	lookup := func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
	tests := map[string]string{
		"plain":              "plain",
		"$(A)":               "1",
		"a$(A)b$(B)c":        "a1b2c",
		"$(A)$(A)":           "11",
		"[$(EMPTY)]":         "[]",
		"$(NOBODY)":          "$(NOBODY)",
		"$$(A)":              "$(A)",
		"$$$(A)":             "$1",
		"$$$$(A)":            "$$(A)",
		"$(LOOP)":            "$(A)",
		"$":                  "$",
		"$$":                 "$",
		"a$":                 "a$",
		"$A":                 "$A",
		"${A}":               "${A}",
		"$(A":                "$(A",
		"$(A $(B)":           "$(A $(B)",
		"$()":                "$()",
		"é$(A)é $é":          "é1é $é",
		"$(A)$":              "1$",
		"price: 5$ and $(B)": "price: 5$ and 2",
	}
	for in, want := range tests {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"$(A)", "$$(A", "$", "$(", "é$", "$$$$"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		none := func(string) (string, bool) { return "", false }
		once := Expand(text, none)
		if len(once) > len(text) {
			t.Errorf("Expand(%q) grew to %q without a value", text, once)
		}
	})
}

func makeService(namespace, name, ip string, ports ...corev1.ServicePort) keelsonv1.Service {
	s := keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.ClusterIP, s.Spec.Ports = ip, ports
	return s
}

func port(name string, protocol corev1.Protocol, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: protocol, Port: number}
}

func TestServices(t *testing.T) {
	api := makeService("default", "kubernetes", "10.254.0.1", port("https", "TCP", 443))
	apiVariables := []Variable{
		{"KUBERNETES_SERVICE_HOST", "10.254.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"},
		{"KUBERNETES_SERVICE_PORT_HTTPS", "443"}, {"KUBERNETES_PORT", "tcp://10.254.0.1:443"},
		{"KUBERNETES_PORT_443_TCP", "tcp://10.254.0.1:443"}, {"KUBERNETES_PORT_443_TCP_PROTO", "tcp"},
		{"KUBERNETES_PORT_443_TCP_PORT", "443"}, {"KUBERNETES_PORT_443_TCP_ADDR", "10.254.0.1"},
	}
	tests := map[string]struct {
		services []keelsonv1.Service
		noLinks  bool
		want     []Variable
	}{
		"ENV-01 to ENV-04: both forms, the first port, one set for each protocol": {
			services: []keelsonv1.Service{makeService("app", "my-dns", "10.254.105.183", port("dns", "UDP", 53), port("dns-tcp", "TCP", 53))},
			want: []Variable{
				{"MY_DNS_SERVICE_HOST", "10.254.105.183"}, {"MY_DNS_SERVICE_PORT", "53"},
				{"MY_DNS_SERVICE_PORT_DNS", "53"}, {"MY_DNS_SERVICE_PORT_DNS_TCP", "53"},
				{"MY_DNS_PORT", "udp://10.254.105.183:53"},
				{"MY_DNS_PORT_53_UDP", "udp://10.254.105.183:53"}, {"MY_DNS_PORT_53_UDP_PROTO", "udp"},
				{"MY_DNS_PORT_53_UDP_PORT", "53"}, {"MY_DNS_PORT_53_UDP_ADDR", "10.254.105.183"},
				{"MY_DNS_PORT_53_TCP", "tcp://10.254.105.183:53"}, {"MY_DNS_PORT_53_TCP_PROTO", "tcp"},
				{"MY_DNS_PORT_53_TCP_PORT", "53"}, {"MY_DNS_PORT_53_TCP_ADDR", "10.254.105.183"},
			},
		},
		"ENV-05: other namespaces are not heard of, the API server is": {
			services: []keelsonv1.Service{api, makeService("other", "secret", "10.254.0.9", port("", "TCP", 80))},
			want:     apiVariables,
		},
		"without links the API server alone": {
			services: []keelsonv1.Service{api, makeService("app", "web", "10.254.0.9", port("", "TCP", 80))},
			noLinks:  true,
			want:     apiVariables,
		},
		"a namespace's own kubernetes does not hide the API server": {
			services: []keelsonv1.Service{makeService("app", "kubernetes", "10.254.0.9", port("", "TCP", 80)), api},
			want:     apiVariables,
		},
		"no address yet, or none ever": {
			services: []keelsonv1.Service{makeService("app", "new", "", port("", "TCP", 80)), makeService("app", "headless", "None", port("", "TCP", 80))},
		},
		"no port": {services: []keelsonv1.Service{makeService("app", "portless", "10.254.0.9")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Services(tt.services, "app", !tt.noLinks)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("variables (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAwaitedServices(t *testing.T) {
	const second = time.Second
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	http := port("", "TCP", 80)
	at := func(s keelsonv1.Service, offset time.Duration) keelsonv1.Service {
		s.CreationTimestamp = metav1.NewTime(born.Add(offset))
		return s
	}
	external := at(makeService("app", "external", "", http), -second)
	external.Spec.Type = corev1.ServiceTypeExternalName
	deleted := at(makeService("app", "deleted", "", http), -second)
	deleted.DeletionTimestamp = new(metav1.NewTime(born))
	api := at(makeService("default", "kubernetes", "", http), -second)
	tests := map[string]struct {
		services []keelsonv1.Service
		noLinks  bool
		want     []string
	}{
		"older, and of the same second": {
			services: []keelsonv1.Service{at(makeService("app", "same", "", http), 0), at(makeService("app", "older", "", http), -second)},
			want:     []string{"older", "same"},
		},
		"younger than the Pod":           {services: []keelsonv1.Service{at(makeService("app", "younger", "", http), second)}},
		"with an address, or never":      {services: []keelsonv1.Service{at(makeService("app", "web", "10.254.0.9", http), -second), at(makeService("app", "headless", "None", http), -second), external}},
		"without ports nothing is said":  {services: []keelsonv1.Service{at(makeService("app", "portless", ""), -second)}},
		"being deleted":                  {services: []keelsonv1.Service{deleted}},
		"the API server, without links":  {services: []keelsonv1.Service{api, at(makeService("app", "web", "", http), -second)}, noLinks: true, want: []string{"kubernetes"}},
		"of other namespaces, not heard": {services: []keelsonv1.Service{at(makeService("other", "web", "", http), -second)}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "app", CreationTimestamp: metav1.NewTime(born)}}
			pod.Spec.EnableServiceLinks = new(!tt.noLinks)
			if diff := cmp.Diff(tt.want, AwaitedServices(pod, tt.services)); diff != "" {
				t.Errorf("awaited (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompute(t *testing.T) {
	services := []Variable{{"DB_SERVICE_HOST", "10.254.0.7"}, {"WEB_SERVICE_HOST", "10.254.0.8"}}
	tests := map[string]struct {
		container corev1.Container
		want      Environment
	}{
		"values refer to earlier ones and to Services": {
			container: corev1.Container{Env: []corev1.EnvVar{
				{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}, {Name: "LATE", Value: "$(C)"}, {Name: "C", Value: "3"},
				{Name: "URL", Value: "http://$(DB_SERVICE_HOST)/"},
			}},
			want: Environment{Env: []string{
				"A=1", "B=12", "LATE=$(C)", "C=3", "URL=http://10.254.0.7/",
				"DB_SERVICE_HOST=10.254.0.7", "WEB_SERVICE_HOST=10.254.0.8",
			}},
		},
		"the Pod's own variable hides a Service's": {
			container: corev1.Container{Env: []corev1.EnvVar{{Name: "DB_SERVICE_HOST", Value: "mine"}}},
			want:      Environment{Env: []string{"DB_SERVICE_HOST=mine", "WEB_SERVICE_HOST=10.254.0.8"}},
		},
		"the last of two equal names wins": {
			container: corev1.Container{Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "$(A)2"}}},
			want:      Environment{Env: []string{"A=12", "DB_SERVICE_HOST=10.254.0.7", "WEB_SERVICE_HOST=10.254.0.8"}},
		},
		"command and args": {
			container: corev1.Container{
				Env: []corev1.EnvVar{{Name: "WHO", Value: "world"}}, Command: []string{"echo", "$(WHO)"}, Args: []string{"$$(WHO)", "$(NOBODY)"},
			},
			want: Environment{
				Env:     []string{"WHO=world", "DB_SERVICE_HOST=10.254.0.7", "WEB_SERVICE_HOST=10.254.0.8"},
				Command: []string{"echo", "world"}, Args: []string{"$(WHO)", "$(NOBODY)"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Compute(Input{Container: &tt.container, Services: services})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}
