package schedulertest

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Pod builds a Pod.
type Pod struct{ pod keelsonv1.Pod }

// MakePod starts a Pod in the namespace "ns" with one container that asks for nothing.
func MakePod(name string) *Pod {
	p := &Pod{}
	p.pod.Namespace, p.pod.Name, p.pod.UID = "ns", name, types.UID("uid-"+name)
	p.pod.Spec.Containers = []corev1.Container{{Name: "main"}}
	return p
}

// Obj returns the Pod.
func (p *Pod) Obj() *keelsonv1.Pod { return p.pod.DeepCopy() }

// Info returns the Pod as the scheduler keeps it.
func (p *Pod) Info() *state.PodInfo { return state.NewPodInfo(p.Obj()) }

// Change changes the Pod.
func (p *Pod) Change(change func(*keelsonv1.Pod)) *Pod { change(&p.pod); return p }

// Namespace sets the namespace.
func (p *Pod) Namespace(namespace string) *Pod { p.pod.Namespace = namespace; return p }

// Label sets one label.
func (p *Pod) Label(key, value string) *Pod {
	if p.pod.Labels == nil {
		p.pod.Labels = map[string]string{}
	}
	p.pod.Labels[key] = value
	return p
}

// Asks sets requests of the first container; an empty amount is none.
func (p *Pod) Asks(cpu, memory string) *Pod {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	p.pod.Spec.Containers[0].Resources.Requests = list
	return p
}

// AsksFor adds a request of the first container.
func (p *Pod) AsksFor(name corev1.ResourceName, amount string) *Pod {
	main := &p.pod.Spec.Containers[0]
	if main.Resources.Requests == nil {
		main.Resources.Requests = corev1.ResourceList{}
	}
	main.Resources.Requests[name] = resource.MustParse(amount)
	return p
}

// Image sets the image of the first container.
func (p *Pod) Image(image string) *Pod { p.pod.Spec.Containers[0].Image = image; return p }

// HostPort claims a port of the Node.
func (p *Pod) HostPort(port int32, protocol corev1.Protocol, ip string) *Pod {
	main := &p.pod.Spec.Containers[0]
	main.Ports = append(main.Ports, corev1.ContainerPort{ContainerPort: port, HostPort: port, Protocol: protocol, HostIP: ip})
	return p
}

// Tolerates adds a toleration.
func (p *Pod) Tolerates(t corev1.Toleration) *Pod {
	p.pod.Spec.Tolerations = append(p.pod.Spec.Tolerations, t)
	return p
}

// Selects sets the node selector.
func (p *Pod) Selects(key, value string) *Pod {
	p.pod.Spec.NodeSelector = map[string]string{key: value}
	return p
}

func (p *Pod) affinity() *corev1.Affinity {
	if p.pod.Spec.Affinity == nil {
		p.pod.Spec.Affinity = &corev1.Affinity{}
	}
	return p.pod.Spec.Affinity
}

// Requires adds a term of required node affinity.
func (p *Pod) Requires(terms ...corev1.NodeSelectorTerm) *Pod {
	p.affinity().NodeAffinity = &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}
	return p
}

// Prefers adds a preference for Nodes with a label.
func (p *Pod) Prefers(weight int32, key, value string) *Pod {
	a := p.affinity()
	if a.NodeAffinity == nil {
		a.NodeAffinity = &corev1.NodeAffinity{}
	}
	a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.PreferredSchedulingTerm{Weight: weight, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}})
	return p
}

// Term selects Pods with a label, by a topology key.
func Term(topologyKey, key, value string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey: topologyKey, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
	}
}

// With adds a term of required Pod affinity.
func (p *Pod) With(term corev1.PodAffinityTerm) *Pod {
	a := p.affinity()
	if a.PodAffinity == nil {
		a.PodAffinity = &corev1.PodAffinity{}
	}
	a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term)
	return p
}

// PrefersWith adds a term of preferred Pod affinity.
func (p *Pod) PrefersWith(weight int32, term corev1.PodAffinityTerm) *Pod {
	a := p.affinity()
	if a.PodAffinity == nil {
		a.PodAffinity = &corev1.PodAffinity{}
	}
	a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: term})
	return p
}

// Without adds a term of required Pod anti-affinity.
func (p *Pod) Without(term corev1.PodAffinityTerm) *Pod {
	a := p.affinity()
	if a.PodAntiAffinity == nil {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term)
	return p
}

// PrefersWithout adds a term of preferred Pod anti-affinity.
func (p *Pod) PrefersWithout(weight int32, term corev1.PodAffinityTerm) *Pod {
	a := p.affinity()
	if a.PodAntiAffinity == nil {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: term})
	return p
}

// Spread adds a constraint over Pods with a label.
func (p *Pod) Spread(maxSkew int32, topologyKey string, action corev1.UnsatisfiableConstraintAction, key, value string, change ...func(*corev1.TopologySpreadConstraint)) *Pod {
	c := corev1.TopologySpreadConstraint{
		MaxSkew: maxSkew, TopologyKey: topologyKey, WhenUnsatisfiable: action,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
	}
	for _, f := range change {
		f(&c)
	}
	p.pod.Spec.TopologySpreadConstraints = append(p.pod.Spec.TopologySpreadConstraints, c)
	return p
}

// On binds the Pod.
func (p *Pod) On(node string) *Pod { p.pod.Spec.NodeName = node; return p }

// Nominated says which Node the Pod waits for.
func (p *Pod) Nominated(node string) *Pod { p.pod.Status.NominatedNodeName = node; return p }

// Priority sets the priority.
func (p *Pod) Priority(value int32) *Pod { p.pod.Spec.Priority = &value; return p }

// NeverPreempts sets the preemption policy.
func (p *Pod) NeverPreempts() *Pod {
	p.pod.Spec.PreemptionPolicy = new(corev1.PreemptNever)
	return p
}

// Started sets when the Node began to run the Pod, in seconds.
func (p *Pod) Started(seconds int64) *Pod {
	p.pod.Status.StartTime = &metav1.Time{Time: time.Unix(seconds, 0)}
	return p
}

// Deleting marks the Pod as being deleted.
func (p *Pod) Deleting() *Pod {
	p.pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	return p
}

// Preempted says that the Pod goes for a more important one.
func (p *Pod) Preempted() *Pod {
	p.pod.Status.Conditions = append(p.pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
	})
	return p.Deleting()
}

// Phase sets the phase.
func (p *Pod) Phase(phase corev1.PodPhase) *Pod { p.pod.Status.Phase = phase; return p }

// Generation sets metadata.generation.
func (p *Pod) Generation(generation int64) *Pod { p.pod.Generation = generation; return p }
