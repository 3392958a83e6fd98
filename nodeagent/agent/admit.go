package agent

import (
	"cmp"
	"fmt"
	goruntime "runtime"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// reasonUnsupported is upstream's reason for a Pod that asks for what its node cannot
// give.
const reasonUnsupported = "PodFeatureUnsupported"

// refusal says why a Pod that names this node cannot run on it.
type refusal struct {
	Reason, Message string
}

// Reasons of Pods of another system, as upstream.
const (
	reasonOSNotSupported = "PodOSNotSupported"
	reasonOSLabel        = "PodOSSelectorNodeLabelDoesNotMatch"
)

// checkOS refuses a Pod of another operating system.
func checkOS(pod *keelsonv1.Pod) *refusal {
	if label, ok := pod.Labels[corev1.LabelOSStable]; ok && label != goruntime.GOOS {
		return &refusal{reasonOSLabel, "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if pod.Spec.OS != nil && string(pod.Spec.OS.Name) != goruntime.GOOS {
		return &refusal{reasonOSNotSupported, "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}

// admitPod checks a Pod once, before anything of it runs, as upstream's kubelet does:
// whoever wrote spec.nodeName may not have looked at the node. others are the Pods
// that hold resources here. It returns nil when the Pod fits. A critical Pod is not refused
// for want of resources: it returns what is lacking, for which others must end.
func admitPod(pod *keelsonv1.Pod, others []*keelsonv1.Pod, node *keelsonv1.Node) (*refusal, []shortage) {
	if r := checkOS(pod); r != nil {
		return r, nil
	}
	if r := checkSupport(pod); r != nil {
		return r, nil
	}
	lacks := shortages(pod, others, node.Status.Allocatable)
	if len(lacks) > 0 && !isCritical(pod) {
		return lacks[0].refusal(), nil
	}
	if !staticpods.IsStatic(pod) && !toleratesExecution(pod, node) {
		return predicateFailed("TaintToleration", "node(s) had taints that the pod didn't tolerate"), nil
	}
	if !matchesNode(pod, node) {
		return predicateFailed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"), nil
	}
	if portsConflict(pod, others) {
		return predicateFailed("NodePorts", "node(s) didn't have free ports for the requested pod ports"), nil
	}
	return nil, lacks
}

// checkSupport refuses a Pod with fields that would be without effect here: it came
// past admission, or from a newer version.
func checkSupport(pod *keelsonv1.Pod) *refusal {
	errs := support.CheckPod(&pod.Spec, field.NewPath("spec"))
	if len(errs) == 0 {
		return nil
	}
	return &refusal{Reason: reasonUnsupported, Message: errs.ToAggregate().Error()}
}

// toleratesExecution says that no taint of the node ends the Pod at once. Taints that
// keep new Pods away are the scheduler's business.
func toleratesExecution(pod *keelsonv1.Pod, node *keelsonv1.Node) bool {
	noExecute := func(t *corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }
	_, untolerated := schedulinghelpers.FindMatchingUntoleratedTaint(
		logr.Discard(), node.Spec.Taints, pod.Spec.Tolerations, noExecute, false)
	return !untolerated
}

func predicateFailed(name, why string) *refusal {
	return &refusal{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

// shortage is a resource of which a Pod asks more than is left; of cpu in thousandths.
type shortage struct {
	name                      corev1.ResourceName
	requested, used, capacity int64
}

func (s shortage) refusal() *refusal {
	return &refusal{Reason: "OutOf" + string(s.name), Message: fmt.Sprintf(
		"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", s.name, s.requested, s.used, s.capacity)}
}

// shortages compares requests in millicores and bytes.
func shortages(pod *keelsonv1.Pod, others []*keelsonv1.Pod, allocatable corev1.ResourceList) []shortage {
	var lacks []shortage
	if used, capacity := int64(len(others)), allocatable.Pods().Value(); used+1 > capacity {
		lacks = append(lacks, shortage{corev1.ResourcePods, 1, used, capacity})
	}
	requests := podRequests(pod)
	used := corev1.ResourceList{}
	for _, other := range others {
		for name, quantity := range podRequests(other) {
			sum := used[name]
			sum.Add(quantity)
			used[name] = sum
		}
	}
	for _, name := range sortedNames(requests) {
		wanted, taken, capacity := requests[name], used[name], allocatable[name]
		if _, has := allocatable[name]; wanted.IsZero() || node.IsExtended(name) && !has {
			continue // what the node knows nothing of belongs to the cluster, as upstream has it
		}
		total := taken.DeepCopy()
		total.Add(wanted)
		if total.Cmp(capacity) > 0 {
			lacks = append(lacks, shortage{name, amountOf(name, requests), amountOf(name, used), amountOf(name, allocatable)})
		}
	}
	return lacks
}

func amountOf(name corev1.ResourceName, list corev1.ResourceList) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

func podRequests(pod *keelsonv1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod.Upstream(), resource.PodResourcesOptions{})
}

// sortedNames gives cpu and memory a fixed order, so that the same Pod is refused for
// the same reason.
func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b corev1.ResourceName) int { return cmp.Compare(a, b) })
	return names
}

func matchesNode(pod *keelsonv1.Pod, node *keelsonv1.Node) bool {
	if !labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(node.Labels)) {
		return false
	}
	match, err := nodeaffinity.GetRequiredNodeAffinity(pod.Upstream()).Match(node.Upstream())
	return err == nil && match
}

func portsConflict(pod *keelsonv1.Pod, others []*keelsonv1.Pod) bool {
	mine := hostPorts(pod)
	for _, other := range others {
		for _, taken := range hostPorts(other) {
			if slices.ContainsFunc(mine, taken.conflicts) {
				return true
			}
		}
	}
	return false
}

// hostPort is a port of the machine that a container wants.
type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) conflicts(other hostPort) bool {
	return p.port == other.port && p.protocol == other.protocol &&
		(p.ip == other.ip || isAnyIP(p.ip) || isAnyIP(other.ip))
}

func isAnyIP(ip string) bool { return ip == "" || ip == "0.0.0.0" }

func hostPorts(pod *keelsonv1.Pod) []hostPort {
	var ports []hostPort
	for _, c := range lasting(pod) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ports = append(ports, hostPort{p.HostIP, cmp.Or(p.Protocol, corev1.ProtocolTCP), p.HostPort})
			}
		}
	}
	return ports
}

// lasting are the containers that run beside each other: sidecars and the Pod's own.
func lasting(pod *keelsonv1.Pod) []corev1.Container {
	sidecars := slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool { return !status.IsSidecar(&c) })
	return append(sidecars, pod.Spec.Containers...)
}
