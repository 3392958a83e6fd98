package resources

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// script is an API server that answers each request, named "METHOD path", with the
// next of its answers for it, the last one again and again.
type script struct {
	t       *testing.T
	answers map[string][]string

	mu    sync.Mutex
	asked map[string]int
}

const (
	pods      = "/apis/core.keelson.dev/v1/namespaces/ns/pods"
	budgets   = "/apis/policy.keelson.dev/v1/namespaces/ns/poddisruptionbudgets"
	conflict  = `409 {"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,"message":"Operation cannot be fulfilled on pods.core.keelson.dev \"a\": the object has been modified; please apply your changes to the latest version and try again"}`
	notFound  = `404 {"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"pods.core.keelson.dev \"a\" not found","details":{"name":"a","group":"core.keelson.dev","kind":"pods"}}`
	runningAt = `200 {"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","namespace":"ns","uid":"u","resourceVersion":"%d","labels":{"app":"x"},"finalizers":["keelson.dev/pod"]%s},` +
		`"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
)

func pod(version int, metadata string) string { return fmt.Sprintf(runningAt, version, metadata) }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		s.t.Error(err)
	}
	key := r.Method + " " + r.URL.Path
	answers := s.answers[key]
	if len(answers) == 0 {
		s.t.Errorf("unexpected request %s", key)
		answers = []string{notFound}
	}
	answer := answers[min(s.asked[key], len(answers)-1)]
	s.asked[key]++
	code, body, _ := strings.Cut(answer, " ")
	w.Header().Set("Content-Type", "application/json")
	var number int
	if _, err := fmt.Sscan(code, &number); err != nil {
		s.t.Error(err)
	}
	w.WriteHeader(number)
	_, _ = io.WriteString(w, body)
}

// play sends one request through a Handler in front of the script.
func play(t *testing.T, answers map[string][]string, c clock.WithTicker, method, path, contentType, body string) (*httptest.ResponseRecorder, map[string]int) {
	t.Helper()
	s := &script{t: t, answers: answers, asked: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	rows := table.Keelson()
	translator := translate.New(rows)
	h := New(Options{Table: rows, Upstream: upstream.New(base, http.DefaultTransport), Translator: translator, Codec: codec.New(translator), Clock: c})
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	info, err := infos.NewRequestInfo(r)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	s.mu.Lock()
	defer s.mu.Unlock()
	return w, s.asked
}

func TestWhenOthersWriteInBetween(t *testing.T) {
	const strategic = "application/strategic-merge-patch+json"
	label := `{"metadata":{"labels":{"a":"b"}}}`
	budget := `{"apiVersion":"policy.keelson.dev/v1","kind":"PodDisruptionBudget","metadata":{"name":"b","namespace":"ns","generation":1,"resourceVersion":"1"},"spec":{"selector":{"matchLabels":{"app":"x"}}},"status":{"observedGeneration":1,"disruptionsAllowed":2,"currentHealthy":3,"desiredHealthy":1,"expectedPods":3}}`
	budgetList := `200 {"apiVersion":"policy.keelson.dev/v1","kind":"PodDisruptionBudgetList","metadata":{},"items":[` + budget + `]}`
	deleting := `,"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0`
	tests := map[string]struct {
		method, path, contentType, body string
		answers                         map[string][]string
		code                            int
		writes                          map[string]int
	}{
		"a patch is made again": {"PATCH", "/api/v1/namespaces/ns/pods/a", strategic, label,
			map[string][]string{"GET " + pods + "/a": {pod(1, ""), pod(2, "")}, "PUT " + pods + "/a": {conflict, pod(3, "")}},
			200, map[string]int{"PUT " + pods + "/a": 2}},
		"and given up after five times": {"PATCH", "/api/v1/namespaces/ns/pods/a", strategic, label,
			map[string][]string{"GET " + pods + "/a": {pod(1, "")}, "PUT " + pods + "/a": {conflict}},
			409, map[string]int{"PUT " + pods + "/a": 5}},
		"one on condition of a version is not sent": {"PATCH", "/api/v1/namespaces/ns/pods/a", strategic, `{"metadata":{"resourceVersion":"7","labels":{"a":"b"}}}`,
			map[string][]string{"GET " + pods + "/a": {pod(8, "")}},
			409, map[string]int{}},
		"one whose object goes is about nothing": {"PATCH", "/api/v1/namespaces/ns/pods/a", strategic, label,
			map[string][]string{"GET " + pods + "/a": {pod(1, ""), notFound}, "PUT " + pods + "/a": {conflict}},
			404, map[string]int{"PUT " + pods + "/a": 1}},
		"a disruption is spent once": {"POST", "/api/v1/namespaces/ns/pods/a/eviction", "", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}`,
			map[string][]string{
				"GET " + pods + "/a": {pod(1, ""), pod(2, ""), pod(3, "")}, "PUT " + pods + "/a/status": {conflict, pod(3, "")}, "DELETE " + pods + "/a": {pod(4, deleting)},
				"GET " + budgets: {budgetList}, "GET " + budgets + "/b": {"200 " + budget}, "PUT " + budgets + "/b/status": {"200 " + budget},
			},
			201, map[string]int{"PUT " + budgets + "/b/status": 1, "PUT " + pods + "/a/status": 2, "DELETE " + pods + "/a": 1}},
		"a budget that others spend from is read again": {"POST", "/api/v1/namespaces/ns/pods/a/eviction", "", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}`,
			map[string][]string{
				"GET " + pods + "/a": {pod(1, "")}, "PUT " + pods + "/a/status": {pod(2, "")}, "DELETE " + pods + "/a": {pod(4, deleting)},
				"GET " + budgets: {budgetList}, "GET " + budgets + "/b": {"200 " + budget, "200 " + strings.Replace(budget, `"disruptionsAllowed":2`, `"disruptionsAllowed":0`, 1)}, "PUT " + budgets + "/b/status": {conflict},
			},
			429, map[string]int{"PUT " + budgets + "/b/status": 1}},
		"a forced deletion takes the finalizer off at last": {"DELETE", "/api/v1/namespaces/ns/pods/a", "", `{"gracePeriodSeconds":0}`,
			map[string][]string{"GET " + pods + "/a": {pod(1, ""), pod(3, deleting)}, "DELETE " + pods + "/a": {pod(2, deleting)}, "PATCH " + pods + "/a": {conflict, pod(4, deleting)}},
			200, map[string]int{"DELETE " + pods + "/a": 1, "PATCH " + pods + "/a": 2}},
		"one whose Pod the node lets go first is done": {"DELETE", "/api/v1/namespaces/ns/pods/a", "", `{"gracePeriodSeconds":0}`,
			map[string][]string{"GET " + pods + "/a": {pod(1, "")}, "DELETE " + pods + "/a": {pod(2, deleting)}, "PATCH " + pods + "/a": {notFound}},
			200, map[string]int{"DELETE " + pods + "/a": 1, "PATCH " + pods + "/a": 1}},
		"an answer that is no answer": {"PATCH", "/api/v1/namespaces/ns/pods/a", strategic, label,
			map[string][]string{"GET " + pods + "/a": {"200 {"}},
			500, map[string]int{}},
		"an error that is no Status": {"DELETE", "/api/v1/namespaces/ns/pods/a", "", "",
			map[string][]string{"GET " + pods + "/a": {"502 bad gateway"}},
			502, map[string]int{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, asked := play(t, test.answers, clock.RealClock{}, test.method, test.path, test.contentType, test.body)
			if w.Code != test.code {
				t.Errorf("answer %d %s, want %d", w.Code, w.Body, test.code)
			}
			maps.DeleteFunc(asked, func(key string, _ int) bool { return strings.HasPrefix(key, "GET ") })
			if diff := cmp.Diff(test.writes, asked); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if strings.Contains(w.Body.String(), "keelson.dev") {
				t.Errorf("the answer names what is stored: %s", w.Body)
			}
		})
	}
}

