package resourcequota

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// serves is a RESTMapper of a few kinds; every other one fails with failure, or is not
// served.
type serves struct {
	kinds   map[schema.GroupResource]schema.GroupVersionKind
	failure error
}

func (s serves) KindsFor(r schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	if kind, ok := s.kinds[r.GroupResource()]; ok {
		return []schema.GroupVersionKind{kind}, nil
	}
	if s.failure != nil {
		return nil, s.failure
	}
	return nil, &meta.NoResourceMatchError{PartialResource: r}
}

func newReconciler(mapper mapper, objects ...client.Object) *Reconciler {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&keelsonv1.ResourceQuota{}).Build()
	return &Reconciler{client: c, clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), kinds: mapper}
}

func namespace(labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: labels}}
}

func quotaOf(hard corev1.ResourceList) *keelsonv1.ResourceQuota {
	return &keelsonv1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
}

var request = ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "q"}}

func TestCountsWhatAQuotaNames(t *testing.T) {
	pod := builders.MakePod("p").Obj()
	pod.Namespace = "ns"
	elsewhere := builders.MakePod("p").Obj()
	elsewhere.Namespace = "other"
	secrets := schema.GroupResource{Resource: "secrets"}
	mapper := serves{kinds: map[schema.GroupResource]schema.GroupVersionKind{secrets: corev1.SchemeGroupVersion.WithKind("Secret")}}
	five := resource.MustParse("5")
	for what, tc := range map[string]struct {
		name corev1.ResourceName
		want string
	}{
		"Pods of the namespace":           {corev1.ResourcePods, "1"},
		"Services":                        {corev1.ResourceServices, "0"},
		"claims":                          {corev1.ResourcePersistentVolumeClaims, "1"},
		"objects of which we know no use": {"count/secrets", "2"},
		"objects that nobody serves":      {"count/widgets.example.com", "0"},
	} {
		t.Run(what, func(t *testing.T) {
			in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }
			r := newReconciler(mapper, namespace(nil), quotaOf(corev1.ResourceList{tc.name: five}), pod.DeepCopy(), elsewhere.DeepCopy(),
				&corev1.Secret{ObjectMeta: in("a")}, &corev1.Secret{ObjectMeta: in("b")}, &corev1.PersistentVolumeClaim{ObjectMeta: in("c")})
			result, err := r.Reconcile(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if result.RequeueAfter != resync {
				t.Errorf("counted again after %s, want %s", result.RequeueAfter, resync)
			}
			q := &keelsonv1.ResourceQuota{}
			if err := r.client.Get(t.Context(), request.NamespacedName, q); err != nil {
				t.Fatal(err)
			}
			used, hard := q.Status.Used[tc.name], q.Status.Hard[tc.name]
			if used.String() != tc.want || hard.String() != "5" {
				t.Errorf("used %s of %s, want %s of 5", &used, &hard, tc.want)
			}
			version := q.ResourceVersion
			if _, err := r.Reconcile(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			if err := r.client.Get(t.Context(), request.NamespacedName, q); err != nil || q.ResourceVersion != version {
				t.Errorf("an unchanged count was written again: version %s after %s, error %v", q.ResourceVersion, version, err)
			}
		})
	}
}

func TestACountThatFailsIsNotWritten(t *testing.T) {
	r := newReconciler(serves{failure: errors.New("down")}, namespace(nil), quotaOf(corev1.ResourceList{"count/secrets": resource.MustParse("5")}))
	if _, err := r.Reconcile(t.Context(), request); err == nil {
		t.Error("no error")
	}
	q := &keelsonv1.ResourceQuota{}
	if err := r.client.Get(t.Context(), request.NamespacedName, q); err != nil || q.Status.Used != nil {
		t.Errorf("used %v, error %v: want nothing", q.Status.Used, err)
	}
}

func TestMarksNamespacesWithQuotas(t *testing.T) {
	marked := map[string]string{keelsonv1.QuotaLabel: "enforced", "a": "b"}
	bare := map[string]string{"a": "b"}
	for what, tc := range map[string]struct {
		labels map[string]string
		quotas []client.Object
		want   map[string]string
	}{
		"the first quota":         {bare, []client.Object{quotaOf(nil)}, marked},
		"one more":                {marked, []client.Object{quotaOf(nil)}, marked},
		"the last quota is gone":  {marked, nil, bare},
		"there never was a quota": {bare, nil, bare},
	} {
		t.Run(what, func(t *testing.T) {
			r := newReconciler(serves{}, append(tc.quotas, namespace(tc.labels))...)
			if _, err := r.Reconcile(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			got := &corev1.Namespace{}
			if err := r.client.Get(t.Context(), client.ObjectKey{Name: "ns"}, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}
