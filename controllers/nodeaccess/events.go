package nodeaccess

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	reasonAccessBlocked = "NodeAccessBlocked"
	actionGrant         = "GrantNodeAccess"
	// told bounds the Pods that hear of one obstacle.
	told = 10
)

// foreignError is a Role or RoleBinding that somebody else made under the name of ours.
// Only a person can tell whether it may go.
type foreignError struct{ kind, namespace, node string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s %q in namespace %q is in the way: it was not made by Keelson (it lacks the label %s=%s), and so node %s may not read what its Pods there name; delete it",
		e.kind, prefix+e.node, e.namespace, label, labelValue, e.node)
}

// foreign says whether what is there already is somebody else's. Ours, which the cache
// does not have yet, comes with the watch.
func (r *Reconciler) foreign(ctx context.Context, object client.Object, namespace, node string, exists error) error {
	kind := "Role"
	if _, binding := object.(*rbacv1.RoleBinding); binding {
		kind = "RoleBinding"
	}
	if err := r.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: prefix + node}, object); err != nil {
		return fmt.Errorf("read %s %s/%s, which is there already: %w", kind, namespace, prefix+node, err)
	}
	if object.GetLabels()[label] == labelValue {
		return fmt.Errorf("%s %s/%s is there already, and not in the cache yet: %w", kind, namespace, prefix+node, exists)
	}
	return &foreignError{kind, namespace, node}
}

// tell lets the Pods that wait for access know what is in the way. It returns err.
func (r *Reconciler) tell(pods []keelsonv1.Pod, err error) error {
	var foreign *foreignError
	if !errors.As(err, &foreign) {
		return err
	}
	count := 0
	for i := range pods {
		if count < told && !computeAccess(pods[i:i+1]).empty() {
			r.recorder.Eventf(&pods[i], nil, corev1.EventTypeWarning, reasonAccessBlocked, actionGrant, "%s", foreign.Error())
			count++
		}
	}
	return err
}