// TestTheWaitForAddressesEnds: the allocator is silent, the clock is not.
func TestTheWaitForAddressesEnds(t *testing.T) {
	const services = "/apis/core.keelson.dev/v1/namespaces/ns/services"
	service := `{"apiVersion":"core.keelson.dev/v1","kind":"Service","metadata":{"name":"s","namespace":"ns","resourceVersion":"1"},"spec":{"ports":[{"port":80}]}}`
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, service)
			return
		}
		_ = http.NewResponseController(w).Flush()
		close(silent)
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL + services)
	if err != nil {
		t.Fatal(err)
	}
	base.Path = ""
	fake := clocktesting.NewFakeClock(time.Unix(0, 0))
	rows := table.Keelson()
	translator := translate.New(rows)
	h := New(Options{Table: rows, Upstream: upstream.New(base, http.DefaultTransport), Translator: translator, Codec: codec.New(translator), Clock: fake})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/namespaces/ns/services", strings.NewReader(`{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`))
	info := &request.RequestInfo{IsResourceRequest: true, Verb: "create", APIVersion: "v1", Resource: "services", Namespace: "ns", Parts: []string{"services"}}
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	}()
	<-silent
	fake.Step(allocationTimeout - time.Millisecond)
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	fake.Step(time.Millisecond)
	<-done
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusCreated || got["apiVersion"] != "v1" {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
}

