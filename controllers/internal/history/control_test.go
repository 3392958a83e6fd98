package history

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

// indexer makes a fake client's builder a client.FieldIndexer.
type indexer struct{ b *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	i.b.WithIndex(obj, field, extract)
	return nil
}

func control(t *testing.T, objects ...client.Object) Control {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	if err := Index(t.Context(), indexer{b}, kind.GroupKind()); err != nil {
		t.Fatal(err)
	}
	store := b.Build()
	return Control{Pods: podcontrol.Control{Client: store, Live: store}, HashLabel: hashLabel}
}

func owner(image string, collisions *int32) Owner {
	ds := builders.MakeDaemonSet("d").UID("d-uid").Template(func(s *corev1.PodTemplateSpec) { s.Spec.Containers[0].Image = image }).Obj()
	ds.Annotations = map[string]string{"kubernetes.io/change-cause": "because"}
	return Owner{
		Owner: podcontrol.Owner{Object: ds, Kind: kind}, Selector: labels.SelectorFromSet(labels.Set{"app": "d"}),
		Template: &ds.Spec.Template, CollisionCount: collisions,
	}
}

func synced(t *testing.T, c Control, o Owner) *History {
	t.Helper()
	h, err := c.Sync(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSyncCreatesOnceAndNumbers(t *testing.T) {
	c := control(t)
	first := synced(t, c, owner("one", nil))
	r := first.Latest
	if r.Revision != 1 || r.Labels["app"] != "d" || r.Name != "d-"+r.Labels[hashLabel] ||
		r.Annotations["kubernetes.io/change-cause"] != "because" || !metav1.IsControlledBy(r, owner("one", nil).Object) {
		t.Errorf("first revision %+v", r)
	}
	if again := synced(t, c, owner("one", nil)); again.Latest.Name != r.Name || len(again.All()) != 1 {
		t.Errorf("a second look made %v", names(again.All()))
	}
	second := synced(t, c, owner("two", nil))
	if second.Latest.Revision != 2 || len(second.Others) != 1 || second.Others[0].Name != r.Name {
		t.Errorf("second revision %d, others %v", second.Latest.Revision, names(second.Others))
	}
	back := synced(t, c, owner("one", nil))
	if back.Latest.Name != r.Name || back.Latest.Revision != 3 || len(back.All()) != 2 {
		t.Errorf("back to %s as revision %d of %v, want %s as 3", back.Latest.Name, back.Latest.Revision, names(back.All()), r.Name)
	}
	if back.Find(second.Latest.Name) == nil || back.Find("none") != nil {
		t.Error("Find does not find what is there, or finds what is not")
	}
}

func TestSyncCountsCollisions(t *testing.T) {
	// Of another owner, or with other content: the name is taken.
	taken := revision(t, "d-"+Hash(data(t, "one"), nil), "other", 1)
	taken.OwnerReferences[0].UID = "other"
	alsoTaken := revision(t, "d-"+Hash(data(t, "one"), new(int32(1))), "one", 1)
	alsoTaken.OwnerReferences[0].UID = "other"
	c := control(t, taken, alsoTaken)
	h := synced(t, c, owner("one", nil))
	if h.CollisionCount == nil || *h.CollisionCount != 2 || h.Latest.Name != "d-"+Hash(data(t, "one"), new(int32(2))) {
		t.Errorf("collisions %v, revision %s", h.CollisionCount, h.Latest.Name)
	}
	// Killed before the count was written: the revision is found by what it holds.
	again := synced(t, c, owner("one", nil))
	if again.Latest.Name != h.Latest.Name {
		t.Errorf("made %s beside %s", again.Latest.Name, h.Latest.Name)
	}
}

func TestSyncAdoptsWhatAnOrphanedOwnerLeft(t *testing.T) {
	orphan := revision(t, "d-left", "one", 4)
	orphan.OwnerReferences = nil
	c := control(t, orphan, owner("one", nil).Object)
	h := synced(t, c, owner("one", nil))
	if h.Latest.Name != "d-left" || !metav1.IsControlledBy(h.Latest, owner("one", nil).Object) {
		t.Errorf("latest %s of %v", h.Latest.Name, h.Latest.OwnerReferences)
	}
}

func TestSyncAdoptsNothingForAnOwnerThatIsGone(t *testing.T) {
	orphan := revision(t, "d-left", "one", 4)
	orphan.OwnerReferences = nil
	if _, err := control(t, orphan).Sync(t.Context(), owner("one", nil)); err == nil {
		t.Error("adopted for an owner that does not exist")
	}
}

func TestSyncReleasesRelabelledRevisions(t *testing.T) {
	relabelled := revision(t, "d-x", "x", 1)
	relabelled.Labels["app"] = "other"
	c := control(t, relabelled)
	h := synced(t, c, owner("one", nil))
	fresh := &appsv1.ControllerRevision{}
	if err := c.Pods.Client.Get(t.Context(), client.ObjectKeyFromObject(relabelled), fresh); err != nil {
		t.Fatal(err)
	}
	if len(fresh.OwnerReferences) != 0 || len(h.Others) != 0 {
		t.Errorf("owners %v, others %v", fresh.OwnerReferences, names(h.Others))
	}
}

func TestDeleteIgnoresWhatIsGone(t *testing.T) {
	there, gone := revision(t, "there", "x", 1), revision(t, "gone", "x", 1)
	c := control(t, there)
	if err := c.Delete(t.Context(), []*appsv1.ControllerRevision{gone, there}); err != nil {
		t.Fatal(err)
	}
	left := &appsv1.ControllerRevisionList{}
	if err := c.Pods.Client.List(t.Context(), left); err != nil || len(left.Items) != 0 {
		t.Errorf("%d left, %v", len(left.Items), err)
	}
}

// TestSyncInANamespaceThatGoes: nobody needs to be told.
func TestSyncInANamespaceThatGoes(t *testing.T) {
	c := control(t)
	store, ok := c.Pods.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the fake client cannot be intercepted")
	}
	c.Pods.Client = interceptor.NewClient(store, interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
		err := apierrors.NewForbidden(schema.GroupResource{Resource: "controllerrevisions"}, "d", errors.New("it is being terminated"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		return err
	}})
	if _, err := c.Sync(t.Context(), owner("one", nil)); !errors.Is(err, podcontrol.ErrNamespaceTerminating) {
		t.Errorf("error %v", err)
	}
}
