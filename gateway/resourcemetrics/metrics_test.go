package resourcemetrics_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned"
	testclock "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/nodes/nodestest"
	"github.com/keelson-dev/keelson/gateway/resourcemetrics"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

const core = "/apis/core.keelson.dev/v1"

// now is when all is measured and asked.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newFront(t *testing.T, timeout time.Duration) (*nodestest.Cluster, string) {
	t.Helper()
	cluster := nodestest.New(t)
	locator, err := nodes.New(nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := resourcemetrics.New(resourcemetrics.Options{
		Upstream: cluster.Upstream,
		Nodes:    locator,
		Codec:    codec.New(translate.New(table.Keelson())),
		Clock:    testclock.NewFakePassiveClock(now),
		Timeout:  timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	factory := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := factory.NewRequestInfo(r)
		if err != nil {
			t.Error(err)
			return
		}
		handler.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	}))
	t.Cleanup(server.Close)
	return cluster, server.URL
}

// used is a measurement, in thousandths of a core and in MiB.
func used(milli, mib uint64) (*statsv1alpha1.CPUStats, *statsv1alpha1.MemoryStats) {
	return &statsv1alpha1.CPUStats{Time: metav1.NewTime(now), UsageNanoCores: new(milli * 1_000_000)},
		&statsv1alpha1.MemoryStats{Time: metav1.NewTime(now), WorkingSetBytes: new(mib << 20)}
}

// stats are of a Pod whose UID is its name, with one container for each pair of numbers.
func stats(name string, numbers ...uint64) statsv1alpha1.PodStats {
	pod := statsv1alpha1.PodStats{PodRef: statsv1alpha1.PodReference{Name: name, Namespace: "default", UID: name}}
	for i := 0; i+1 < len(numbers); i += 2 {
		container := statsv1alpha1.ContainerStats{Name: fmt.Sprintf("c%d", i/2)}
		container.CPU, container.Memory = used(numbers[i], numbers[i+1])
		pod.Containers = append(pod.Containers, container)
	}
	return pod
}

// answers serves a summary and nothing else.
func answers(t *testing.T, milli, mib uint64, pods ...statsv1alpha1.PodStats) http.Handler {
	summary := statsv1alpha1.Summary{Pods: pods}
	summary.Node.CPU, summary.Node.Memory = used(milli, mib)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.URL.RequestURI(), "/stats/summary?only_cpu_and_memory=true"; got != want {
			t.Errorf("the agent was asked for %s, want %s", got, want)
		}
		_ = json.NewEncoder(w).Encode(summary)
	})
}

func running(name, node string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": name}}}
	pod.Spec.NodeName = node
	pod.Status.Phase = corev1.PodRunning
	return pod
}

// list puts the lists that an API server would answer with.
func list(cluster *nodestest.Cluster, all []*keelsonv1.Node, pods ...*keelsonv1.Pod) {
	nodeList := keelsonv1.NodeList{}
	for _, node := range all {
		nodeList.Items = append(nodeList.Items, *node)
	}
	cluster.Put("/nodes", nodeList)
	metas := metav1.PartialObjectMetadataList{}
	for _, pod := range pods {
		cluster.PutPod(pod)
		metas.Items = append(metas.Items, metav1.PartialObjectMetadata{ObjectMeta: pod.ObjectMeta})
	}
	cluster.Put("/pods", metas)
	cluster.Put("/namespaces/default/pods", metas)
}

