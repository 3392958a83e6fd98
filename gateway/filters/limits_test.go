package filters

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	testingclock "k8s.io/utils/clock/testing"
)

func userNamed(name string, groups ...string) user.Info {
	return &user.DefaultInfo{Name: name, Groups: groups}
}

func requestOf(verb, subresource string, u user.Info) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
	info := &request.RequestInfo{IsResourceRequest: true, APIVersion: "v1", Resource: "pods", Verb: verb, Subresource: subresource}
	return r.WithContext(request.WithUser(request.WithRequestInfo(r.Context(), info), u))
}

// Two requests are held inside; what becomes of a third?
func TestRequestsAtOnce(t *testing.T) {
	tests := map[string]struct {
		inside, third *http.Request
		want          int
	}{
		"one more read is refused":           {requestOf("list", "", userNamed("a")), requestOf("get", "", userNamed("b")), 429},
		"a write is counted apart":           {requestOf("list", "", userNamed("a")), requestOf("create", "", userNamed("a")), 200},
		"one more write is refused":          {requestOf("patch", "", userNamed("a")), requestOf("delete", "", userNamed("a")), 429},
		"a watch is not counted":             {requestOf("list", "", userNamed("a")), requestOf("watch", "", userNamed("a")), 200},
		"a stream is not counted":            {requestOf("create", "", userNamed("a")), requestOf("create", "exec", userNamed("a")), 200},
		"watches inside take nobody's place": {requestOf("watch", "", userNamed("a")), requestOf("list", "", userNamed("a")), 200},
		"the administrator is never refused": {requestOf("list", "", userNamed("a")), requestOf("list", "", userNamed("x", "system:masters")), 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inside, leave := make(chan struct{}, 3), make(chan struct{})
			var once sync.Once
			handler := WithLimits(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				inside <- struct{}{}
				if r.Header.Get("Hold") != "" {
					<-leave
				}
			}), Limits{ReadOnly: 2, Mutating: 2}, NewMetrics(prometheus.NewRegistry()), testingclock.NewFakePassiveClock(time.Now()))
			var held sync.WaitGroup
			for range 2 {
				r := tt.inside.Clone(tt.inside.Context())
				r.Header.Set("Hold", "yes")
				held.Go(func() { handler.ServeHTTP(httptest.NewRecorder(), r) })
				<-inside
			}
			defer held.Wait()
			defer once.Do(func() { close(leave) })
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, tt.third)
			if w.Code != tt.want {
				t.Errorf("code %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if w.Code == 429 && (w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"reason":"TooManyRequests"`)) {
				t.Errorf("Retry-After %q, body %s", w.Header().Get("Retry-After"), w.Body)
			}
			once.Do(func() { close(leave) })
			held.Wait()
			w = httptest.NewRecorder()
			handler.ServeHTTP(w, tt.third.Clone(tt.third.Context()))
			if w.Code != 200 {
				t.Errorf("after the others have left: code %d", w.Code)
			}
		})
	}
}

func TestRequestsPerSecond(t *testing.T) {
	clock := testingclock.NewFakePassiveClock(time.Unix(1e9, 0))
	metrics := NewMetrics(prometheus.NewRegistry())
	handler := WithLimits(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Limits{UserRate: 0.5, UserBurst: 2}, metrics, clock)
	send := func(r *http.Request) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code, w.Header().Get("Retry-After")
	}
	type result struct {
		Code  int
		After string
	}
	var got []result
	step := func(r *http.Request) {
		code, after := send(r)
		got = append(got, result{code, after})
	}
	step(requestOf("get", "", userNamed("a")))
	step(requestOf("get", "", userNamed("a")))
	step(requestOf("get", "", userNamed("a"))) // beyond the burst
	step(requestOf("get", "", userNamed("a"))) // a refused one does not make it worse
	step(requestOf("watch", "", userNamed("a")))
	step(requestOf("get", "", userNamed("b")))
	clock.SetTime(clock.Now().Add(2 * time.Second))
	step(requestOf("get", "", userNamed("a")))
	step(requestOf("get", "", userNamed("a")))
	want := []result{{200, ""}, {200, ""}, {429, "2"}, {429, "2"}, {200, ""}, {200, ""}, {200, ""}, {429, "2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if n := testutil.ToFloat64(metrics.dropped.WithLabelValues("user")); n != 3 {
		t.Errorf("%v counted as dropped, want 3", n)
	}
}

// Whoever invents resources must not make the metrics grow.
func TestLabelsAreOfThingsThatExist(t *testing.T) {
	info := &request.RequestInfo{IsResourceRequest: true, APIGroup: "apps", APIVersion: "v1", Resource: "deployments", Subresource: "scale", Verb: "get"}
	tests := map[string]struct {
		info *request.RequestInfo
		code int
		want labels
	}{
		"a resource that answers":   {info, 200, labels{"get", "apps", "v1", "deployments", "scale"}},
		"one that may not be there": {info, 404, labels{verb: "get"}},
		"a verb nobody knows":       {&request.RequestInfo{Verb: "brew"}, 200, labels{verb: "other"}},
		"a request nobody read":     {nil, 400, labels{verb: "other"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := labelsOf(tt.info, tt.code); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
