package env

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// Pods returns the Pods of a namespace, by name.
func (e *Environment) Pods(t testing.TB, namespace string) []*keelsonv1.Pod {
	t.Helper()
	var list keelsonv1.PodList
	if err := e.Client.List(context.WithoutCancel(t.Context()), &list, client.InNamespace(namespace)); err != nil {
		t.Fatalf("failed to list Pods: %v", err)
	}
	var all []*keelsonv1.Pod
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	slices.SortFunc(all, func(a, b *keelsonv1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ActivePods returns the Pods that have not ended and are not asked to.
func (e *Environment) ActivePods(t testing.TB, namespace string) []*keelsonv1.Pod {
	t.Helper()
	return slices.DeleteFunc(e.Pods(t, namespace), func(p *keelsonv1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// EventuallyActive waits until exactly want Pods are active, and returns them.
func (e *Environment) EventuallyActive(t testing.TB, namespace string, want int) (pods []*keelsonv1.Pod) {
	t.Helper()
	Eventually(t, func() string {
		if pods = e.ActivePods(t, namespace); len(pods) != want {
			return fmt.Sprintf("%d active Pods, want %d", len(pods), want)
		}
		return ""
	})
	return pods
}

// Names returns the names of Pods in their order.
func Names(pods []*keelsonv1.Pod) []string {
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

// SetPodStatus writes what a node agent would; a Pod that is gone has none.
func (e *Environment) SetPodStatus(t testing.TB, pod *keelsonv1.Pod, status keelsonv1.PodStatus) {
	t.Helper()
	before := pod.DeepCopy()
	pod.Status = status
	if err := e.Client.Status().Patch(t.Context(), pod, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		t.Fatalf("failed to write the status of Pod %s: %v", pod.Name, err)
	}
}

// RunningPod creates a Pod and writes its status, as an agent would.
func (e *Environment) RunningPod(t testing.TB, b *builders.PodBuilder, ip string, ready bool) *keelsonv1.Pod {
	t.Helper()
	pod := b.Obj()
	e.Create(t, pod)
	status := b.IP(ip).NotReady().Obj().Status
	if ready {
		status = b.Ready().Obj().Status
	}
	next := *pod.Status.DeepCopy()
	next.PodStatus = status.PodStatus
	e.SetPodStatus(t, pod, next)
	return pod
}

// SetReady makes a Pod with one condition ready, or takes that back.
func (e *Environment) SetReady(t testing.TB, pod *keelsonv1.Pod, ready bool) {
	t.Helper()
	next := *pod.Status.DeepCopy()
	next.Conditions[0].Status = map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[ready]
	e.SetPodStatus(t, pod, next)
}

// MakeReady makes Pods ready from now on; no agent would have it otherwise.
func (e *Environment) MakeReady(t testing.TB, pods ...*keelsonv1.Pod) {
	t.Helper()
	for _, pod := range pods {
		e.SetPodStatus(t, pod, builders.MakePod("").Ready(time.Now().Truncate(time.Second)).Obj().Status)
	}
}

// Fail ends a Pod as if its node had found it failed.
func (e *Environment) Fail(t testing.TB, pod *keelsonv1.Pod) {
	t.Helper()
	e.SetPodStatus(t, pod, builders.MakePod("").Phase(corev1.PodFailed).Obj().Status)
}