func ask(t *testing.T, url, accept string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// show is metrics in one line each.
func showNodes(t *testing.T, client metricsclient.Interface, options metav1.ListOptions) []string {
	t.Helper()
	all, err := client.MetricsV1beta1().NodeMetricses().List(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{}
	for _, m := range all.Items {
		shown = append(shown, fmt.Sprintf("%s cpu=%s memory=%s window=%s at=%s", m.Name, m.Usage.Cpu(), m.Usage.Memory(), m.Window.Duration, m.Timestamp.UTC().Format(time.RFC3339)))
	}
	return shown
}

func showPods(t *testing.T, client metricsclient.Interface, namespace string) []string {
	t.Helper()
	all, err := client.MetricsV1beta1().PodMetricses(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{}
	for _, m := range all.Items {
		line := fmt.Sprintf("%s/%s app=%s", m.Namespace, m.Name, m.Labels["app"])
		for _, c := range m.Containers {
			line += fmt.Sprintf(" %s:%s,%s", c.Name, c.Usage.Cpu(), c.Usage.Memory())
		}
		shown = append(shown, line)
	}
	return shown
}

// TestStockClients: the client library of metrics.k8s.io, in JSON and in protobuf.
func TestStockClients(t *testing.T) {
	for _, content := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(content, func(t *testing.T) {
			cluster, url := newFront(t, 0)
			n2, _ := cluster.AddAgent("n2", answers(t, 1500, 2048, stats("b", 250, 64, 5, 16), stats("gone", 1, 1)))
			n1, _ := cluster.AddAgent("n1", answers(t, 2, 512, stats("a", 1, 3)))
			list(cluster, []*keelsonv1.Node{n2, n1}, running("b", "n2"), running("a", "n1"), running("unmeasured", "n1"))
			client := metricsclient.NewForConfigOrDie(&rest.Config{Host: url, ContentConfig: rest.ContentConfig{ContentType: content, AcceptContentTypes: content}})

			want := []string{
				"n1 cpu=2m memory=512Mi window=10s at=2026-01-02T03:04:05Z",
				"n2 cpu=1500m memory=2Gi window=10s at=2026-01-02T03:04:05Z",
			}
			if diff := cmp.Diff(want, showNodes(t, client, metav1.ListOptions{})); diff != "" {
				t.Errorf("nodes (-want +got):\n%s", diff)
			}
			want = []string{"default/a app=a c0:1m,3Mi", "default/b app=b c0:250m,64Mi c1:5m,16Mi"}
			for _, namespace := range []string{"", "default"} {
				if diff := cmp.Diff(want, showPods(t, client, namespace)); diff != "" {
					t.Errorf("Pods of namespace %q (-want +got):\n%s", namespace, diff)
				}
			}
			node, err := client.MetricsV1beta1().NodeMetricses().Get(t.Context(), "n2", metav1.GetOptions{})
			if err != nil || node.Usage.Cpu().MilliValue() != 1500 {
				t.Errorf("got %v, %v", node, err)
			}
			pod, err := client.MetricsV1beta1().PodMetricses("default").Get(t.Context(), "b", metav1.GetOptions{})
			if err != nil || len(pod.Containers) != 2 {
				t.Errorf("got %v, %v", pod, err)
			}
		})
	}
}

// TestSelectorsGoToTheAPIServer, in the gateway's name, beside our own.
func TestSelectorsGoToTheAPIServer(t *testing.T) {
	cluster, url := newFront(t, 0)
	list(cluster, nil)
	ask(t, url+"/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dx&fieldSelector=metadata.name%3Dp", "")
	ask(t, url+"/apis/metrics.k8s.io/v1beta1/nodes?labelSelector=zone", "")
	want := []nodestest.Seen{
		{
			Path:     core + "/namespaces/default/pods",
			Query:    map[string][]string{"labelSelector": {"app=x"}, "fieldSelector": {"metadata.name=p,status.phase=Running"}},
			Accept:   "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
			Identity: upstream.Gateway,
		},
		{Path: core + "/nodes", Query: map[string][]string{"labelSelector": {"zone"}}, Accept: "application/json", Identity: upstream.Gateway},
	}
	if diff := cmp.Diff(want, cluster.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestANodeThatDoesNotAnswerIsLeftOut: one is silent, one refuses, one talks nonsense, one
// has no measurement yet, one has no address.
func TestANodeThatDoesNotAnswerIsLeftOut(t *testing.T) {
	cluster, url := newFront(t, 300*time.Millisecond)
	end := make(chan struct{})
	defer close(end)
	silent, _ := cluster.AddAgent("silent", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	refuses, _ := cluster.AddAgent("refuses", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	nonsense, _ := cluster.AddAgent("nonsense", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<") }))
	fresh, _ := cluster.AddAgent("fresh", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		summary := statsv1alpha1.Summary{}
		_, summary.Node.Memory = used(0, 1)
		_ = json.NewEncoder(w).Encode(summary)
	}))
	good, _ := cluster.AddAgent("good", answers(t, 1, 1, stats("p", 1, 1)))
	lost := nodestest.Node("lost", "10.0.0.1")
	lost.Status.Addresses = nil
	list(cluster, []*keelsonv1.Node{silent, refuses, nonsense, fresh, good, lost}, running("p", "good"), running("q", "silent"))
	client := metricsclient.NewForConfigOrDie(&rest.Config{Host: url})
	begin := time.Now()
	if diff := cmp.Diff([]string{"good cpu=1m memory=1Mi window=10s at=2026-01-02T03:04:05Z"}, showNodes(t, client, metav1.ListOptions{})); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v to wait 300ms for one node", took)
	}
	if diff := cmp.Diff([]string{"default/p app=p c0:1m,1Mi"}, showPods(t, client, "default")); diff != "" {
		t.Errorf("Pods (-want +got):\n%s", diff)
	}
	for _, path := range []string{"nodes/silent", "nodes/refuses", "nodes/fresh", "namespaces/default/pods/q"} {
		if code, body := ask(t, url+"/apis/metrics.k8s.io/v1beta1/"+path, ""); code != http.StatusNotFound {
			t.Errorf("%s: got %d %s, want not found", path, code, body)
		}
	}
}

// TestAgentsAreAskedAtOnce, and not more of them than the bound.
func TestAgentsAreAskedAtOnce(t *testing.T) {
	cluster, url := newFront(t, 0)
	const all = 40
	var inside, most atomic.Int32
	release := make(chan struct{})
	var agents []*keelsonv1.Node
	for i := range all {
		node, _ := cluster.AddAgent(fmt.Sprintf("n%02d", i), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if most.CompareAndSwap(inside.Load(), inside.Add(1)) && inside.Load() == 32 {
				close(release)
			}
			<-release
			answers(t, 1, 1).ServeHTTP(w, r)
		}))
		agents = append(agents, node)
	}
	list(cluster, agents)
	if got := showNodes(t, metricsclient.NewForConfigOrDie(&rest.Config{Host: url}), metav1.ListOptions{}); len(got) != all {
		t.Errorf("%d nodes have metrics, want %d", len(got), all)
	}
}

func TestTables(t *testing.T) {
	cluster, url := newFront(t, 0)
	n1, _ := cluster.AddAgent("n1", answers(t, 1500, 2048, stats("p", 250, 64, 5, 16)))
	list(cluster, []*keelsonv1.Node{n1}, running("p", "n1"))
	const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	for path, want := range map[string][]any{
		"nodes":                     {"n1", "1500m", "2Gi", "10s"},
		"nodes/n1":                  {"n1", "1500m", "2Gi", "10s"},
		"pods":                      {"p", "255m", "80Mi", "10s"},
		"namespaces/default/pods/p": {"p", "255m", "80Mi", "10s"},
	} {
		code, body := ask(t, url+"/apis/metrics.k8s.io/v1beta1/"+path, accept)
		shown := metav1.Table{}
		if err := json.Unmarshal([]byte(body), &shown); err != nil || code != http.StatusOK || shown.Kind != "Table" {
			t.Fatalf("%s: got %d %s", path, code, body)
		}
		var columns []string
		for _, column := range shown.ColumnDefinitions {
			columns = append(columns, column.Name)
		}
		if diff := cmp.Diff([]string{"Name", "cpu", "memory", "Window"}, columns); diff != "" {
			t.Errorf("%s: columns (-want +got):\n%s", path, diff)
		}
		if len(shown.Rows) != 1 {
			t.Fatalf("%s: %d rows", path, len(shown.Rows))
		}
		if diff := cmp.Diff(want, shown.Rows[0].Cells); diff != "" {
			t.Errorf("%s: cells (-want +got):\n%s", path, diff)
		}
		if !strings.Contains(string(shown.Rows[0].Object.Raw), `"kind":"PartialObjectMetadata"`) {
			t.Errorf("%s: the row's object is %s", path, shown.Rows[0].Object.Raw)
		}
	}
	code, body := ask(t, url+"/apis/metrics.k8s.io/v1beta1/pods", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	if code != http.StatusOK || !strings.Contains(body, `"kind":"PartialObjectMetadataList"`) || strings.Contains(body, "containers") {
		t.Errorf("got %d %s", code, body)
	}
	code, body = ask(t, url+"/apis/metrics.k8s.io/v1beta1/nodes/n1", "application/yaml")
	if code != http.StatusOK || !strings.Contains(body, "kind: NodeMetrics\n") || !strings.Contains(body, "cpu: 1500m") {
		t.Errorf("got %d %s", code, body)
	}
}

func TestRefusals(t *testing.T) {
	cluster, url := newFront(t, 0)
	list(cluster, nil)
	const base = "/apis/metrics.k8s.io/v1beta1/"
	for name, test := range map[string]struct {
		method, path string
		code         int
		want         string
	}{
		"a node that is not":           {"GET", base + "nodes/ghost", 404, `nodemetrics.metrics.k8s.io \"ghost\" not found`},
		"a Pod that is not":            {"GET", base + "namespaces/default/pods/ghost", 404, `podmetrics.metrics.k8s.io \"default/ghost\" not found`},
		"a watch":                      {"GET", base + "nodes?watch=true", 405, `watch is not supported on resources of kind \"nodes.metrics.k8s.io\"`},
		"a deletion":                   {"DELETE", base + "nodes/n", 405, `delete is not supported on resources of kind \"nodes.metrics.k8s.io\"`},
		"another resource":             {"GET", base + "services", 404, "the server could not find the requested resource"},
		"another version":              {"GET", "/apis/metrics.k8s.io/v1/nodes", 404, "the server could not find the requested resource"},
		"a selector that is none":      {"GET", base + "nodes?labelSelector=%3D%3D", 400, "unable to parse requirement"},
		"a selector of another field":  {"GET", base + "pods?fieldSelector=spec.nodeName%3Dn", 400, "field label not supported: spec.nodeName"},
		"a node in a namespace":        {"GET", base + "namespaces/default/nodes", 404, "the server could not find the requested resource"},
		"a Pod in no namespace":        {"GET", base + "pods/p", 404, "the server could not find the requested resource"},
		"a name that would be a path":  {"GET", base + "nodes/%2E%2E", 404, `nodemetrics.metrics.k8s.io \"..\" not found`},
		"a content type that nobody's": {"GET", base + "nodes", 406, "only the following media types are accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), test.method, url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.code == 406 {
				r.Header.Set("Accept", "image/png")
			}
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != test.code || !strings.Contains(string(body), test.want) {
				t.Errorf("got %d %s, want %d %s", response.StatusCode, body, test.code, test.want)
			}
		})
	}
}
