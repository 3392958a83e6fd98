package garbagecollector

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2/ktesting"
)

// newTestCollector knows Things and the given objects, in the graph and in the API.
func newTestCollector(t *testing.T, objects ...*object) (*collector, *fake.FakeMetadataClient) {
	t.Helper()
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var stored []runtime.Object
	for _, o := range objects {
		stored = append(stored, storedAs(o))
	}
	client := fake.NewSimpleMetadataClient(scheme, stored...)
	c := newCollector(client, nil, events.NewFakeRecorder(10), Options{})
	c.kinds[things.GroupKind()] = things
	for _, o := range objects {
		c.graph.set(o)
	}
	return c, client
}

// storedAs is o as the API holds it.
func storedAs(o *object) *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: o.resource.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.namespace, Name: o.name, UID: o.uid, ResourceVersion: "7", OwnerReferences: o.owners,
		},
	}
	if o.deleting {
		meta.DeletionTimestamp = new(metav1.Now())
	}
	if o.orphan {
		meta.Finalizers = append(meta.Finalizers, metav1.FinalizerOrphanDependents)
	}
	return meta
}

func writes(client *fake.FakeMetadataClient) []string {
	var verbs []string
	for _, action := range client.Actions() {
		if verb := action.GetVerb(); verb != "get" && verb != "list" && verb != "watch" {
			verbs = append(verbs, verb)
		}
	}
	return verbs
}

func TestOnlyAnOwnerThatIsKnownToBeGoneCostsAnObjectItsLife(t *testing.T) {
	resource := schema.GroupResource{Resource: "things"}
	tests := map[string]struct {
		read        error // what reading the owner says
		unknownKind bool
		want        []string
		wantErr     bool
	}{
		"the API server has no such owner": {
			read: apierrors.NewNotFound(resource, "owner"), want: []string{"delete"},
		},
		"the API server does not serve the path": {
			read:    apierrors.NewGenericServerResponse(http.StatusNotFound, "get", resource, "owner", "404 page not found", 0, true),
			wantErr: true,
		},
		"the owner may not be read": {
			read: apierrors.NewForbidden(resource, "owner", errors.New("no rule")), wantErr: true,
		},
		"the API server has no time": {
			read: apierrors.NewServerTimeout(resource, "get", 1), wantErr: true,
		},
		"the API behind the aggregator is down": {
			read: apierrors.NewServiceUnavailable("no endpoints"), wantErr: true,
		},
		"nobody serves the owner's kind": {
			unknownKind: true, wantErr: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			orphaned := thing("dependent").ownedBy("owner").obj()
			c, client := newTestCollector(t, orphaned)
			client.PrependReactor("get", "things", func(action clienttesting.Action) (bool, runtime.Object, error) {
				get, ok := action.(clienttesting.GetAction)
				return ok && get.GetName() == "owner" && tc.read != nil, nil, tc.read
			})
			if tc.unknownKind {
				delete(c.kinds, things.GroupKind())
			}

			err := c.collect(ctx, orphaned.uid)

			if (err != nil) != tc.wantErr {
				t.Errorf("collect returned %v, want an error: %t", err, tc.wantErr)
			}
			if diff := cmp.Diff(tc.want, writes(client)); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReferenceToAnotherNamespaceIsToldOnce(t *testing.T) {
	tests := map[string]struct {
		owner *objectMaker
		want  []string
	}{
		"the owner lives in another namespace": {
			owner: thing("owner").in("far"),
			want:  []string{`Warning OwnerRefInvalidNamespace ownerRef [v1/Thing, namespace: ns, name: owner, uid: owner] does not exist in namespace "ns"`},
		},
		"the owner has another name":        {owner: thing("owner").renamed("other")},
		"the owner is there":                {owner: thing("owner")},
		"the owner belongs to no namespace": {owner: rack("owner")},
		"nobody has heard of the owner":     {owner: thing("unrelated")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			dependent := thing("dependent").ownedBy("owner").obj()
			c, _ := newTestCollector(t, tc.owner.obj(), dependent)
			recorder := events.NewFakeRecorder(10)
			c.recorder = recorder

			for range 2 {
				if _, err := c.judgeOwners(ctx, dependent, dependent.owners); err != nil {
					t.Fatal(err)
				}
			}

			close(recorder.Events)
			var told []string
			for event := range recorder.Events {
				told = append(told, event)
			}
			if diff := cmp.Diff(tc.want, told); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrphaningWaitsUntilEveryDependentIsKnown(t *testing.T) {
	_, ctx := ktesting.NewTestContext(t)
	owner := thing("owner").deletingOrphan().obj()
	c, client := newTestCollector(t, owner)
	late := &monitor{resource: &racks}
	c.monitors[racks.GroupVersionResource] = late

	if err := c.collect(ctx, owner.uid); err == nil {
		t.Error("the owner was let go although racks are not listed yet")
	}
	if got := writes(client); len(got) > 0 {
		t.Errorf("wrote %v before everything was listed", got)
	}

	late.synced.Store(true)
	if err := c.collect(ctx, owner.uid); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"patch"}, writes(client)); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}
