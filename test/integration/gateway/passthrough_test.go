package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// storedOwner is the version of the one owner of a ConfigMap, as it is stored.
func (f *front) storedOwner(t testing.TB, name string) string {
	t.Helper()
	cm := &corev1.ConfigMap{}
	if err := f.crs.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: name}, cm); err != nil {
		t.Fatal(err)
	}
	if len(cm.OwnerReferences) != 1 {
		t.Fatalf("owners of %s are %v", name, cm.OwnerReferences)
	}
	return cm.OwnerReferences[0].APIVersion
}

func TestOwnersOutsideTheTable(t *testing.T) {
	f := start(t)
	pod := f.create(t, makePod("owner"))
	owned := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "owner", UID: pod.UID}}}}
	}
	refs := `[{"apiVersion":"v1","kind":"Pod","name":"owner","uid":"` + string(pod.UID) + `"}]`
	plain := func(name string) {
		if _, err := f.json.CoreV1().ConfigMaps(f.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(name string, kind types.PatchType, body string) {
		plain(name)
		if _, err := f.json.CoreV1().ConfigMaps(f.namespace).Patch(t.Context(), name, kind, []byte(body), metav1.PatchOptions{FieldManager: "m"}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, clients := range map[string]*kubernetes.Clientset{"json": f.json, "protobuf": f.protobuf} {
		if _, err := clients.CoreV1().ConfigMaps(f.namespace).Create(t.Context(), owned(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch("strategic", types.StrategicMergePatchType, `{"metadata":{"ownerReferences":`+refs+`}}`)
	patch("merge", types.MergePatchType, `{"metadata":{"ownerReferences":`+refs+`}}`)
	patch("list", types.JSONPatchType, `[{"op":"add","path":"/metadata/ownerReferences","value":`+refs+`}]`)
	patch("item", types.JSONPatchType, `[{"op":"add","path":"/metadata/ownerReferences","value":[]},{"op":"add","path":"/metadata/ownerReferences/-","value":`+strings.Trim(refs, "[]")+`}]`)
	patch("applied", types.ApplyYAMLPatchType, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\n  ownerReferences: "+refs+"\n")
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\n  ownerReferences: " + refs + "\n"
	if got := f.do(t, "POST", "/api/v1/namespaces/"+f.namespace+"/configmaps", yaml, "Content-Type: application/yaml"); got.code != http.StatusCreated {
		t.Fatalf("%d %s", got.code, got.body)
	}
	for _, name := range []string{"json", "protobuf", "strategic", "merge", "list", "item", "applied", "yaml"} {
		if got := f.storedOwner(t, name); got != "core.keelson.dev/v1" {
			t.Errorf("%s: the owner is of %s", name, got)
		}
	}
	other := owned("other")
	other.OwnerReferences[0] = metav1.OwnerReference{APIVersion: "v1", Kind: "Secret", Name: "s", UID: "u"}
	if _, err := f.protobuf.CoreV1().ConfigMaps(f.namespace).Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.storedOwner(t, "other"); got != "v1" {
		t.Errorf("an owner outside the table became one of %s", got)
	}
}

func TestOwnersInTheTable(t *testing.T) {
	f := start(t)
	owner := f.create(t, makePod("owner"))
	created := f.create(t, makePod("owned", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "owner", UID: owner.UID}}
	}))
	if got := created.OwnerReferences[0].APIVersion; got != "v1" {
		t.Errorf("the client sees an owner of %s", got)
	}
	if got := f.stored(t, "owned").OwnerReferences[0].APIVersion; got != "core.keelson.dev/v1" {
		t.Errorf("stored is an owner of %s", got)
	}
}

func TestEventsAreAboutUpstreamsKinds(t *testing.T) {
	f := start(t)
	pod := f.create(t, makePod("a"))
	// What Keelson's own parts write.
	own := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: f.namespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: "core.keelson.dev/v1", Kind: "Pod", Namespace: f.namespace, Name: "a", UID: pod.UID}, Reason: "Started"}
	if err := f.crs.Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	for name, clients := range map[string]*kubernetes.Clientset{"json": f.json, "protobuf": f.protobuf} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			selector := "involvedObject.kind=Pod,involvedObject.apiVersion=v1,involvedObject.name=a"
			w, err := clients.CoreV1().Events(f.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: selector, ResourceVersion: "0"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			if event := <-w.ResultChan(); event.Object.(*corev1.Event).InvolvedObject.APIVersion != "v1" {
				t.Errorf("watched %+v", event.Object)
			}
			written, err := clients.CoreV1().Events(f.namespace).Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "theirs-" + name},
				InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: f.namespace, Name: "a", UID: pod.UID}}, metav1.CreateOptions{})
			if err != nil || written.InvolvedObject.APIVersion != "v1" {
				t.Fatalf("written %+v, %v", written, err)
			}
			stored := &corev1.Event{}
			if err := f.crs.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: written.Name}, stored); err != nil || stored.InvolvedObject.APIVersion != "core.keelson.dev/v1" {
				t.Errorf("stored is about %+v, %v", stored.InvolvedObject, err)
			}
			if _, err := clients.CoreV1().Events(f.namespace).Patch(ctx, written.Name, types.StrategicMergePatchType, []byte(`{"count":2}`), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
			listed, err := clients.EventsV1().Events(f.namespace).List(ctx, metav1.ListOptions{FieldSelector: "regarding.kind=Pod,regarding.apiVersion=v1"})
			if err != nil {
				t.Fatal(err)
			}
			versions := map[string]bool{}
			for _, event := range listed.Items {
				versions[event.Regarding.APIVersion] = true
			}
			if diff := cmp.Diff(map[string]bool{"v1": true}, versions); diff != "" {
				t.Errorf("versions of %d events (-want +got):\n%s", len(listed.Items), diff)
			}
		})
	}
	series := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: f.namespace}, EventTime: metav1.NowMicro(), ReportingController: "example.com/c", ReportingInstance: "i",
		Action: "Acting", Reason: "Because", Type: "Normal", Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: f.namespace, Name: "a"}}
	if got, err := f.protobuf.EventsV1().Events(f.namespace).Create(t.Context(), series, metav1.CreateOptions{}); err != nil || got.Regarding.APIVersion != "v1" {
		t.Errorf("events.k8s.io: %+v, %v", got, err)
	}
}

