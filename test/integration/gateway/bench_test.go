package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Benchmarks of the promise that the gateway costs little: one GET, and a LIST of 1,000
// Pods, straight from the API server and through the gateway. Run them with
//
//	go test -run ^$ -bench . -benchtime 200x ./test/integration/gateway

const benchmarkPods = 1000

func BenchmarkGet(b *testing.B) {
	f := start(b)
	f.create(b, bigPod("a"))
	compare(b, f, "/a")
}

func BenchmarkList1000(b *testing.B) {
	f := start(b)
	for i := range benchmarkPods {
		f.create(b, bigPod(fmt.Sprintf("pod-%d", i)))
	}
	compare(b, f, "")
}

// bigPod is of the size of Pods of real clusters.
func bigPod(name string) *corev1.Pod {
	return makePod(name, onNode, func(p *corev1.Pod) {
		p.Annotations = map[string]string{"note": strings.Repeat("x", 1500)}
		for i := range 12 {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: strings.Repeat("v", 60)})
		}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ReplicationController", Name: "rc", UID: "u"}}
	})
}

// compare measures by turns, so that what else the machine does weighs on both.
func compare(b *testing.B, f *front, name string) {
	direct, err := rest.TransportFor(testEnv.Config)
	if err != nil {
		b.Fatal(err)
	}
	host := strings.TrimSuffix(testEnv.Config.Host, "/")
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	stored := host + "/apis/core.keelson.dev/v1/namespaces/" + f.namespace + "/pods" + name
	shown := f.url + "/api/v1/namespaces/" + f.namespace + "/pods" + name
	fetch(b, direct, stored)
	fetch(b, http.DefaultTransport, shown)
	var times [2][]time.Duration
	for b.Loop() {
		times[0] = append(times[0], fetch(b, direct, stored))
		times[1] = append(times[1], fetch(b, http.DefaultTransport, shown))
	}
	p50 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	through, straight := p50(times[1]), p50(times[0])
	b.ReportMetric(straight, "ms-direct-p50")
	b.ReportMetric(through, "ms-gateway-p50")
	b.ReportMetric(through-straight, "ms-added-p50")
	b.ReportMetric(through/straight, "ratio")
}

func fetch(b *testing.B, transport http.RoundTripper, url string) time.Duration {
	began := time.Now()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	response, err := transport.RoundTrip(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.Status, err)
	}
	return time.Since(began)
}
