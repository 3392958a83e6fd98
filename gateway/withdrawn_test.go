package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
)

// TestAutoscalersOfVersion1AreRefused: the built-in kind behind that version would take
// objects that nothing acts on.
func TestAutoscalersOfVersion1AreRefused(t *testing.T) {
	about := func(version string) *request.RequestInfo {
		return &request.RequestInfo{IsResourceRequest: true, APIGroup: "autoscaling", APIVersion: version, Resource: "horizontalpodautoscalers", Verb: "create", Namespace: "n"}
	}
	rows := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	g := &router{table: table.Keelson(), coder: codec.New(translate.New(table.Keelson())), rows: rows, rest: rows}
	for version, want := range map[string]int{"v1": http.StatusNotFound, "v2": http.StatusTeapot} {
		r := httptest.NewRequest(http.MethodPost, "/apis/autoscaling/"+version+"/namespaces/n/horizontalpodautoscalers", strings.NewReader("{}"))
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), about(version))))
		if w.Code != want || version == "v1" && !strings.Contains(w.Body.String(), "use autoscaling/v2") {
			t.Errorf("%s: %d %s", version, w.Code, w.Body)
		}
	}
}
