package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestTypedClientsWriteAndRead(t *testing.T) {
	f := start(t)
	for name, clients := range map[string]*kubernetes.Clientset{"json": f.json, "protobuf": f.protobuf} {
		t.Run(name, func(t *testing.T) {
			pods := clients.CoreV1().Pods(f.namespace)
			created, err := pods.Create(t.Context(), makePod(name), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if stored := f.stored(t, name); stored.UID != created.UID || stored.Spec.Containers[0].Image != "image:1" {
				t.Errorf("stored is %+v", stored)
			}
			created.Labels["color"] = "blue"
			updated, err := pods.Update(t.Context(), created, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := pods.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(updated, got); diff != "" {
				t.Errorf("read (-updated +got):\n%s", diff)
			}
			list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "color=blue", FieldSelector: "metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != 1 || list.Items[0].UID != created.UID {
				t.Errorf("list has %d items", len(list.Items))
			}
			if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := pods.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) || err.Error() != fmt.Sprintf("pods %q not found", name) {
				t.Errorf("after the deletion: %v", err)
			}
		})
	}
}

func TestErrorsAreInUpstreamsWords(t *testing.T) {
	f := start(t)
	f.create(t, makePod("there"))
	pod := func(text string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"there"` + text + `},"spec":{"containers":[{"name":"a","image":"b"}]}}`
	}
	tests := map[string]struct {
		method, path, body string
		headers            []string
		code               int
		message            string
	}{
		"no such object":              {"GET", f.pods("none"), "", nil, 404, `pods "none" not found`},
		"no such object to change":    {"PUT", f.pods("none"), strings.ReplaceAll(pod(""), "there", "none"), nil, 404, `pods "none" not found`},
		"no such object to patch":     {"PATCH", f.pods("none"), "{}", []string{"Content-Type: application/strategic-merge-patch+json"}, 404, `pods "none" not found`},
		"one that exists":             {"POST", f.pods(), pod(""), nil, 409, `pods "there" already exists`},
		"a version that is old":       {"PUT", f.pods("there"), pod(`,"resourceVersion":"1"`), nil, 409, `Operation cannot be fulfilled on pods "there": the object has been modified; please apply your changes to the latest version and try again`},
		"another name":                {"PUT", f.pods("else"), pod(""), nil, 400, "the name of the object (there) does not match the name on the URL (else)"},
		"another kind":                {"POST", f.pods(), `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"}}`, nil, 400, `Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion`},
		"no JSON":                     {"POST", f.pods(), `{"apiVersion":`, nil, 400, ""},
		"a content type of nobody":    {"POST", f.pods(), pod(""), []string{"Content-Type: text/plain"}, 415, ""},
		"a patch of nobody":           {"PATCH", f.pods("there"), "{}", []string{"Content-Type: application/json"}, 415, "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"},
		"force without apply":         {"PATCH", f.pods("there") + "?force=true", "{}", []string{"Content-Type: application/merge-patch+json"}, 422, `PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch`},
		"a selector of nobody":        {"GET", f.pods() + "?fieldSelector=spec.color=blue", "", nil, 400, "field label not supported: spec.color"},
		"a method of nobody":          {"DELETE", f.pods("there", "status"), "", nil, 405, "the server does not allow this method on the requested resource"},
		"a subresource of nobody":     {"GET", f.pods("there", "color"), "", nil, 404, "the server could not find the requested resource"},
		"a resize of nothing there":   {"PATCH", f.pods("none", "resize"), "{}", []string{"Content-Type: application/merge-patch+json"}, 404, `pods "none" not found`},
		"a creation by resize":        {"POST", f.pods("there", "resize"), "{}", nil, 405, "the server does not allow this method on the requested resource"},
		"a duplicate member, strict":  {"POST", f.pods() + "?fieldValidation=Strict", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"d","name":"e"}}`, nil, 400, ""},
		"both of them, strict":        {"POST", f.pods() + "?fieldValidation=Strict", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"d","colour":"x","name":"e"}}`, nil, 400, `Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "metadata.colour", duplicate field "metadata.name"`},
		"an unknown field, strict":    {"POST", f.pods() + "?fieldValidation=Strict", pod(`,"colour":"blue"`), nil, 400, ""},
		"two propagation policies":    {"DELETE", f.pods("there"), `{"propagationPolicy":"Orphan","orphanDependents":true}`, nil, 422, ""},
		"a dry run of something else": {"DELETE", f.pods("there") + "?dryRun=Some", "", nil, 422, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.do(t, test.method, test.path, test.body, test.headers...)
			if got.code != test.code {
				t.Fatalf("got %d %s, want %d", got.code, got.body, test.code)
			}
			message := got.message(t)
			if test.message != "" && message != test.message {
				t.Errorf("message is\n%s\nwant\n%s", message, test.message)
			}
			if strings.Contains(message, "keelson.dev") {
				t.Errorf("message names what is stored: %s", message)
			}
		})
	}
	f.stored(t, "there")
}

