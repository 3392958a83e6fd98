package state

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Term is one term of Pod affinity or anti-affinity, parsed.
type Term struct {
	// Key is equal for terms that select the same Pods and the same topology.
	Key         string
	TopologyKey string
	// Weight is that of a preferred term, else 0.
	Weight int64

	selector          labels.Selector
	namespaces        sets.Set[string]
	namespaceSelector labels.Selector
}

// Matches tells whether the term selects pod, which is in a namespace with these labels.
func (t *Term) Matches(pod *PodInfo, namespaceLabels labels.Set) bool {
	return (t.namespaces.Has(pod.Pod.Namespace) || t.namespaceSelector.Matches(namespaceLabels)) &&
		t.selector.Matches(pod.labels)
}

// affinityTerms are a Pod's terms by kind.
type affinityTerms struct {
	// Required and preferred terms. A Pod has all of Affinity and none of AntiAffinity
	// in the topology that it goes to.
	RequiredAffinity, RequiredAntiAffinity   []*Term
	PreferredAffinity, PreferredAntiAffinity []*Term
}

func (a *affinityTerms) none() bool {
	return len(a.RequiredAffinity)+len(a.RequiredAntiAffinity)+len(a.PreferredAffinity)+len(a.PreferredAntiAffinity) == 0
}

func newAffinityTerms(pod *corev1.Pod) affinityTerms {
	var a affinityTerms
	affinity := pod.Spec.Affinity
	if affinity == nil {
		return a
	}
	if with := affinity.PodAffinity; with != nil {
		a.RequiredAffinity = requiredTerms(pod, with.RequiredDuringSchedulingIgnoredDuringExecution)
		a.PreferredAffinity = preferredTerms(pod, with.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if without := affinity.PodAntiAffinity; without != nil {
		a.RequiredAntiAffinity = requiredTerms(pod, without.RequiredDuringSchedulingIgnoredDuringExecution)
		a.PreferredAntiAffinity = preferredTerms(pod, without.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return a
}

func requiredTerms(pod *corev1.Pod, terms []corev1.PodAffinityTerm) []*Term {
	var parsed []*Term
	for i := range terms {
		parsed = append(parsed, newTerm(pod, &terms[i], 0))
	}
	return parsed
}

func preferredTerms(pod *corev1.Pod, terms []corev1.WeightedPodAffinityTerm) []*Term {
	var parsed []*Term
	for i := range terms {
		parsed = append(parsed, newTerm(pod, &terms[i].PodAffinityTerm, int64(terms[i].Weight)))
	}
	return parsed
}

func newTerm(pod *corev1.Pod, term *corev1.PodAffinityTerm, weight int64) *Term {
	t := &Term{
		TopologyKey:       term.TopologyKey,
		Weight:            weight,
		selector:          parse(term.LabelSelector),
		namespaces:        sets.New(term.Namespaces...),
		namespaceSelector: parse(term.NamespaceSelector),
	}
	if len(term.Namespaces) == 0 && term.NamespaceSelector == nil {
		t.namespaces.Insert(pod.Namespace)
	}
	t.selector = WithLabelKeys(t.selector, pod.Labels, term.MatchLabelKeys, selection.In)
	t.selector = WithLabelKeys(t.selector, pod.Labels, term.MismatchLabelKeys, selection.NotIn)
	t.Key = strings.Join([]string{
		t.TopologyKey, t.selector.String(), t.namespaceKey(),
	}, "\x00")
	return t
}

// namespaceKey tells apart a selector of everything and one of nothing, whose texts are
// both empty.
func (t *Term) namespaceKey() string {
	names := sets.List(t.namespaces)
	if t.namespaceSelector.Empty() {
		names = append(names, "*")
	}
	return strings.Join(append(names, t.namespaceSelector.String()), "\x01")
}

// parse reads a selector. Admission refuses what cannot be parsed; such a selector here
// selects nothing, like a missing one.
func parse(selector *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

// WithLabelKeys adds to selector what matchLabelKeys (In) or mismatchLabelKeys (NotIn)
// of a Pod with these labels mean. Upstream's API server adds it to the selector when it
// stores the Pod; a key that is there already is left as it was then.
func WithLabelKeys(selector labels.Selector, podLabels map[string]string, keys []string, operator selection.Operator) labels.Selector {
	present, selectable := selector.Requirements()
	if !selectable {
		return selector
	}
	for _, key := range keys {
		value, has := podLabels[key]
		if !has || slices.ContainsFunc(present, func(r labels.Requirement) bool { return r.Key() == key }) {
			continue
		}
		if requirement, err := labels.NewRequirement(key, operator, []string{value}); err == nil {
			selector = selector.Add(*requirement)
		}
	}
	return selector
}

// Namespaces knows the labels of namespaces.
type Namespaces map[string]labels.Set

// In returns t as a term of a Pod that is to be placed: with the namespaces that its
// selector selects now by name, so that matching needs no labels of namespaces.
func (t *Term) In(namespaces Namespaces) *Term {
	if t.namespaceSelector.Empty() || t.selectsNoNamespace() {
		return t
	}
	resolved := *t
	resolved.namespaces = t.namespaces.Clone()
	for name, set := range namespaces {
		if t.namespaceSelector.Matches(set) {
			resolved.namespaces.Insert(name)
		}
	}
	resolved.namespaceSelector = labels.Nothing()
	resolved.Key = strings.Join([]string{t.TopologyKey, t.selector.String(), resolved.namespaceKey()}, "\x00")
	return &resolved
}

func (t *Term) selectsNoNamespace() bool {
	_, selectable := t.namespaceSelector.Requirements()
	return !selectable
}

// MayMatch tells whether the term selects pod, whatever labels its namespace has if the
// term selects namespaces.
func (t *Term) MayMatch(pod *PodInfo) bool {
	return (t.namespaces.Has(pod.Pod.Namespace) || !t.selectsNoNamespace()) && t.selector.Matches(pod.labels)
}
