// Package selectors_test asks a real API server for Keelson's kinds by every field
// that upstream selects by, and for the built-in kinds of the same content by the same
// selectors.
package selectors_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// objects is what both forms of a kind are made of: one name, one object. Values that
// upstream would default are given, for Keelson's come from admission, which does not
// run here.
func objects() map[string]map[string]any {
	container := []corev1.Container{{Name: "c", Image: "i"}}
	port := []corev1.ServicePort{{Port: 80}}
	pod := func(spec corev1.PodSpec, status corev1.PodStatus) any {
		spec.Containers = container
		if spec.RestartPolicy == "" {
			spec.RestartPolicy = corev1.RestartPolicyAlways
		}
		if spec.SchedulerName == "" {
			spec.SchedulerName = corev1.DefaultSchedulerName
		}
		if status.Phase == "" {
			status.Phase = corev1.PodPending
		}
		return &corev1.Pod{Spec: spec, Status: status}
	}
	controller := func(replicas int32) any {
		labels := map[string]string{"app": "a"}
		return &corev1.ReplicationController{
			Spec: corev1.ReplicationControllerSpec{
				Selector: labels,
				Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: container}},
			},
			Status: corev1.ReplicationControllerStatus{Replicas: replicas},
		}
	}
	return map[string]map[string]any{
		"pods": {
			"plain":     pod(corev1.PodSpec{}, corev1.PodStatus{}),
			"bound":     pod(corev1.PodSpec{NodeName: "n1", HostNetwork: true}, corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}}),
			"once":      pod(corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: "robot"}, corev1.PodStatus{Phase: corev1.PodSucceeded}),
			"nominated": pod(corev1.PodSpec{SchedulerName: "other"}, corev1.PodStatus{NominatedNodeName: "n2"}),
		},
		"nodes": {
			"open":     &corev1.Node{},
			"cordoned": &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}},
		},
		"services": {
			"headless": &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: port}},
			"external": &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}},
		},
		"replicationcontrollers": {
			"none": controller(0),
			"two":  controller(2),
		},
	}
}

