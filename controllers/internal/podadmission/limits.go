package podadmission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// limitsAnnotation says in a Pod what Limits added; the name is upstream's.
const limitsAnnotation = "kubernetes.io/limit-ranger"

// Limits completes pod by the LimitRanges of its Namespace, in their order, and then
// checks it against them, as upstream's LimitRanger plugin does for new Pods. The error
// holds every violation of the first LimitRange that has any.
func Limits(pod *keelsonv1.Pod, ranges []*keelsonv1.LimitRange) error {
	if mirror(pod) {
		return checkLimits(pod, ranges)
	}
	for _, r := range ranges {
		defaultLimits(pod, r)
	}
	return checkLimits(pod, ranges)
}

func checkLimits(pod *keelsonv1.Pod, ranges []*keelsonv1.LimitRange) error {
	for _, r := range ranges {
		var all []error
		for _, limit := range r.Spec.Limits {
			all = append(all, violations(&pod.Spec, &limit)...)
		}
		if err := utilerrors.NewAggregate(all); err != nil {
			return err
		}
	}
	return nil
}

// defaultLimits gives containers the defaults of one LimitRange, and an annotation that
// says so.
func defaultLimits(pod *keelsonv1.Pod, r *keelsonv1.LimitRange) {
	defaults := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, limit := range r.Spec.Limits {
		if limit.Type == corev1.LimitTypeContainer {
			maps.Copy(defaults.Requests, limit.DefaultRequest)
			maps.Copy(defaults.Limits, limit.Default)
		}
	}
	var said []string
	for i := range pod.Spec.Containers {
		said = append(said, defaultContainer(&pod.Spec.Containers[i], &defaults, "container")...)
	}
	for i := range pod.Spec.InitContainers {
		said = append(said, defaultContainer(&pod.Spec.InitContainers[i], &defaults, "init container")...)
	}
	if len(said) > 0 {
		annotations := maps.Clone(pod.Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[limitsAnnotation] = "LimitRanger plugin set: " + strings.Join(said, "; ")
		pod.Annotations = annotations
	}
}

func defaultContainer(c *corev1.Container, defaults *corev1.ResourceRequirements, kind string) []string {
	var said []string
	for _, list := range []struct {
		what string
		have *corev1.ResourceList
		from corev1.ResourceList
	}{{"request", &c.Resources.Requests, defaults.Requests}, {"limit", &c.Resources.Limits, defaults.Limits}} {
		var set []string
		for _, name := range slices.Sorted(maps.Keys(list.from)) {
			if _, has := (*list.have)[name]; has {
				continue
			}
			if *list.have == nil {
				*list.have = corev1.ResourceList{}
			}
			(*list.have)[name] = list.from[name].DeepCopy()
			set = append(set, string(name))
		}
		if len(set) > 0 {
			said = append(said, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), list.what, kind, c.Name))
		}
	}
	return said
}

// violations are those of one item of a LimitRange.
func violations(spec *corev1.PodSpec, limit *corev1.LimitRangeItem) []error {
	var all []error
	switch limit.Type {
	case corev1.LimitTypeContainer:
		for _, c := range slices.Concat(spec.Containers, spec.InitContainers) {
			all = append(all, outOfBounds(limit, c.Resources.Requests, c.Resources.Limits)...)
		}
	case corev1.LimitTypePod:
		pod := &corev1.Pod{Spec: *spec}
		options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
		all = outOfBounds(limit, resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options))
	}
	return all
}

// outOfBounds compares with the minimum, the maximum and the ratio, resource by
// resource in order of their names.
func outOfBounds(limit *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var all []error
	bound := func(list corev1.ResourceList, check func(b bounds) error) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			b := bounds{kind: limit.Type, resource: name, enforced: list[name]}
			b.request, b.requested = requests[name]
			b.limit, b.limited = limits[name]
			if err := check(b); err != nil {
				all = append(all, err)
			}
		}
	}
	bound(limit.Min, bounds.checkMin)
	bound(limit.Max, bounds.checkMax)
	bound(limit.MaxLimitRequestRatio, bounds.checkRatio)
	return all
}

// bounds are the values of one resource, and the one that is enforced.
type bounds struct {
	kind               corev1.LimitType
	resource           corev1.ResourceName
	enforced           resource.Quantity
	request, limit     resource.Quantity
	requested, limited bool
}

func (b bounds) checkMin() error {
	const subject = "minimum %s usage per %s is %s"
	switch {
	case !b.requested:
		return fmt.Errorf(subject+".  No request is specified", b.resource, b.kind, b.enforced.String())
	case b.request.Cmp(b.enforced) < 0:
		return fmt.Errorf(subject+", but request is %s", b.resource, b.kind, b.enforced.String(), b.request.String())
	case b.limited && b.limit.Cmp(b.enforced) < 0:
		return fmt.Errorf(subject+", but limit is %s", b.resource, b.kind, b.enforced.String(), b.limit.String())
	}
	return nil
}

func (b bounds) checkMax() error {
	const subject = "maximum %s usage per %s is %s"
	switch {
	case !b.limited:
		return fmt.Errorf(subject+".  No limit is specified", b.resource, b.kind, b.enforced.String())
	case b.limit.Cmp(b.enforced) > 0:
		return fmt.Errorf(subject+", but limit is %s", b.resource, b.kind, b.enforced.String(), b.limit.String())
	case b.requested && b.request.Cmp(b.enforced) > 0:
		return fmt.Errorf(subject+", but request is %s", b.resource, b.kind, b.enforced.String(), b.request.String())
	}
	return nil
}

func (b bounds) checkRatio() error {
	const subject = "%s max limit to request ratio per %s is %s"
	switch {
	case b.request.IsZero():
		return fmt.Errorf(subject+", but no request is specified or request is 0", b.resource, b.kind, b.enforced.String())
	case b.limit.IsZero():
		return fmt.Errorf(subject+", but no limit is specified or limit is 0", b.resource, b.kind, b.enforced.String())
	}
	if ratio := b.limit.AsApproximateFloat64() / b.request.AsApproximateFloat64(); ratio > b.enforced.AsApproximateFloat64() {
		return fmt.Errorf(subject+", but provided ratio is %f", b.resource, b.kind, b.enforced.String(), ratio)
	}
	return nil
}
