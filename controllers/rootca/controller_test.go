package rootca

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2/ktesting"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// writes answers writes with an error and counts them.
type writes struct {
	create, patch    error
	creates, patches int
}

func (w *writes) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			w.creates++
			if w.create != nil {
				return w.create
			}
			return c.Create(ctx, o, options...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			w.patches++
			if w.patch != nil {
				return w.patch
			}
			return c.Patch(ctx, o, patch, options...)
		},
	}
}

func TestReconcile(t *testing.T) {
	maps := schema.GroupResource{Resource: "configmaps"}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	ending := namespace.DeepCopy()
	ending.DeletionTimestamp, ending.Finalizers = new(metav1.Now()), []string{"example.com/hold"}
	terminating := apierrors.NewForbidden(maps, Name, errors.New("namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	published := func(change func(*corev1.ConfigMap)) *corev1.ConfigMap {
		m := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: Name, Annotations: map[string]string{descriptionKey: description}},
			Data:       map[string]string{Key: "bundle"},
		}
		if change != nil {
			change(m)
		}
		return m
	}
	other := published(func(m *corev1.ConfigMap) { m.Name = "other" })

	tests := map[string]struct {
		objects     []client.Object
		writes      writes
		wantCreates int
		wantPatches int
		wantErr     bool
		want        *corev1.ConfigMap // nil: not looked at
	}{
		"a namespace without it":            {objects: []client.Object{namespace, other}, wantCreates: 1, want: published(nil)},
		"a namespace that has it":           {objects: []client.Object{namespace, published(nil)}, want: published(nil)},
		"a namespace that is being deleted": {objects: []client.Object{ending}},
		"no namespace":                      {},
		"other certificates": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Data[Key] = "forged" })},
			wantPatches: 1, want: published(nil)},
		"one key too many": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Data["more"] = "x" })},
			wantPatches: 1, want: published(nil)},
		"no data at all": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Data = nil })},
			wantPatches: 1, want: published(nil)},
		"no description": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Annotations = map[string]string{"a": "b"} })},
			wantPatches: 1, want: published(func(m *corev1.ConfigMap) { m.Annotations["a"] = "b" })},
		"a description in other words stays": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Annotations[descriptionKey] = "ours" })},
			want: published(func(m *corev1.ConfigMap) { m.Annotations[descriptionKey] = "ours" })},
		"labels of others stay": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Labels, m.Data = map[string]string{"a": "b"}, nil })},
			wantPatches: 1, want: published(func(m *corev1.ConfigMap) { m.Labels = map[string]string{"a": "b"} })},
		"the namespace ends since the cache saw it": {objects: []client.Object{namespace}, writes: writes{create: terminating}, wantCreates: 1},
		"the namespace went since":                  {objects: []client.Object{namespace}, writes: writes{create: apierrors.NewNotFound(maps, "ns")}, wantCreates: 1},
		"created by somebody else":                  {objects: []client.Object{namespace}, writes: writes{create: apierrors.NewAlreadyExists(maps, Name)}, wantCreates: 1},
		"a right is missing":                        {objects: []client.Object{namespace}, writes: writes{create: apierrors.NewForbidden(maps, Name, errors.New("no rule"))}, wantCreates: 1, wantErr: true},
		"changed since the cache saw it": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Data = nil })},
			writes: writes{patch: apierrors.NewConflict(maps, Name, errors.New("later"))}, wantPatches: 1, wantErr: true},
		"deleted since the cache saw it": {objects: []client.Object{namespace, published(func(m *corev1.ConfigMap) { m.Data = nil })},
			writes: writes{patch: apierrors.NewNotFound(maps, Name)}, wantPatches: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			scheme := runtime.NewScheme()
			if err := corev1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tc.objects...).WithInterceptorFuncs(tc.writes.funcs()).Build()

			_, err := (&Reconciler{client: c, published: c, bundle: "bundle"}).
				Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Name: "ns"}})

			if (err != nil) != tc.wantErr {
				t.Errorf("Reconcile returned %v, want an error: %t", err, tc.wantErr)
			}
			if tc.writes.creates != tc.wantCreates || tc.writes.patches != tc.wantPatches {
				t.Errorf("%d creates, %d patches; want %d, %d", tc.writes.creates, tc.writes.patches, tc.wantCreates, tc.wantPatches)
			}
			if tc.want == nil {
				return
			}
			got := &corev1.ConfigMap{}
			if err := c.Get(ctx, types.NamespacedName{Namespace: "ns", Name: Name}, got); err != nil {
				t.Fatal(err)
			}
			got.ResourceVersion = ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ConfigMap (-want +got):\n%s", diff)
			}
		})
	}
}
