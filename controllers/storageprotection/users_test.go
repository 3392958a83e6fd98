package storageprotection

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(storagev1.AddToScheme(scheme))
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	return scheme
}

func newClient(objects ...client.Object) *fake.ClientBuilder {
	return fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(objects...).
		WithIndex(&corev1.PersistentVolume{}, classIndex, classNames).
		WithIndex(&corev1.PersistentVolumeClaim{}, classIndex, classNames)
}

// foreign keeps a deleted object in the fake client, which drops those without finalizers.
const foreign = "example.com/keep"

func claim(deleted bool, finalizers ...string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", Finalizers: finalizers}}
	if deleted {
		c.DeletionTimestamp = &metav1.Time{Time: time.Unix(100, 0)}
	}
	return c
}

func podWith(node string, source corev1.VolumeSource) *keelsonv1.Pod {
	pod := builders.MakePod("p").Node(node).Obj()
	pod.Namespace = "default"
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}}
	return pod
}

func mounts(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func TestClaims(t *testing.T) {
	elsewhere := podWith("n", mounts("data"))
	elsewhere.Namespace = "other"
	ephemeral := podWith("n", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})
	own := claim(true, claimFinalizer, foreign)
	own.Name = "p-v"
	for what, tc := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		// cached and live are the Pods that the cache and the API server know.
		cached, live []client.Object
		protected    bool
	}{
		"made without it: protected": {claim: claim(false), protected: true},
		"nobody uses it":             {claim: claim(true, claimFinalizer, foreign)},
		"a Pod uses it":              {claim: claim(true, claimFinalizer, foreign), cached: []client.Object{podWith("n", mounts("data"))}, live: []client.Object{podWith("n", mounts("data"))}, protected: true},
		"a Pod that the cache does not know yet uses it":  {claim: claim(true, claimFinalizer, foreign), live: []client.Object{podWith("n", mounts("data"))}, protected: true},
		"a Pod without a node will not get it":            {claim: claim(true, claimFinalizer, foreign), live: []client.Object{podWith("", mounts("data"))}},
		"a Pod uses another one":                          {claim: claim(true, claimFinalizer, foreign), live: []client.Object{podWith("n", mounts("other"))}},
		"a Pod elsewhere uses one of this name":           {claim: claim(true, claimFinalizer, foreign), live: []client.Object{elsewhere}},
		"a generic ephemeral volume is named by its Pod":  {claim: own, live: []client.Object{ephemeral}, protected: true},
		"a deleted one that is not protected stays alone": {claim: claim(true, foreign)},
	} {
		t.Run(what, func(t *testing.T) {
			c := newClient(append(tc.cached, tc.claim)...).Build()
			r := NewClaims(c, users{client: c, live: newClient(tc.live...).Build()})
			if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tc.claim)}); err != nil {
				t.Fatal(err)
			}
			got := &corev1.PersistentVolumeClaim{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(tc.claim), got); err != nil {
				t.Fatal(err)
			}
			if protected := slices.Contains(got.Finalizers, claimFinalizer); protected != tc.protected {
				t.Errorf("protected: %t, want %t (%v)", protected, tc.protected, got.Finalizers)
			}
			if slices.Contains(tc.claim.Finalizers, foreign) != slices.Contains(got.Finalizers, foreign) {
				t.Errorf("the finalizer of somebody else is gone: %v", got.Finalizers)
			}
		})
	}
}

func TestAClaimStaysWhenNobodyKnowsWhoUsesIt(t *testing.T) {
	protected := claim(true, claimFinalizer)
	c := newClient(protected).Build()
	live := newClient().WithInterceptorFuncs(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return errors.New("down")
	}}).Build()
	r := NewClaims(c, users{client: c, live: live})
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(protected)}); err == nil {
		t.Error("no error")
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(protected), protected); err != nil || !slices.Contains(protected.Finalizers, claimFinalizer) {
		t.Errorf("finalizers %v, error %v", protected.Finalizers, err)
	}
}

func TestVolumeUsed(t *testing.T) {
	reference := &corev1.ObjectReference{Namespace: "default", Name: "data"}
	for what, tc := range map[string]struct {
		phase corev1.PersistentVolumePhase
		claim *corev1.ObjectReference
		want  string
	}{
		"bound":                       {corev1.VolumeBound, reference, "PersistentVolumeClaim default/data"},
		"bound, nobody knows to whom": {corev1.VolumeBound, nil, "a claim"},
		"released by a claim":         {corev1.VolumeReleased, reference, ""},
		"reserved, but not bound yet": {corev1.VolumeAvailable, reference, ""},
	} {
		volume := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{ClaimRef: tc.claim}, Status: corev1.PersistentVolumeStatus{Phase: tc.phase}}
		if got, err := volumeUsed(t.Context(), volume); err != nil || got != tc.want {
			t.Errorf("%s: used by %q, want %q; error %v", what, got, tc.want, err)
		}
	}
}

func TestClassUsed(t *testing.T) {
	changing := claim(false)
	changing.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "gold"}
	had := claim(false)
	had.Status.CurrentVolumeAttributesClassName = new("gold")
	wants := claim(false)
	wants.Spec.VolumeAttributesClassName = new("gold")
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{VolumeAttributesClassName: new("gold")}}
	other := claim(false)
	other.Spec.VolumeAttributesClassName = new("silver")
	for what, tc := range map[string]struct {
		object client.Object
		want   string
	}{
		"a volume has it":             {volume, "PersistentVolume v"},
		"a claim wants it":            {wants, "PersistentVolumeClaim default/data"},
		"a claim still has it":        {had, "PersistentVolumeClaim default/data"},
		"a claim is being changed":    {changing, "PersistentVolumeClaim default/data"},
		"a claim is of another class": {other, ""},
	} {
		c := newClient(tc.object).Build()
		class := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}}
		if got, err := (users{client: c}).ofClass(t.Context(), class); err != nil || got != tc.want {
			t.Errorf("%s: used by %q, want %q; error %v", what, got, tc.want, err)
		}
	}
}
