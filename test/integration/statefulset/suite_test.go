// Package statefulset tests the StatefulSet controller against a real API server, inside a
// running manager; the tests play the part of scheduler and node agents.
package statefulset

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func create(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), obj); err != nil {
		t.Fatalf("failed to create %T: %v", obj, err)
	}
}

func get(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatalf("failed to get %T: %v", obj, err)
	}
}

func remove(t *testing.T, obj client.Object, options ...client.DeleteOption) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), obj, options...); err != nil {
		t.Fatalf("failed to delete %T: %v", obj, err)
	}
}

// change reads obj, changes it and writes it back.
func change[T client.Object](t *testing.T, obj T, f func(T)) {
	t.Helper()
	get(t, obj)
	before := obj.DeepCopyObject().(client.Object)
	f(obj)
	if err := testEnv.Client.Patch(t.Context(), obj, client.MergeFrom(before)); err != nil {
		t.Fatalf("failed to patch %T: %v", obj, err)
	}
}

// pods returns the Pods of ns, by name.
func pods(t *testing.T, ns string) []*keelsonv1.Pod {
	t.Helper()
	var list keelsonv1.PodList
	if err := testEnv.Client.List(context.WithoutCancel(t.Context()), &list, client.InNamespace(ns)); err != nil {
		t.Fatalf("failed to list Pods: %v", err)
	}
	var all []*keelsonv1.Pod
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	slices.SortFunc(all, func(a, b *keelsonv1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func names(pods []*keelsonv1.Pod) []string {
	var out []string
	for _, pod := range pods {
		out = append(out, pod.Name)
	}
	return out
}

// setStatus writes what a node agent would.
func setStatus(t *testing.T, pod *keelsonv1.Pod, status keelsonv1.PodStatus) {
	t.Helper()
	before := pod.DeepCopy()
	pod.Status = status
	if err := testEnv.Client.Status().Patch(t.Context(), pod, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		t.Fatalf("failed to write the status of a Pod: %v", err)
	}
}

// makeReady makes Pods ready from now on; no agent would have it otherwise.
func makeReady(t *testing.T, pods ...*keelsonv1.Pod) {
	t.Helper()
	for _, pod := range pods {
		setStatus(t, pod, builders.MakePod("").Ready(time.Now().Truncate(time.Second)).Obj().Status)
	}
}

func fail(t *testing.T, pod *keelsonv1.Pod) {
	t.Helper()
	setStatus(t, pod, builders.MakePod("").Phase(corev1.PodFailed).Obj().Status)
}

// revisions returns the ControllerRevisions of ns, the oldest first.
func revisions(t *testing.T, ns string) []appsv1.ControllerRevision {
	t.Helper()
	var list appsv1.ControllerRevisionList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatalf("failed to list ControllerRevisions: %v", err)
	}
	slices.SortFunc(list.Items, func(a, b appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
	return list.Items
}

// eventuallyEvent waits for an event whose note begins with prefix.
func eventuallyEvent(t *testing.T, ns, reason, prefix string) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatalf("failed to list events: %v", err)
		}
		if slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == reason && strings.HasPrefix(e.Note, prefix) }) {
			return ""
		}
		return fmt.Sprintf("no event %s: %s", reason, prefix)
	})
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(testEnv.BinDir, "kubectl"), append([]string{"--kubeconfig", testEnv.Kubeconfig}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// orphan takes the owners away, as the garbage collector does for --cascade=orphan.
func orphan[T client.Object](t *testing.T, obj T) {
	t.Helper()
	change(t, obj, func(o T) { o.SetOwnerReferences(nil) })
}

func isControlled(obj, owner client.Object) bool { return metav1.IsControlledBy(obj, owner) }
