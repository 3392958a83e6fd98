package replication

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func TestStatusCountsReadyAndAvailablePods(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	const minReady = 3
	rc := builders.MakeReplicationController("web", 2).Namespace(ns).MinReadySeconds(minReady).Obj()
	testEnv.Create(t, rc)
	pod := testEnv.EventuallyActive(t, ns, 2)[0]

	since := metav1.Now().Rfc3339Copy()
	before := pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: since}}
	if err := testEnv.Client.Status().Patch(t.Context(), pod, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		want := keelsonv1.WorkloadSummary{Ready: 1, Containers: "main", Images: "test.invalid/main:1", Selector: "app=web"}
		if s.ReadyReplicas != 1 {
			return fmt.Sprintf("readyReplicas %d", s.ReadyReplicas)
		}
		return cmp.Diff(want, s.Summary)
	})
	// Nothing happens to any object now: only the controller's own wake-up counts.
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		if s.AvailableReplicas != 1 {
			return fmt.Sprintf("availableReplicas %d", s.AvailableReplicas)
		}
		return ""
	})
	if waited := time.Since(since.Time); waited < minReady*time.Second {
		t.Errorf("available after %s, want at least %d s", waited, minReady)
	}
}

func TestASpecThatAdmissionNeverSaw(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)

	// Neither replicas nor a selector: one Pod, selected by the template's labels.
	bare := builders.MakeReplicationController("bare", 1).Namespace(ns).Selector(nil).Obj()
	bare.Spec.Replicas = nil
	testEnv.Create(t, bare)
	testEnv.EventuallyActive(t, ns, 1)
	eventuallyStatus(t, bare, func(s keelsonv1.ReplicationControllerStatus) string {
		if s.Summary.Selector != "app=bare" {
			return fmt.Sprintf("selector column %q", s.Summary.Selector)
		}
		return ""
	})

	// A selector that the template does not match would create Pods for ever.
	wrong := builders.MakeReplicationController("wrong", 3).Namespace(ns).Selector(map[string]string{"app": "other"}).Obj()
	testEnv.Create(t, wrong)
	eventuallyStatus(t, wrong, func(s keelsonv1.ReplicationControllerStatus) string {
		if len(s.Conditions) != 1 || s.Conditions[0].Reason != "InvalidSpec" || !strings.Contains(s.Conditions[0].Message, "spec.template.metadata.labels") {
			return fmt.Sprintf("conditions %+v", s.Conditions)
		}
		return ""
	})
	env.Always(t, 200*time.Millisecond, func() string {
		if n := len(testEnv.ActivePods(t, ns)); n != 1 {
			return fmt.Sprintf("%d Pods, want the one of the other controller", n)
		}
		return ""
	})
}

// Orphaning is the garbage collector's work; the controller must not undo it while
// the object waits for that, nor start Pods for it (RC-10).
func TestADeletedReplicationControllerDoesNothing(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("web", 2).Namespace(ns).Obj()
	testEnv.Create(t, rc)
	pods := testEnv.EventuallyActive(t, ns, 2)
	policy := metav1.DeletePropagationOrphan
	if err := testEnv.Client.Delete(t.Context(), rc, &client.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	testEnv.Get(t, rc)
	if len(rc.Finalizers) != 1 || rc.DeletionTimestamp == nil {
		t.Fatalf("the object does not wait for orphaning: %v", rc.Finalizers)
	}
	// As the garbage collector does: the Pods lose their owner.
	before := pods[0].DeepCopy()
	pods[0].OwnerReferences = nil
	testEnv.Patch(t, pods[0], before)
	testEnv.Delete(t, pods[1])
	env.Always(t, 500*time.Millisecond, func() string {
		left := testEnv.ActivePods(t, ns)
		if len(left) != 1 || len(left[0].OwnerReferences) != 0 {
			return fmt.Sprintf("Pods %v: adopted again or replaced", env.Names(left))
		}
		return ""
	})
}