func TestTheRestPasses(t *testing.T) {
	f := start(t)
	version, err := f.json.Discovery().ServerVersion()
	if err != nil || version.Major != "1" {
		t.Errorf("version %v, %v", version, err)
	}
	if got := f.do(t, "GET", "/readyz", ""); got.code != 200 || string(got.body) != "ok" {
		t.Errorf("readyz: %d %s", got.code, got.body)
	}
	if got := f.do(t, "GET", "/api/v2/pods", ""); got.code != 404 {
		t.Errorf("a version of nobody: %d %s", got.code, got.body)
	}
	if got := f.do(t, "GET", "/api/v1/namespaces/"+f.namespace+"/configmaps?pretty=true", "", "Accept: application/yaml"); got.code != 200 || !strings.Contains(string(got.body), "kind: ConfigMapList") {
		t.Errorf("yaml: %d %s", got.code, got.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := f.protobuf.CoreV1().ConfigMaps(f.namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := f.protobuf.CoreV1().ConfigMaps(f.namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if event, ok := <-w.ResultChan(); !ok || event.Object.(*corev1.ConfigMap).Name != "seen" {
		t.Errorf("watched %+v", event)
	}
	crs := f.do(t, "GET", "/apis/core.keelson.dev/v1/namespaces/"+f.namespace+"/pods", "")
	if crs.code != 200 || crs.tree(t)["apiVersion"] != "core.keelson.dev/v1" {
		t.Errorf("the stored form by its own name: %d %s", crs.code, crs.body)
	}
}
