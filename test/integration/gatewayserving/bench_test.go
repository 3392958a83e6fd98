package gatewayserving

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// BenchmarkAgainstTheStoredForm measures what the served gateway adds: the same bytes
// are read through it and, as custom resources, past it, in turns, so that both see the
// same machine. It reports medians.
func BenchmarkAgainstTheStoredForm(b *testing.B) {
	f := start(b)
	f.account("reader",
		rbacv1.PolicyRule{APIGroups: []string{"", "core.keelson.dev"}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "create"}})
	token := f.token(f.namespace, "reader")
	through := &rest.Config{Host: f.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: f.ca}}
	past := rest.AnonymousClientConfig(testEnv.Config)
	past.BearerToken = token
	past.CAData = testEnv.Config.CAData
	pods := f.client(token, rest.ImpersonationConfig{}).CoreV1().Pods(f.namespace)
	create := func(from, to int) {
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := from + worker; i < to; i += 8 {
					if _, err := pods.Create(b.Context(), pod(fmt.Sprintf("p%d", i)), metav1.CreateOptions{}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	create(0, 1)
	b.Run("GET", func(b *testing.B) { compare(b, f.namespace, "/p0", through, past) })
	create(1, 1000)
	b.Run("LIST of 1000", func(b *testing.B) { compare(b, f.namespace, "", through, past) })
}

func compare(b *testing.B, namespace, name string, through, past *rest.Config) {
	ask := func(config *rest.Config, path string) func() time.Duration {
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			b.Fatal(err)
		}
		base, _, err := rest.DefaultServerUrlFor(config)
		if err != nil {
			b.Fatal(err)
		}
		url := base.JoinPath(path).String()
		return func() time.Duration {
			begin := time.Now()
			answer, err := client.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			defer answer.Body.Close()
			if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
				b.Fatal(answer.Status, err)
			}
			return time.Since(begin)
		}
	}
	plain := ask(through, "/api/v1/namespaces/"+namespace+"/pods"+name)
	stored := ask(past, "/apis/core.keelson.dev/v1/namespaces/"+namespace+"/pods"+name)
	var a, z []time.Duration
	for b.Loop() {
		a, z = append(a, plain()), append(z, stored())
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Microseconds()) }
	b.ReportMetric(median(a), "µs-through")
	b.ReportMetric(median(z), "µs-past")
	b.ReportMetric(median(a)-median(z), "µs-added")
	b.ReportMetric(median(a)/median(z), "ratio")
}
