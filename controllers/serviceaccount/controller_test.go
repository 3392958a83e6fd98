package serviceaccount

import (
	"context"
	"errors"
	"testing"

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

func TestReconcile(t *testing.T) {
	accounts := schema.GroupResource{Resource: "serviceaccounts"}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	ending := namespace.DeepCopy()
	ending.DeletionTimestamp, ending.Finalizers = new(metav1.Now()), []string{"example.com/hold"}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: Name}}
	other := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "other"}}
	terminating := apierrors.NewForbidden(accounts, Name, errors.New("namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}

	tests := map[string]struct {
		objects     []client.Object
		createError error
		wantCreates int
		wantErr     bool
	}{
		"a namespace without accounts":           {objects: []client.Object{namespace}, wantCreates: 1},
		"a namespace with another account":       {objects: []client.Object{namespace, other}, wantCreates: 1},
		"a namespace that has it":                {objects: []client.Object{namespace, account}},
		"a namespace that is being deleted":      {objects: []client.Object{ending}},
		"no namespace":                           {},
		"deleted since the cache saw it":         {objects: []client.Object{namespace}, createError: terminating, wantCreates: 1},
		"gone since the cache saw it":            {objects: []client.Object{namespace}, createError: apierrors.NewNotFound(accounts, "ns"), wantCreates: 1},
		"created by somebody else":               {objects: []client.Object{namespace}, createError: apierrors.NewAlreadyExists(accounts, Name), wantCreates: 1},
		"a right is missing":                     {objects: []client.Object{namespace}, createError: apierrors.NewForbidden(accounts, Name, errors.New("no rule")), wantCreates: 1, wantErr: true},
		"the API server has no time for a write": {objects: []client.Object{namespace}, createError: apierrors.NewTooManyRequestsError("later"), wantCreates: 1, wantErr: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			scheme := runtime.NewScheme()
			if err := corev1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			var created []types.NamespacedName
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tc.objects...).WithInterceptorFuncs(interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
					created = append(created, client.ObjectKeyFromObject(o))
					if tc.createError != nil {
						return tc.createError
					}
					return c.Create(ctx, o, options...)
				},
			}).Build()

			_, err := (&Reconciler{client: c}).Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Name: "ns"}})

			if (err != nil) != tc.wantErr {
				t.Errorf("Reconcile returned %v, want an error: %t", err, tc.wantErr)
			}
			if len(created) != tc.wantCreates {
				t.Errorf("created %v, want %d", created, tc.wantCreates)
			}
			for _, key := range created {
				if want := (types.NamespacedName{Namespace: "ns", Name: Name}); key != want {
					t.Errorf("created %s, want %s", key, want)
				}
			}
		})
	}
}
