package table

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// What has a row is authorized as RequestInfo reads it and served in the name of who may
// do everything: a path that means something else there than to a Kubernetes API must
// have none.
func TestForRequest(t *testing.T) {
	tests := map[string]struct {
		method, path string
		want         string // the row's kind
	}{
		"an object":                                 {path: "/api/v1/namespaces/a/pods/p", want: "Pod"},
		"a collection":                              {path: "/api/v1/namespaces/a/pods", want: "Pod"},
		"a collection across namespaces":            {path: "/api/v1/pods", want: "Pod"},
		"a watch across namespaces":                 {path: "/api/v1/pods?watch=true", want: "Pod"},
		"a legacy watch across namespaces":          {path: "/api/v1/watch/pods", want: "Pod"},
		"a legacy watch of an object":               {path: "/api/v1/watch/namespaces/a/pods/p", want: "Pod"},
		"a legacy watch of a Node":                  {path: "/api/v1/watch/nodes/n", want: "Node"},
		"a Node":                                    {path: "/api/v1/nodes/n", want: "Node"},
		"a subresource":                             {path: "/api/v1/namespaces/a/pods/p/status", want: "Pod"},
		"a subresource that nobody has":             {path: "/api/v1/namespaces/a/pods/p/nonsense", want: "Pod"},
		"a proxied path":                            {path: "/api/v1/namespaces/a/services/s/proxy/x/y/z", want: "Service"},
		"a Node's proxied path":                     {path: "/api/v1/nodes/n/proxy/pods", want: "Node"},
		"a Binding":                                 {method: http.MethodPost, path: "/api/v1/namespaces/a/bindings", want: "Pod"},
		"another kind":                              {path: "/api/v1/namespaces/a/configmaps"},
		"the stored kind":                           {path: "/apis/core.keelson.dev/v1/namespaces/a/pods"},
		"no resource":                               {path: "/version"},
		"a Node in a namespace":                     {path: "/api/v1/namespaces/a/nodes/n"},
		"the agent of a Node in a namespace":        {method: http.MethodPost, path: "/api/v1/namespaces/a/nodes/n/proxy/run/a/p/c"},
		"all Nodes of a namespace":                  {method: http.MethodDelete, path: "/api/v1/namespaces/a/nodes"},
		"a watch of the Nodes of a namespace":       {path: "/api/v1/watch/namespaces/a/nodes"},
		"a proxy where the right to watch is asked": {method: http.MethodPost, path: "/api/v1/watch/nodes/n/proxy/run/a/p/c"},
		"a command where the right to watch is":     {path: "/api/v1/watch/namespaces/a/pods/p/exec"},
		"the proxy of old":                          {path: "/api/v1/proxy/namespaces/a/pods/p"},
		"an object of no namespace":                 {path: "/api/v1/pods/p"},
		"the log of a Pod of no namespace":          {path: "/api/v1/pods/p/log"},
		"an object made in no namespace":            {method: http.MethodPost, path: "/api/v1/pods"},
		"the Pods of all namespaces deleted":        {method: http.MethodDelete, path: "/api/v1/pods"},
		"a part behind a subresource":               {path: "/api/v1/namespaces/a/pods/p/status/x"},
		"a part behind a command":                   {method: http.MethodPost, path: "/api/v1/namespaces/a/pods/p/exec/x"},
		"a Binding that is named in the path":       {method: http.MethodPost, path: "/api/v1/namespaces/a/bindings/p"},
	}
	rows := Keelson()
	factory := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			method := tt.method
			if method == "" {
				method = http.MethodGet
			}
			info, err := factory.NewRequestInfo(httptest.NewRequest(method, tt.path, http.NoBody))
			if err != nil {
				t.Fatal(err)
			}
			row, ok := rows.ForRequest(info)
			if ok != (tt.want != "") || row.Kind != tt.want {
				t.Errorf("%s %s, read as %q of %q, has the row %q, want %q", method, tt.path, info.Verb, info.Resource, row.Kind, tt.want)
			}
		})
	}
}
