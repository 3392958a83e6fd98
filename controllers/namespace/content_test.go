package namespace

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2/ktesting"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

func thingIn(namespace, name string, deleted bool) *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Thing"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: []string{"example.com/hold"}},
	}
	if deleted {
		meta.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_000_000, 0)))
	}
	return meta
}

func TestOnlyWhatStaysIsDeletedAgain(t *testing.T) {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "things"}
	waiting, fresh := thingIn("ns", "waiting", true), thingIn("ns", "fresh", false)
	elsewhere := thingIn("other", "elsewhere", false)
	tests := map[string]struct {
		verbs   []string
		objects []runtime.Object
		want    []string
		// wantLeft is how many objects are counted as remaining. The fake deletes single
		// objects at once, and takes no notice of deletecollection.
		wantLeft int
	}{
		"nothing there": {
			verbs: []string{"list", "delete", "deletecollection"}, objects: []runtime.Object{elsewhere},
			want: []string{"list"},
		},
		"all wait for finalizers": {
			verbs: []string{"list", "delete", "deletecollection"}, objects: []runtime.Object{waiting},
			want: []string{"list"}, wantLeft: 1,
		},
		"one was not deleted yet": {
			verbs: []string{"list", "delete", "deletecollection"}, objects: []runtime.Object{waiting, fresh},
			want: []string{"list", "delete-collection", "list"}, wantLeft: 2,
		},
		"one was not deleted yet, without collections": {
			verbs: []string{"list", "delete"}, objects: []runtime.Object{waiting, fresh},
			want: []string{"list", "delete fresh", "list"}, wantLeft: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			scheme := fake.NewTestScheme()
			if err := metav1.AddMetaToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			client := fake.NewSimpleMetadataClient(scheme, tc.objects...)
			r := &Reconciler{metadata: client}
			found := content{objects: map[string]int{}, finalizers: map[string]int{}}

			if err := r.deleteResource(ctx, "ns", resources.New(gvr, "Thing", true, tc.verbs...), &found); err != nil {
				t.Fatal(err)
			}

			var got []string
			for _, action := range client.Actions() {
				verb := action.GetVerb()
				if named, ok := action.(interface{ GetName() string }); ok {
					verb += " " + named.GetName()
				}
				got = append(got, verb)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if found.objects["things."] != tc.wantLeft || found.finalizers["example.com/hold"] != tc.wantLeft {
				t.Errorf("found %v with finalizers %v, want %d", found.objects, found.finalizers, tc.wantLeft)
			}
		})
	}
}

func TestAKindThatIsNotServedIsNoEmptyKind(t *testing.T) {
	_, ctx := ktesting.NewTestContext(t)
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "things"}
	client := fake.NewSimpleMetadataClient(fake.NewTestScheme())
	client.PrependReactor("list", "things", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewGenericServerResponse(http.StatusNotFound, "list", gvr.GroupResource(), "", "404 page not found", 0, true)
	})
	found := content{objects: map[string]int{}, finalizers: map[string]int{}}

	err := (&Reconciler{metadata: client}).deleteResource(ctx, "ns", resources.New(gvr, "Thing", true, "list", "delete"), &found)

	if err == nil {
		t.Error("the namespace would be let go with what it holds")
	}
}
