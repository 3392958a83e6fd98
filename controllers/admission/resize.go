package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
)

// reasonNodeCapacity is the type of the cause in a refusal for want of room.
const reasonNodeCapacity metav1.CauseType = "NodeCapacity"

// resizableResources are those that a Pod can be given more or less of while it runs.
var resizableResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// isResize says that a Pod asks for other cpu or memory than before.
func isResize(spec, old *corev1.PodSpec) bool {
	munged := spec.DeepCopy()
	restoreResources(munged, old)
	return !equality.Semantic.DeepEqual(munged, spec)
}

// restoreResources takes changes of cpu and memory back, for a look at the rest.
func restoreResources(spec, old *corev1.PodSpec) {
	for _, pair := range [][2][]corev1.Container{{spec.Containers, old.Containers}, {spec.InitContainers, old.InitContainers}} {
		now, before := pair[0], pair[1]
		if len(now) != len(before) {
			continue
		}
		for i := range now {
			restoreList(&now[i].Resources.Requests, before[i].Resources.Requests)
			restoreList(&now[i].Resources.Limits, before[i].Resources.Limits)
		}
	}
	if spec.Resources == nil {
		return
	}
	var before corev1.ResourceRequirements
	if old.Resources != nil {
		before = *old.Resources
	}
	restoreList(&spec.Resources.Requests, before.Requests)
	restoreList(&spec.Resources.Limits, before.Limits)
	if old.Resources == nil && len(spec.Resources.Requests)+len(spec.Resources.Limits)+len(spec.Resources.Claims) == 0 {
		spec.Resources = nil
	}
}

func restoreList(now *corev1.ResourceList, before corev1.ResourceList) {
	for _, name := range resizableResources {
		quantity, had := before[name]
		switch {
		case had && *now == nil:
			*now = corev1.ResourceList{name: quantity}
		case had:
			(*now)[name] = quantity
		default:
			delete(*now, name)
		}
	}
	if len(*now) == 0 && len(before) == 0 {
		*now = before
	}
}

// checkResize applies upstream's rules for other resources of a running Pod. That
// nothing else changes with them checkPodUpdate says.
func checkResize(pod, old *keelsonv1.Pod) field.ErrorList {
	if !isResize(&pod.Spec, &old.Spec) {
		return nil
	}
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	var errs field.ErrorList
	if qos.Class(&old.Spec) != qos.Class(&pod.Spec) {
		errs = append(errs, field.Invalid(specPath, old.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	errs = append(errs, checkPodLevelKept(pod.Spec.Resources, old.Spec.Resources)...)
	for _, list := range []struct {
		name     string
		now, old []corev1.Container
	}{{"initContainers", pod.Spec.InitContainers, old.Spec.InitContainers}, {"containers", pod.Spec.Containers, old.Spec.Containers}} {
		if len(list.now) != len(list.old) {
			continue
		}
		for i := range list.now {
			path := specPath.Child(list.name).Index(i)
			errs = append(errs, checkKept(list.now[i].Resources, list.old[i].Resources, path.Child("resources"), "resource")...)
			if list.name == "initContainers" {
				errs = append(errs, checkInitResize(&list.now[i], &list.old[i], path)...)
			}
		}
	}
	return errs
}

func checkPodLevelKept(now, old *corev1.ResourceRequirements) field.ErrorList {
	path := specPath.Child("resources")
	switch {
	case old == nil:
		return nil
	case now == nil:
		return field.ErrorList{field.Forbidden(path, "pod-level resources cannot be removed")}
	}
	return checkKept(*now, *old, path, "pod-level resource")
}

// checkKept refuses to take a request or a limit away.
func checkKept(now, old corev1.ResourceRequirements, path *field.Path, what string) field.ErrorList {
	var errs field.ErrorList
	if anyGone(now.Requests, old.Requests) {
		errs = append(errs, field.Forbidden(path.Child("requests"), what+" requests cannot be removed"))
	}
	if anyGone(now.Limits, old.Limits) {
		errs = append(errs, field.Forbidden(path.Child("limits"), what+" limits cannot be removed"))
	}
	return errs
}

func anyGone(now, old corev1.ResourceList) bool {
	for name := range old {
		if _, ok := now[name]; !ok {
			return true
		}
	}
	return false
}

// checkInitResize refuses to restart an init container that runs once.
func checkInitResize(now, old *corev1.Container, path *field.Path) field.ErrorList {
	sidecar := now.RestartPolicy != nil && *now.RestartPolicy == corev1.ContainerRestartPolicyAlways
	if sidecar || equality.Semantic.DeepEqual(now.Resources, old.Resources) {
		return nil
	}
	var errs field.ErrorList
	for _, policy := range now.ResizePolicy {
		if policy.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Forbidden(path, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"))
		}
	}
	return errs
}

// checkRoom refuses a resize to more than the Pod's node can ever give, as upstream's
// PodResizeValidator. What the node cannot give now waits there.
func checkRoom(ctx context.Context, nodes client.Reader, pod, old *keelsonv1.Pod) (*metav1.Status, error) {
	if nodes == nil || pod.Spec.NodeName == "" || !isResize(&pod.Spec, &old.Spec) {
		return nil, nil
	}
	refuse := func(err error, causes ...metav1.StatusCause) *metav1.Status {
		forbidden := apierrors.NewForbidden(keelsonv1.GroupVersion.WithResource("pods").GroupResource(), pod.Name, err)
		forbidden.ErrStatus.Details.Causes = causes
		return &forbidden.ErrStatus
	}
	node := &keelsonv1.Node{}
	err := nodes.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node)
	if apierrors.IsNotFound(err) {
		return refuse(fmt.Errorf("node %q not found", pod.Spec.NodeName)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read node %q of the Pod: %w", pod.Spec.NodeName, err)
	}
	if problem := exceeds(pod, node.Status.Allocatable); problem != nil {
		return refuse(problem, metav1.StatusCause{Type: reasonNodeCapacity}), nil
	}
	return nil, nil
}

// exceeds says what of the Pod's requests is more than all that the node gives.
func exceeds(pod *keelsonv1.Pod, allocatable corev1.ResourceList) error {
	requests := resource.PodRequests(pod.Upstream(), resource.PodResourcesOptions{})
	var problems []string
	if requests.Cpu().Cmp(*allocatable.Cpu()) > 0 {
		problems = append(problems, fmt.Sprintf("cpu, requested: %d, allocatable: %d", requests.Cpu().MilliValue(), allocatable.Cpu().MilliValue()))
	}
	if requests.Memory().Cmp(*allocatable.Memory()) > 0 {
		problems = append(problems, fmt.Sprintf("memory, requested: %d, allocatable: %d", requests.Memory().Value(), allocatable.Memory().Value()))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("node didn't have enough allocatable resources: " + strings.Join(problems, "; "))
}