func TestAwaitsAllocation(t *testing.T) {
	columns := func(clusterIP, ports string) string {
		return `,"status":{"summary":{"clusterIP":"` + clusterIP + `","externalIP":"<none>","ports":"` + ports + `","selector":"<none>"}}`
	}
	tests := map[string]struct {
		service string
		want    bool
	}{
		"no address":                             {`"spec":{"type":"ClusterIP","ports":[{"port":80}]}`, true},
		"an address without columns":             {`"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"protocol":"TCP"}]}`, true},
		"an address and its columns":             {`"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"protocol":"TCP"}]}` + columns("10.0.0.1", "80/TCP"), false},
		"columns of the ports before":            {`"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":81,"protocol":"TCP"}]}` + columns("10.0.0.1", "80/TCP"), true},
		"a node port that is missing":            {`"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"protocol":"TCP"}]}` + columns("10.0.0.1", "80/TCP"), true},
		"a node port":                            {`"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"nodePort":30000,"protocol":"TCP"}]}` + columns("10.0.0.1", "80:30000/TCP"), false},
		"one without an address, by its wish":    {`"spec":{"type":"ClusterIP","clusterIP":"None","clusterIPs":["None"]}` + columns("None", "<none>"), false},
		"one that is being deleted gets nothing": {`"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"type":"ClusterIP"}`, false},
	}
	for name, test := range tests {
		tree, err := decodeTree([]byte("{" + test.service + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if got := awaitsAllocation(tree); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestTargets(t *testing.T) {
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	rows := table.Keelson()
	tests := map[string]string{
		"/api/v1/pods": "/apis/core.keelson.dev/v1/pods",
		"/api/v1/namespaces/ns/pods?fieldSelector=metadata.name%3Da":       "/apis/core.keelson.dev/v1/namespaces/ns/pods",
		"/api/v1/namespaces/ns/pods/a":                                     "/apis/core.keelson.dev/v1/namespaces/ns/pods/a",
		"/api/v1/namespaces/ns/pods/a/status":                              "/apis/core.keelson.dev/v1/namespaces/ns/pods/a/status",
		"/api/v1/nodes/n%3F1":                                              "/apis/core.keelson.dev/v1/nodes/n%3F1",
		"/api/v1/watch/namespaces/ns/pods/a":                               "/apis/core.keelson.dev/v1/namespaces/ns/pods",
		"/api/v1/namespaces/ns/replicationcontrollers/a/scale?dryRun=true": "/apis/core.keelson.dev/v1/namespaces/ns/replicationcontrollers/a/scale",
	}
	for _, path := range slices.Sorted(maps.Keys(tests)) {
		info, err := infos.NewRequestInfo(httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil {
			t.Fatal(err)
		}
		row, ok := rows.ForRequest(info)
		if !ok {
			t.Errorf("%s is no row", path)
			continue
		}
		if got := targetOf(row, info).path(); got != tests[path] {
			t.Errorf("%s is stored at %s, want %s", path, got, tests[path])
		}
	}
	for _, path := range []string{"/api/v1/configmaps", "/api/v2/pods", "/apis/apps/v1/pods", "/apis/core.keelson.dev/v1/pods", "/api/v1", "/pods"} {
		info, err := infos.NewRequestInfo(httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := rows.ForRequest(info); ok {
			t.Errorf("%s is a row", path)
		}
	}
}
