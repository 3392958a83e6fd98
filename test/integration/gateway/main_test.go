// Package gateway tests the gateway's handler against a real API server, through the
// clients that people use: typed clients in JSON and in protobuf, and plain requests.
package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// front is a gateway in front of the test's API server, with cluster-admin's rights.
type front struct {
	url string
	// json and protobuf are clients of the same gateway.
	json, protobuf *kubernetes.Clientset
	// crs reads what is stored.
	crs       client.Client
	namespace string
}

func start(t testing.TB) *front {
	t.Helper()
	return startAt(t, clock.RealClock{})
}

func startAt(t testing.TB, c clock.WithTicker) *front {
	t.Helper()
	f := &front{url: serve(t, handler(t, c)), crs: testEnv.Client, namespace: testEnv.Namespace(t)}
	f.json = clientset(t, &rest.Config{Host: f.url, QPS: -1, UserAgent: "tester/1.0"})
	protobuf := &rest.Config{Host: f.url, QPS: -1, UserAgent: "tester/1.0"}
	protobuf.ContentType = "application/vnd.kubernetes.protobuf"
	protobuf.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	f.protobuf = clientset(t, protobuf)
	return f
}

func clientset(t testing.TB, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handler is the gateway with the one filter that it cannot do without.
func handler(t testing.TB, c clock.WithTicker) http.Handler {
	t.Helper()
	transport, err := rest.TransportFor(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	base, err := url.Parse(testEnv.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	if base.Scheme == "" {
		base, err = url.Parse("https://" + testEnv.Config.Host)
		if err != nil {
			t.Fatal(err)
		}
	}
	inner, err := gateway.New(gateway.Config{Table: table.Keelson(), Upstream: upstream.New(base, transport), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := infos.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		inner.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	})
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// answer is what came back from a plain request.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// tree is the body as JSON.
func (a answer) tree(t testing.TB) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal(a.body, &tree); err != nil {
		t.Fatalf("answer %d is no JSON: %v: %s", a.code, err, a.body)
	}
	return tree
}

// message is the message of a Status.
func (a answer) message(t testing.TB) string {
	t.Helper()
	var status metav1.Status
	if err := json.Unmarshal(a.body, &status); err != nil || status.Kind != "Status" {
		t.Fatalf("answer %d is no Status: %s", a.code, a.body)
	}
	return status.Message
}

// do sends a request with headers as "Name: value".
func (f *front) do(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, bytes.TrimSpace(read)}
}

// pods is the path of the test's Pods.
func (f *front) pods(parts ...string) string {
	return strings.Join(append([]string{"/api/v1/namespaces", f.namespace, "pods"}, parts...), "/")
}

func makePod(name string, options ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "main", Image: "image:1"}},
			TerminationGracePeriodSeconds: new(int64(30)),
		},
	}
	for _, option := range options {
		option(pod)
	}
	return pod
}

// onNode is a Pod that a node holds, as admission and the scheduler make it.
func onNode(pod *corev1.Pod) {
	pod.Spec.NodeName = "node-1"
	pod.Finalizers = append(pod.Finalizers, keelsonv1.PodFinalizer)
}

func (f *front) create(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := f.json.CoreV1().Pods(f.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// stored is the Pod as the API server keeps it.
func (f *front) stored(t testing.TB, name string) *keelsonv1.Pod {
	t.Helper()
	pod := &keelsonv1.Pod{}
	if err := f.crs.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: name}, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}
