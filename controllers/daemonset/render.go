package daemonset

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	upstreamappsv1 "k8s.io/api/apps/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// renderPod makes the Pod for one node. The scheduler binds it; the affinity leaves it
// no other node.
func renderPod(owner podcontrol.Owner, template *corev1.PodTemplateSpec, hash, node string) *keelsonv1.Pod {
	pod := podcontrol.Render(owner, template)
	pod.Spec.Tolerations = withDaemonTolerations(&pod.Spec)
	pod.Spec.Affinity = onlyOn(node, pod.Spec.Affinity)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[upstreamappsv1.DefaultDaemonSetUniqueLabelKey] = hash
	if generation := owner.Object.GetAnnotations()[upstreamappsv1.DeprecatedTemplateGeneration]; isNumber(generation) {
		pod.Labels[templateGenerationLabel] = generation
	}
	return pod
}

// templateGenerationLabel is what selectors of old look for; upstream has no exported
// name for it outside its own tree. Which Pods are up to date is told by the hash alone.
const templateGenerationLabel = "pod-template-generation"

func isNumber(text string) bool {
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}

// onlyOn replaces what affinity requires of nodes by the name of one: the node was
// chosen by those requirements. affinity is changed in place where there is one.
func onlyOn(node string, affinity *corev1.Affinity) *corev1.Affinity {
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.NodeAffinity == nil {
		affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}},
		}},
	}
	return affinity
}

// targetNode returns the node that pod is bound to or may be bound to only; "" if it
// may go anywhere.
func targetNode(pod *keelsonv1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn {
				if len(field.Values) != 1 {
					return ""
				}
				return field.Values[0]
			}
		}
	}
	return ""
}

// withDaemonTolerations returns spec's tolerations and those of every daemon: it stays
// on a node that is lost, starts on one that is cordoned or under pressure, and, when
// it uses the host's network, on one whose own network is not up.
func withDaemonTolerations(spec *corev1.PodSpec) []corev1.Toleration {
	tolerations := slices.Clone(spec.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		toleration := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		at := slices.IndexFunc(tolerations, func(t corev1.Toleration) bool { return toleration.MatchToleration(&t) })
		if at < 0 {
			tolerations = append(tolerations, toleration)
			return
		}
		// Such as one for a limited time.
		tolerations[at] = toleration
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return tolerations
}