// TestSelectorsAreUpstreams: the answer is upstream's, or the table says which one it
// is. A boolean that is absent is "" to a custom resource and "false" to a built-in
// kind, and a client omits a false one.
func TestSelectorsAreUpstreams(t *testing.T) {
	tests := map[string]struct {
		want, wantStored []string // stored as wanted unless given
	}{
		"pods metadata.name=plain":                                           {want: []string{"plain"}},
		"pods spec.nodeName=n1":                                              {want: []string{"bound"}},
		"pods spec.nodeName=":                                                {want: []string{"nominated", "once", "plain"}},
		"pods spec.nodeName!=":                                               {want: []string{"bound"}},
		"pods spec.restartPolicy=Never":                                      {want: []string{"once"}},
		"pods spec.restartPolicy!=Never":                                     {want: []string{"bound", "nominated", "plain"}},
		"pods spec.schedulerName=other":                                      {want: []string{"nominated"}},
		"pods spec.serviceAccountName=robot":                                 {want: []string{"once"}},
		"pods spec.serviceAccountName=":                                      {want: []string{"bound", "nominated", "plain"}},
		"pods spec.hostNetwork=true":                                         {want: []string{"bound"}},
		"pods spec.hostNetwork!=true":                                        {want: []string{"nominated", "once", "plain"}},
		"pods spec.hostNetwork=false":                                        {want: []string{"nominated", "once", "plain"}, wantStored: []string{}},
		"pods spec.hostNetwork!=false":                                       {want: []string{"bound"}, wantStored: []string{"bound", "nominated", "once", "plain"}},
		"pods status.phase=Running":                                          {want: []string{"bound"}},
		"pods status.phase!=Running":                                         {want: []string{"nominated", "once", "plain"}},
		"pods status.podIP=10.0.0.1":                                         {want: []string{"bound"}},
		"pods status.podIP=":                                                 {want: []string{"nominated", "once", "plain"}},
		"pods status.nominatedNodeName=n2":                                   {want: []string{"nominated"}},
		"pods status.phase=Pending,spec.nodeName=,status.nominatedNodeName=": {want: []string{"plain"}},
		"nodes metadata.name=open":                                           {want: []string{"open"}},
		"nodes spec.unschedulable=true":                                      {want: []string{"cordoned"}},
		"nodes spec.unschedulable!=true":                                     {want: []string{"open"}},
		"nodes spec.unschedulable=false":                                     {want: []string{"open"}, wantStored: []string{}},
		"nodes spec.unschedulable!=false":                                    {want: []string{"cordoned"}, wantStored: []string{"cordoned", "open"}},
		"services spec.clusterIP=None":                                       {want: []string{"headless"}},
		"services spec.clusterIP=":                                           {want: []string{"external"}},
		"services spec.clusterIP!=None":                                      {want: []string{"external"}},
		"services spec.type=ClusterIP":                                       {want: []string{"headless"}},
		"services spec.type=ExternalName":                                    {want: []string{"external"}},
		"replicationcontrollers status.replicas=2":                           {want: []string{"two"}},
		"replicationcontrollers status.replicas!=2":                          {want: []string{"none"}},
		"replicationcontrollers status.replicas=0":                           {want: []string{"none"}},
	}
	f := create(t)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			resource, selector := split(t, name)
			if diff := cmp.Diff(tc.want, f.list(t, f.row(t, resource).Upstream, selector)); diff != "" {
				t.Errorf("built in (-want +got):\n%s", diff)
			}
			wantStored := tc.wantStored
			if wantStored == nil {
				wantStored = tc.want
			}
			if diff := cmp.Diff(wantStored, f.list(t, f.row(t, resource).Stored, selector)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a change in and out of a watch", f.watchesBoth)
	t.Run("a field that cannot be selected by", f.refusesBoth)
}

type fixture struct {
	client    dynamic.Interface
	namespace string
	rows      map[string]table.Row
}

// create makes every object in both forms.
func create(t *testing.T) *fixture {
	t.Helper()
	client, err := dynamic.NewForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{client: client, namespace: testEnv.Namespace(t), rows: map[string]table.Row{}}
	for _, row := range table.Keelson().Rows() {
		f.rows[row.Upstream.Resource] = row
	}
	for resource, named := range objects() {
		row := f.row(t, resource)
		for name, object := range named {
			f.createOne(t, row.Upstream, row.UpstreamKind(), name, object)
			f.createOne(t, row.Stored, row.StoredKind(), name, object)
		}
	}
	return f
}

func (f *fixture) row(t *testing.T, resource string) table.Row {
	t.Helper()
	row, ok := f.rows[resource]
	if !ok {
		t.Fatalf("no row %s", resource)
	}
	return row
}

func (f *fixture) of(resource schema.GroupVersionResource) dynamic.ResourceInterface {
	if resource.Resource == "nodes" {
		return f.client.Resource(resource)
	}
	return f.client.Resource(resource).Namespace(f.namespace)
}

func (f *fixture) createOne(t *testing.T, resource schema.GroupVersionResource, kind schema.GroupVersionKind, name string, object any) {
	t.Helper()
	content, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	want := &unstructured.Unstructured{Object: fields}
	want.SetGroupVersionKind(kind)
	want.SetName(name)
	made, err := f.of(resource).Create(t.Context(), want, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s %s: %v", resource, name, err)
	}
	made.Object["status"] = fields["status"]
	if _, err := f.of(resource).UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("update the status of %s %s: %v", resource, name, err)
	}
}

func (f *fixture) list(t *testing.T, resource schema.GroupVersionResource, selector string) []string {
	t.Helper()
	found, err := f.of(resource).List(t.Context(), metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, item := range found.Items {
		names = append(names, item.GetName())
	}
	slices.Sort(names)
	return names
}

// watchesBoth: an object that begins or ceases to match is added or deleted.
func (f *fixture) watchesBoth(t *testing.T) {
	row := f.row(t, "pods")
	for _, resource := range []schema.GroupVersionResource{row.Upstream, row.Stored} {
		list, err := f.of(resource).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		events, err := f.of(resource).Watch(t.Context(), metav1.ListOptions{
			FieldSelector: "status.phase=Failed", ResourceVersion: list.GetResourceVersion(),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer events.Stop()
		for _, step := range []struct {
			phase corev1.PodPhase
			want  watch.EventType
		}{{corev1.PodFailed, watch.Added}, {corev1.PodPending, watch.Deleted}} {
			pod, err := f.of(resource).Get(t.Context(), "plain", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := unstructured.SetNestedField(pod.Object, string(step.phase), "status", "phase"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.of(resource).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := <-events.ResultChan(); got.Type != step.want {
				t.Errorf("%s becomes %s: %s, want %s", resource, step.phase, got.Type, step.want)
			}
		}
	}
}

func (f *fixture) refusesBoth(t *testing.T) {
	for resource, row := range f.rows {
		for _, form := range []schema.GroupVersionResource{row.Upstream, row.Stored} {
			_, err := f.of(form).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nonsense=x"})
			if !apierrors.IsBadRequest(err) {
				t.Errorf("%s of %s: %v, want a bad request", resource, form.Group, err)
			}
		}
	}
}

func split(t *testing.T, name string) (resource, selector string) {
	t.Helper()
	resource, selector, ok := strings.Cut(name, " ")
	if !ok {
		t.Fatalf("%q is not a resource and a selector", name)
	}
	return resource, selector
}
