package tokens

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/internal/boundtoken"
)

// objects are what an API server has, by path; a number is its answer's code.
type objects map[string]any

func (o objects) RoundTrip(r *http.Request) (*http.Response, error) {
	if upstream.IdentityFrom(r.Context()) != upstream.Gateway {
		return nil, errors.New("not in the gateway's name")
	}
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}
	switch object := o[r.URL.Path].(type) {
	case nil:
		answer.StatusCode = http.StatusNotFound
	case error:
		return nil, object
	case int:
		answer.StatusCode = object
	default:
		encoded, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		answer.Body = io.NopCloser(strings.NewReader(string(encoded)))
		return answer, nil
	}
	answer.Body = io.NopCloser(strings.NewReader(""))
	return answer, nil
}

func tokenBoundTo(kind, name string) string {
	claims, _ := json.Marshal(map[string]any{"aud": []string{"api", boundtoken.Audience(boundtoken.Object{Kind: kind, Name: name, UID: "u"})}})
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
}

func TestVerify(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	const pods, nodes = "/apis/core.keelson.dev/v1/namespaces/ns/pods/p", "/apis/core.keelson.dev/v1/nodes/n"
	pod := func(edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}, Spec: corev1.PodSpec{ServiceAccountName: "app", NodeName: "n"}}
		if edit != nil {
			edit(p)
		}
		return p
	}
	deleted := func(ago time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now.Add(-ago)} }
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
	whole := map[string][]string{
		"authentication.kubernetes.io/pod-name": {"p"}, "authentication.kubernetes.io/pod-uid": {"u"},
		"authentication.kubernetes.io/node-name": {"n"}, "authentication.kubernetes.io/node-uid": {"u"},
	}
	for name, tc := range map[string]struct {
		kind, user string
		has        objects
		want       map[string][]string
		invalid    string
		unread     bool
	}{
		"a Pod that runs":              {kind: "Pod", has: objects{pods: pod(nil), nodes: node}, want: whole},
		"a Pod that is being deleted":  {kind: "Pod", has: objects{pods: pod(deleted(59 * time.Second)), nodes: node}, want: whole},
		"a Pod that should be gone":    {kind: "Pod", has: objects{pods: pod(deleted(61 * time.Second)), nodes: node}, invalid: "service account token has been invalidated"},
		"a Pod that is gone":           {kind: "Pod", has: objects{nodes: node}, invalid: "service account token has been invalidated"},
		"another Pod of the name":      {kind: "Pod", has: objects{pods: pod(func(p *corev1.Pod) { p.UID = "v" })}, invalid: "pod UID (v) does not match service account pod ref claim (u)"},
		"a Pod of another account":     {kind: "Pod", user: "system:serviceaccount:ns:other", has: objects{pods: pod(nil)}, invalid: "service account token has been invalidated"},
		"a Pod of another namespace":   {kind: "Pod", user: "system:serviceaccount:other:app", has: objects{pods: pod(nil)}, invalid: "service account token has been invalidated"},
		"a Pod that waits for a node":  {kind: "Pod", has: objects{pods: pod(func(p *corev1.Pod) { p.Spec.NodeName = "" })}, want: map[string][]string{"authentication.kubernetes.io/pod-name": {"p"}, "authentication.kubernetes.io/pod-uid": {"u"}}},
		"a Pod whose Node is gone":     {kind: "Pod", has: objects{pods: pod(nil)}, want: map[string][]string{"authentication.kubernetes.io/pod-name": {"p"}, "authentication.kubernetes.io/pod-uid": {"u"}, "authentication.kubernetes.io/node-name": {"n"}}},
		"a Node":                       {kind: "Node", has: objects{nodes: node}, want: map[string][]string{"authentication.kubernetes.io/node-name": {"n"}, "authentication.kubernetes.io/node-uid": {"u"}}},
		"a Node that is gone":          {kind: "Node", has: objects{}, invalid: "service account token has been invalidated"},
		"a user who is no account":     {kind: "Pod", user: "alice", has: objects{}},
		"a Pod that cannot be read":    {kind: "Pod", has: objects{pods: errors.New("connection refused")}, unread: true},
		"a Pod that may not be read":   {kind: "Pod", has: objects{pods: http.StatusForbidden}, unread: true},
		"a Node that cannot be read":   {kind: "Pod", has: objects{pods: pod(nil), nodes: http.StatusInternalServerError}, unread: true},
		"a Pod that makes no sense":    {kind: "Pod", has: objects{pods: []string{"x"}}, unread: true},
		"a token that binds to no one": {kind: "", has: objects{}},
	} {
		t.Run(name, func(t *testing.T) {
			v := &Verifier{Upstream: upstream.New(&url.URL{Scheme: "https", Host: "api"}, tc.has), Clock: clocktesting.NewFakePassiveClock(now)}
			bound := map[string]string{"Pod": "p", "Node": "n"}
			token := "an-older-token"
			if tc.kind != "" {
				token = tokenBoundTo(tc.kind, bound[tc.kind])
			}
			user := tc.user
			if user == "" {
				user = "system:serviceaccount:ns:app"
			}
			got, err := v.Verify(t.Context(), token, user)
			var status apierrors.APIStatus
			switch unread := errors.As(err, &status); {
			case unread != tc.unread, tc.unread && !apierrors.IsServiceUnavailable(err):
				t.Fatalf("error %v", err)
			case !unread && (err == nil) != (tc.invalid == ""), tc.invalid != "" && err.Error() != tc.invalid:
				t.Fatalf("error %v, want %q", err, tc.invalid)
			case err != nil:
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("extra (-want +got):\n%s", diff)
			}
		})
	}
}
