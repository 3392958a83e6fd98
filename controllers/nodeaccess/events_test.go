package nodeaccess

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// A Role or RoleBinding that somebody made under our name is left alone, and Pods say so.
func TestRightsOfAnotherMaker(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "keelson:node:one"}
	tests := map[string]struct {
		foreign client.Object
		want    string
	}{
		"a Role": {&rbacv1.Role{ObjectMeta: meta}, `Warning NodeAccessBlocked Role "keelson:node:one" in namespace "ns" is in the way: ` +
			`it was not made by Keelson (it lacks the label keelson.dev/node-access=generated), and so node one may not read what its Pods there name; delete it`},
		"a RoleBinding": {&rbacv1.RoleBinding{ObjectMeta: meta}, `Warning NodeAccessBlocked RoleBinding "keelson:node:one" in namespace "ns" is in the way: ` +
			`it was not made by Keelson (it lacks the label keelson.dev/node-access=generated), and so node one may not read what its Pods there name; delete it`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pod("needs", "one", "a"), pod("needs-nothing", "one"), tt.foreign)
			recorder := events.NewFakeRecorder(10)
			r.recorder = recorder
			// The manager's cache holds only what has the label.
			r.Reconciler.client = interceptor.NewClient(r.client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					err := c.Get(ctx, key, o, opts...)
					if err == nil && o.GetLabels()[label] == "" {
						return apierrors.NewNotFound(schema.GroupResource{Resource: "roles"}, key.Name)
					}
					return err
				},
			})
			_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "one"}})
			var foreign *foreignError
			if !errors.As(err, &foreign) {
				t.Fatalf("error %v", err)
			}
			var got []string
			for len(recorder.Events) > 0 {
				got = append(got, <-recorder.Events)
			}
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