func TestUpdatesKeepWhatClientsDoNotSee(t *testing.T) {
	f := start(t)
	created := f.create(t, makePod("a", onNode))
	if slices.Contains(created.Finalizers, keelsonv1.PodFinalizer) {
		t.Errorf("the client sees finalizers %v", created.Finalizers)
	}
	stored := f.stored(t, "a")
	stored.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: "9"}
	if err := f.crs.Update(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	seen, err := f.json.CoreV1().Pods(f.namespace).Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen.Finalizers = []string{"example.com/mine"}
	seen.Annotations = map[string]string{"note": "x"}
	seen.ResourceVersion = "" // unconditional, as upstream allows for Pods
	if _, err := f.json.CoreV1().Pods(f.namespace).Update(t.Context(), seen, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	got := f.stored(t, "a")
	want := []string{"example.com/mine", keelsonv1.PodFinalizer}
	slices.Sort(got.Finalizers)
	if diff := cmp.Diff(want, got.Finalizers); diff != "" {
		t.Errorf("finalizers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"note": "x", keelsonv1.DeletionGracePeriodAnnotation: "9"}, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if got.Status.Summary.Status != "Pending" {
		t.Errorf("summary is %+v", got.Status.Summary)
	}
}

func TestAnUpdateCreatesWhereUpstreamDoes(t *testing.T) {
	f := start(t)
	endpoints := `{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"10.1.1.1"}],"ports":[{"port":80}]}]}`
	path := "/api/v1/namespaces/" + f.namespace + "/endpoints/e"
	if got := f.do(t, "PUT", path, endpoints); got.code != http.StatusCreated {
		t.Fatalf("first: %d %s", got.code, got.body)
	}
	if got := f.do(t, "PUT", path, endpoints); got.code != http.StatusOK {
		t.Fatalf("second: %d %s", got.code, got.body)
	}
}

func TestDryRunsStoreNothing(t *testing.T) {
	f := start(t)
	pods := f.json.CoreV1().Pods(f.namespace)
	dry := []string{metav1.DryRunAll}
	if _, err := pods.Create(t.Context(), makePod("never"), metav1.CreateOptions{DryRun: dry}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "never", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry creation stored: %v", err)
	}
	created := f.create(t, makePod("a", onNode))
	before := f.stored(t, "a").ResourceVersion
	created.Labels["color"] = "blue"
	if updated, err := pods.Update(t.Context(), created, metav1.UpdateOptions{DryRun: dry}); err != nil || updated.Labels["color"] != "blue" {
		t.Errorf("dry update: %v %v", updated, err)
	}
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{DryRun: dry, GracePeriodSeconds: new(int64(3))}); err != nil {
		t.Error(err)
	}
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "free"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	f.create(t, makePod("free"))
	if err := pods.Bind(t.Context(), binding, metav1.CreateOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	if stored := f.stored(t, "free"); stored.Spec.NodeName != "" {
		t.Errorf("a dry binding bound to %q", stored.Spec.NodeName)
	}
	if after := f.stored(t, "a").ResourceVersion; after != before {
		t.Errorf("dry runs changed the version from %s to %s", before, after)
	}
}

// TestAStaleUpdateIsAConflict: the client has to read again; it has not tried to take the
// node away that the Pod got meanwhile.
func TestAStaleUpdateIsAConflict(t *testing.T) {
	f := start(t)
	pods := f.json.CoreV1().Pods(f.namespace)
	stale := f.create(t, makePod("a"))
	if err := pods.Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Target: corev1.ObjectReference{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stale.Labels["color"] = "blue"
	if _, err := pods.Update(t.Context(), stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
}
