// Package allocation tells the resources that a node has given to a Pod from those that
// the Pod asks for now: they differ while a resize waits.
//
// The decisions are pure. Store keeps what was given on disk, and only for Pods that
// were ever resized: what any other was given stands in its spec and in its status. The
// package never changes a Pod of somebody else; it copies. After a crash the file is
// read again; without one the status says what was given.
package allocation

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// Allocation is what a Pod was given.
type Allocation struct {
	// Generation is that of the Pod whose spec asked for it.
	Generation int64 `json:"generation"`
	// Pod is for the Pod as a whole, Containers by name.
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
}

// Of is the Allocation of a Pod that is given what it asks for.
func Of(pod *keelsonv1.Pod) Allocation {
	a := Allocation{Generation: pod.Generation, Pod: pod.Spec.Resources.DeepCopy(), Containers: map[string]corev1.ResourceRequirements{}}
	for _, c := range containers(&pod.Spec) {
		a.Containers[c.Name] = *c.Resources.DeepCopy()
	}
	return a
}

// FromStatus is what the status says that a started Pod was given: what it asks for,
// unless a container shows other cpu or memory.
func FromStatus(pod *keelsonv1.Pod) Allocation {
	a := Of(pod)
	for name, given := range a.Containers {
		s := status.Find(&pod.Status.PodStatus, name)
		if s == nil || s.Resources == nil {
			continue
		}
		a.Containers[name] = status.Actual(given, corev1.ResourceRequirements{Requests: s.AllocatedResources, Limits: s.Resources.Limits})
	}
	return a
}

// Apply returns the Pod with what it was given in place of what it asks for, and whether
// the two differ; the Pod itself when they do not. A container that a knows nothing of
// has what it asks for.
func (a Allocation) Apply(pod *keelsonv1.Pod) (*keelsonv1.Pod, bool) {
	differs := !equality.Semantic.DeepEqual(a.Pod, pod.Spec.Resources)
	for _, c := range containers(&pod.Spec) {
		r, ok := a.Containers[c.Name]
		differs = differs || ok && !equality.Semantic.DeepEqual(r, c.Resources)
	}
	if !differs {
		return pod, false
	}
	given := pod.DeepCopy()
	given.Spec.Resources = a.Pod.DeepCopy()
	for _, c := range containers(&given.Spec) {
		if r, ok := a.Containers[c.Name]; ok {
			c.Resources = *r.DeepCopy()
		}
	}
	return given, true
}

func containers(spec *corev1.PodSpec) []*corev1.Container {
	var all []*corev1.Container
	for i := range spec.InitContainers {
		all = append(all, &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		all = append(all, &spec.Containers[i])
	}
	return all
}

// Waiting is a resize that the node could not give yet.
type Waiting struct {
	// Given and Asked are the Pod with what it has and with what it asks for.
	Given, Asked *keelsonv1.Pod
}

// Order sorts resizes by who comes first, as upstream: who gives something back, then
// the higher priority, then guaranteed Pods, then who has waited longest.
func Order(waiting []Waiting) {
	slices.SortStableFunc(waiting, func(a, b Waiting) int {
		return cmp.Or(
			cmp.Compare(rank(a.increases()), rank(b.increases())),
			-cmp.Compare(priority(a.Asked), priority(b.Asked)),
			cmp.Compare(rank(!guaranteed(a.Asked)), rank(!guaranteed(b.Asked))),
			compareSince(a.Asked, b.Asked),
		)
	})
}

func (w Waiting) increases() bool {
	before := resource.PodRequests(w.Given.Upstream(), resource.PodResourcesOptions{})
	after := resource.PodRequests(w.Asked.Upstream(), resource.PodResourcesOptions{})
	return after.Cpu().Cmp(*before.Cpu()) > 0 || after.Memory().Cmp(*before.Memory()) > 0
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

func priority(pod *keelsonv1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func guaranteed(pod *keelsonv1.Pod) bool { return qos.Class(&pod.Spec) == corev1.PodQOSGuaranteed }

// compareSince puts a resize before others that waits, as the status says, for longer;
// one that the status does not know yet comes last.
func compareSince(a, b *keelsonv1.Pod) int {
	x, y := since(a), since(b)
	switch {
	case x == nil || y == nil:
		return cmp.Compare(rank(x == nil), rank(y == nil))
	default:
		return x.LastTransitionTime.Compare(y.LastTransitionTime.Time)
	}
}

func since(pod *keelsonv1.Pod) *corev1.PodCondition {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
	if i < 0 {
		return nil
	}
	return &pod.Status.Conditions[i]
}
