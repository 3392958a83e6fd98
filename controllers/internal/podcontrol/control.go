// Package podcontrol creates, adopts, releases and deletes the Pods of one workload,
// of whatever kind: what ReplicaSets, Jobs, DaemonSets and StatefulSets have in common.
//
// It decides which Pods a workload could claim, and nothing else about them: how many
// there should be is for its callers. It keeps no memory between two calls; there are
// no expectations, because the caller's client reads its own writes
// (docs/adr/0002-consistency.md). After a crash what was done is visible in the API.
package podcontrol

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ErrNamespaceTerminating says that the namespace is being deleted: every further Pod
// would be refused in the same way, and nobody needs to be told.
var ErrNamespaceTerminating = errors.New("the namespace is being deleted")

// Owner is the workload that Pods belong to.
type Owner struct {
	// Object is the workload itself.
	Object client.Object
	// Kind is its kind; informer objects do not carry it.
	Kind schema.GroupVersionKind
	// Finalizer is put on Pods that are adopted, and taken off those that are released;
	// "" for none.
	Finalizer string
}

// Deleting says that the workload is being deleted: it claims and changes nothing any
// more.
func (o Owner) Deleting() bool { return o.Object.GetDeletionTimestamp() != nil }

// Control writes Pods.
type Control struct {
	// Client writes Pods. Where its reads are cached they must contain its own writes.
	Client client.Client
	// Live reads the owner from the API server before a Pod is adopted.
	Live client.Reader
	// Recorder tells the owner's user what was done.
	Recorder events.EventRecorder
	// Admit completes a Pod as admission would have, or refuses it: webhooks do not see
	// the Pods of the manager.
	Admit func(ctx context.Context, pod *keelsonv1.Pod) error
}

// New returns a Control that writes through mgr and admits Pods as the webhook does.
func New(mgr ctrl.Manager, recorder events.EventRecorder) Control {
	return For(mgr.GetClient(), mgr.GetAPIReader(), recorder)
}

// For is New for those who have no manager.
func For(c client.Client, live client.Reader, recorder events.EventRecorder) Control {
	return Control{Client: c, Live: live, Recorder: recorder, Admit: admitter(c, live)}
}

// Create stores pod, as rendered by Render, and says so in an event on its owner. Its
// error is that of the API as it is, because conditions like ReplicaFailure show it to
// users, and upstream adds nothing either.
func (c Control) Create(ctx context.Context, owner Owner, pod *keelsonv1.Pod) error {
	err := c.Admit(ctx, pod)
	if err == nil {
		err = withoutDenial(c.Client.Create(ctx, pod))
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ErrNamespaceTerminating
	case err != nil:
		recordCreateFailed(c.Recorder, owner.Object, err)
		return err
	}
	recordCreated(c.Recorder, owner.Object, pod)
	return nil
}

// Delete deletes this very pod and says so in an event on owner; a Pod that is gone
// already is no error. An error is worded as upstream's.
func (c Control) Delete(ctx context.Context, owner Owner, pod *keelsonv1.Pod) error {
	err := c.Client.Delete(ctx, pod, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		recordDeleteFailed(c.Recorder, owner.Object, pod, err)
		return fmt.Errorf("unable to delete pods: %w", err)
	}
	recordDeleted(c.Recorder, owner.Object, pod)
	return nil
}
