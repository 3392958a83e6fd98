package resources

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// podDeletion is what one request makes of the deletion of one Pod.
type podDeletion struct {
	// pending: the Pod is being deleted already, and not later than is asked for.
	pending bool
	// now: the object goes at once, whatever its node still does.
	now bool
	// grace is the annotation's value to be, nil for none.
	grace *int64
}

// planPodDeletion decides as upstream's Pod storage does (rest.BeforeDelete with the
// strategy of Pods): a grace period is what is asked for, or the spec's; it only
// shrinks; Pods without a node and Pods that have ended go at once.
func planPodDeletion(pod *corev1.Pod, asked *int64) podDeletion {
	if asked != nil && *asked < 0 {
		asked = new(int64(1))
	}
	specified := specifiedGrace(pod)
	if pod.DeletionTimestamp != nil {
		return planShorter(pod, asked, specified)
	}
	period := specified
	if asked != nil {
		period = *asked
	}
	if pod.Spec.NodeName == "" || ended(pod) {
		period = 0
	}
	if period == 0 {
		return podDeletion{now: true, grace: new(int64(0))}
	}
	if period >= specified {
		return podDeletion{}
	}
	return podDeletion{grace: &period}
}

// planShorter is about a Pod that is being deleted.
func planShorter(pod *corev1.Pod, asked *int64, specified int64) podDeletion {
	current := specified
	if annotated := annotatedGrace(pod); annotated != nil {
		current = min(current, *annotated)
	}
	switch {
	case current == 0, pod.Spec.NodeName == "", asked != nil && *asked == 0:
		return podDeletion{now: true, grace: new(int64(0))}
	case asked == nil, *asked >= current:
		return podDeletion{pending: true, grace: annotatedGrace(pod)}
	}
	return podDeletion{grace: asked}
}

func specifiedGrace(pod *corev1.Pod) int64 {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if specified := pod.Spec.TerminationGracePeriodSeconds; specified != nil {
		seconds = *specified
	}
	if seconds < 0 {
		return 1
	}
	return seconds
}

// annotatedGrace is the annotation's value; one that is no number counts as absent.
func annotatedGrace(pod *corev1.Pod) *int64 {
	seconds, err := strconv.ParseInt(pod.Annotations[keelsonv1.DeletionGracePeriodAnnotation], 10, 64)
	if err != nil {
		return nil
	}
	if seconds < 0 {
		seconds = 1
	}
	return &seconds
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// annotationPatch is the merge patch that gives the Pod the plan's grace, nil when it
// has it. The version makes it fail when the Pod is no longer the one the plan is for.
func (d podDeletion) annotationPatch(pod *corev1.Pod) map[string]any {
	var want any
	if d.grace != nil {
		want = strconv.FormatInt(*d.grace, 10)
	}
	have, ok := pod.Annotations[keelsonv1.DeletionGracePeriodAnnotation]
	if ok && want == have || !ok && want == nil {
		return nil
	}
	return map[string]any{"metadata": map[string]any{
		"uid":             string(pod.UID),
		"resourceVersion": pod.ResourceVersion,
		"annotations":     map[string]any{keelsonv1.DeletionGracePeriodAnnotation: want},
	}}
}

// releasePatch takes the finalizer off a Pod that goes at once, nil when it has none.
func releasePatch(pod *corev1.Pod) map[string]any {
	if !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == keelsonv1.PodFinalizer })
	return map[string]any{"metadata": map[string]any{
		"uid":             string(pod.UID),
		"resourceVersion": pod.ResourceVersion,
		"finalizers":      kept,
		"annotations":     map[string]any{keelsonv1.DeletionGracePeriodAnnotation: "0"},
	}}
}

// checkPreconditions compares what the caller expects with the Pod that was read.
func checkPreconditions(pod *corev1.Pod, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	kind := schema.GroupResource{Resource: "Pod"}
	if p.UID != nil && *p.UID != pod.UID {
		return apierrors.NewConflict(kind, pod.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, pod.UID))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != pod.ResourceVersion {
		return apierrors.NewConflict(kind, pod.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, pod.ResourceVersion))
	}
	return nil
}
