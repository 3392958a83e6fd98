package podautoscaler

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestQueries(t *testing.T) {
	var query, answer string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Path + " " + r.URL.Query().Get("query")
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	p, err := NewPrometheus(server.URL + "/prefix")
	if err != nil {
		t.Fatal(err)
	}
	selector, err := labels.Parse("verb=GET,code in (200,2.0),!canary,zone!=a")
	if err != nil {
		t.Fatal(err)
	}
	vector := func(series ...string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
	}
	answer = vector(`{"metric":{"pod":"a"},"value":[1,"1.5"]}`, `{"metric":{"pod":"b"},"value":[1,"2"]}`, `{"metric":{},"value":[1,"9"]}`)
	values, err := p.Pods(t.Context(), "n", "qps", selector)
	if diff := cmp.Diff(map[string]int64{"a": 1500, "b": 2000}, values); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := `/prefix/api/v1/query sum by (pod) (qps{namespace="n",canary="",code=~"2\\.0|200",verb=~"GET",zone!~"a"})`; query != want {
		t.Errorf("asked %s, want %s", query, want)
	}
	value, err := p.Object(t.Context(), "n", "qps", upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: `w"eb`}, labels.Everything())
	if want := `/prefix/api/v1/query sum(qps{namespace="n",service="w\"eb"})`; query != want || value != 1500 || err != nil {
		t.Errorf("asked %s, want %s; %d, %v", query, want, value, err)
	}
	if _, err := p.Object(t.Context(), "n", "qps", upstreamautoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Namespace", Name: "other"}, labels.Everything()); query != `/prefix/api/v1/query sum(qps{namespace="n"})` || err != nil {
		t.Errorf("asked %s, %v", query, err)
	}
	all, err := p.External(t.Context(), "n", "queue", labels.Everything())
	if diff := cmp.Diff([]int64{1500, 2000, 9000}, all); diff != "" || err != nil || query != `/prefix/api/v1/query queue{namespace="n"}` {
		t.Errorf("asked %s, %v (-want +got):\n%s", query, err, diff)
	}
	for what, tc := range map[string]struct{ answer, want string }{
		"nothing":        {vector(), "has no series"},
		"no number":      {vector(`{"metric":{},"value":[1,"NaN"]}`), "no number"},
		"an error":       {`{"status":"error","error":"parse error"}`, "parse error"},
		"something else": {`<html>`, "200 OK"},
		"a matrix":       {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, "not a vector"},
	} {
		answer = tc.answer
		if _, err := p.External(t.Context(), "n", "queue", labels.Everything()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
	}
	answer = vector(`{"metric":{},"value":[1,"+Inf"]}`)
	if all, err := p.External(t.Context(), "n", "queue", labels.Everything()); err != nil || all[0] != math.MaxInt64 {
		t.Errorf("infinity: %v, %v", all, err)
	}
}

// TestWhatIsNoNameIsNotAsked: a name is no place for more of a query, and no selector
// leads to another namespace.
func TestWhatIsNoNameIsNotAsked(t *testing.T) {
	for metric, selector := range map[string]string{`qps{} or secret`: "", "qps": "namespace=other", "queue": "example.com/label=a"} {
		parsed, err := labels.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		if series, err := seriesOf(metric, "n", "", "", parsed); err == nil {
			t.Errorf("asks for %s", series)
		}
	}
	for _, address := range []string{"prometheus:9090", "ftp://host", "http://"} {
		if _, err := NewPrometheus(address); err == nil {
			t.Errorf("takes %s", address)
		}
	}
	p, err := NewPrometheus("http://user:hidden@127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.External(t.Context(), "n", "queue", labels.Everything()); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("users read %v", err)
	}
}

// nodeAt is a Node whose agent serves at address.
func nodeAt(t *testing.T, name, address string) *keelsonv1.Node {
	t.Helper()
	location, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(location.Port())
	if err != nil {
		t.Fatal(err)
	}
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: location.Hostname()}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	return node
}

func TestAgentsAreAskedOnceForAll(t *testing.T) {
	asked, broken := 0, false
	agent := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if broken || r.URL.String() != "/stats/summary?only_cpu_and_memory=true" {
			http.Error(w, "not now", http.StatusInternalServerError)
			return
		}
		used := statsv1alpha1.ContainerStats{Name: "c1", CPU: &statsv1alpha1.CPUStats{Time: metav1.NewTime(noon), UsageNanoCores: new(uint64(5e8))},
			Memory: &statsv1alpha1.MemoryStats{WorkingSetBytes: new(uint64(1 << 20))}}
		_ = json.NewEncoder(w).Encode(statsv1alpha1.Summary{Pods: []statsv1alpha1.PodStats{
			{PodRef: statsv1alpha1.PodReference{Name: "web-0", Namespace: "n", UID: "u0"}, Containers: []statsv1alpha1.ContainerStats{used}},
			{PodRef: statsv1alpha1.PodReference{Name: "web-1", Namespace: "n", UID: "another"}, Containers: []statsv1alpha1.ContainerStats{used}},
		}})
	}))
	defer agent.Close()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(nodeAt(t, "n1", agent.URL)).Build()
	clock := testingclock.NewFakePassiveClock(noon)
	agents := NewAgents(reader, agent.Client().Transport, clock)
	pods := somePods(4, func(i int, pod *keelsonv1.Pod) {
		pod.UID, pod.Spec.NodeName = "u0", []string{"n1", "n1", "gone", ""}[i]
		if i > 0 {
			pod.UID = "u1"
		}
	})
	for range 3 {
		measured, err := agents.PodMetrics(t.Context(), pods)
		if err != nil || len(measured) != 1 || measured[0].Name != "web-0" || measured[0].Containers[0].Usage.Cpu().MilliValue() != 500 {
			t.Fatalf("measured %+v, %v", measured, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	clock.SetTime(noon.Add(shared + time.Second))
	broken = true
	if _, err := agents.PodMetrics(t.Context(), pods[:2]); err == nil || !strings.Contains(err.Error(), "not now") || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	if _, err := NewAgents(reader, nil, clock).PodMetrics(t.Context(), pods); !errors.Is(err, errNoCredentials) {
		t.Errorf("without credentials: %v", err)
	}
}
