package discovery

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

func added() Group {
	version := metav1.GroupVersionForDiscovery{GroupVersion: "metrics.k8s.io/v1beta1", Version: "v1beta1"}
	return Group{
		Group: &metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: "metrics.k8s.io",
			Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version},
		Resources: &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version.GroupVersion,
			APIResources: []metav1.APIResource{{Name: "nodes", Kind: "NodeMetrics", Verbs: metav1.Verbs{"get", "list"}}, {Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: metav1.Verbs{"get", "list"}}}},
	}
}

// serve returns the overlay over an API server that answers with body, and what that
// server was asked to produce.
func serve(t *testing.T, body string) (http.Handler, *string) {
	t.Helper()
	var accept string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accept = r.Header.Get("Accept")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Upstream: upstream.New(base, http.DefaultTransport), Codec: codec.New(translate.New(table.Keelson())), Added: added(),
		Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	if err != nil {
		t.Fatal(err)
	}
	return h, &accept
}

func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestGroupsGetTheAddedOne(t *testing.T) {
	names := func(path string) func(map[string]any) []string {
		return func(list map[string]any) []string {
			var all []string
			items, _ := list[path].([]any)
			for _, item := range items {
				group := item.(map[string]any)
				if metadata, ok := group["metadata"].(map[string]any); ok {
					group = metadata
				}
				all = append(all, group["name"].(string))
			}
			return all
		}
	}
	tests := map[string]struct {
		body  string
		names func(map[string]any) []string
	}{
		"the legacy list":                {`{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"apps","versions":[]}]}`, names("groups")},
		"one that has the group already": {`{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"metrics.k8s.io","versions":[]},{"name":"apps","versions":[]}]}`, names("groups")},
		"the aggregated list":            {`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[{"metadata":{"name":"apps"}}]}`, names("items")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h, _ := serve(t, test.body)
			var list map[string]any
			if err := json.Unmarshal(get(h, "/apis").Body.Bytes(), &list); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"apps", "metrics.k8s.io"}, test.names(list)); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDocumentsAreKeptByTheirTag(t *testing.T) {
	h, _ := serve(t, `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`)
	first := get(h, "/apis")
	tag := first.Header().Get("ETag")
	if first.Code != http.StatusOK || tag == "" {
		t.Fatalf("first: %d, tag %q", first.Code, tag)
	}
	if second := get(h, "/apis", "If-None-Match: "+tag); second.Code != http.StatusNotModified || second.Body.Len() != 0 {
		t.Errorf("second: %d %s", second.Code, second.Body)
	}
	if third := get(h, "/apis", `If-None-Match: "else"`); third.Code != http.StatusOK {
		t.Errorf("with another tag: %d", third.Code)
	}
}

func TestOnlyJSONIsChanged(t *testing.T) {
	const body = `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`
	h, asked := serve(t, body)
	get(h, "/apis", "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/vnd.kubernetes.protobuf,application/json")
	if want := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"; *asked != want {
		t.Errorf("asked for %q, want %q", *asked, want)
	}
	if got := get(h, "/apis", "Accept: application/vnd.kubernetes.protobuf"); got.Code != http.StatusTeapot {
		t.Errorf("protobuf alone does not pass: %d", got.Code)
	}
	if get(h, "/apis", "Accept: */*"); *asked != "application/json" {
		t.Errorf("asked for %q", *asked)
	}
}

func TestTheGroupsOwnDocuments(t *testing.T) {
	h, _ := serve(t, `{"paths":{"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=1"}}}`)
	for path, want := range map[string]string{
		"/apis/metrics.k8s.io":                    `"kind":"APIGroup"`,
		"/apis/metrics.k8s.io/v1beta1":            `"kind":"APIResourceList"`,
		"/openapi/v3":                             `"apis/metrics.k8s.io/v1beta1":{"serverRelativeURL":"/openapi/v3/apis/metrics.k8s.io/v1beta1?hash=`,
		"/openapi/v3/apis/metrics.k8s.io/v1beta1": `"x-kubernetes-group-version-kind":[{"group":"metrics.k8s.io","kind":"PodMetrics","version":"v1beta1"}]`,
	} {
		if got := get(h, path); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), want) {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
	}
	if got := get(h, "/openapi/v3"); !strings.Contains(got.Body.String(), `"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=1"}`) {
		t.Errorf("the index lost an entry: %s", got.Body)
	}
}

func TestBrokenDocumentsAreNotPassedOn(t *testing.T) {
	for _, body := range []string{`{`, `{"kind":"Cow"}`, ``} {
		h, _ := serve(t, body)
		if got := get(h, "/apis"); got.Code != http.StatusInternalServerError {
			t.Errorf("%q: %d %s", body, got.Code, got.Body)
		}
	}
}
