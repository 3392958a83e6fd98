package deployment

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// set is one ReplicaSet of the Deployment, as it is and as it shall be.
type set struct {
	// have is the object that was read, nil for one that is to be created. It is the
	// cache's own: read, never write.
	have *appsv1.ReplicaSet
	// want has its own annotations and replicas; the rest it shares with have.
	want *appsv1.ReplicaSet
}

func (s *set) size() int32  { return valueOr(s.want.Spec.Replicas, 1) }
func (s *set) active() bool { return s.size() > 0 }

// available is how many Pods will still be available when the set has its size: its
// controller may not have deleted the others yet.
func (s *set) available() int32 { return min(s.want.Status.AvailableReplicas, s.size()) }

// sizeBefore is the size that was read; 0 for a new set.
func (s *set) sizeBefore() int32 {
	if s.have == nil {
		return 0
	}
	return valueOr(s.have.Spec.Replicas, 1)
}

func (s *set) changed() bool {
	return s.have != nil && (s.sizeBefore() != s.size() || s.have.Spec.MinReadySeconds != s.want.Spec.MinReadySeconds ||
		!maps.Equal(s.have.Annotations, s.want.Annotations))
}

// unsettled says that the set's controller has not seen its last change, so that what it
// reports may be about another size. A set that never had another size is known anyway.
func (s *set) unsettled() bool {
	return s.want.Generation > 1 && s.want.Status.ObservedGeneration < s.want.Generation
}

// gone says that no Pod of an old set runs any more, nor will: its controller has seen
// that it is wanted empty, and has counted none that is still ending.
func (s *set) gone() bool {
	status := &s.want.Status
	return s.size() == 0 && status.ObservedGeneration >= s.want.Generation &&
		status.Replicas == 0 && valueOr(status.TerminatingReplicas, 0) == 0
}

// scale sets the size, and notes what the Deployment wanted at that moment.
func (s *set) scale(to int32, spec *settings) {
	s.want.Spec.Replicas = new(to)
	s.noteWanted(spec)
}

func (s *set) noteWanted(spec *settings) {
	s.annotate(annotationDesired, strconv.Itoa(int(spec.replicas)))
	s.annotate(annotationMax, strconv.Itoa(int(spec.maxReplicas())))
}

func (s *set) annotate(key, value string) {
	if s.want.Annotations == nil {
		s.want.Annotations = map[string]string{}
	}
	s.want.Annotations[key] = value
}

// noted reads one of the two annotations; a value that nobody of us wrote counts as
// none.
func (s *set) noted(key string) (int32, bool) {
	n, err := strconv.ParseInt(s.want.Annotations[key], 10, 32)
	return int32(n), err == nil && n >= 0
}

func sizes(sets []*set) (total int32) {
	for _, s := range sets {
		total += s.size()
	}
	return total
}

// pods is how many Pods there are or will be; those of sets that have shrunk may not be
// deleted yet.
func pods(sets []*set) (total int32) {
	for _, s := range sets {
		total += max(s.size(), s.want.Status.Replicas)
	}
	return total
}

func available(sets []*set) (total int32) {
	for _, s := range sets {
		total += s.available()
	}
	return total
}

func activeOf(sets []*set) []*set {
	return slices.DeleteFunc(slices.Clone(sets), func(s *set) bool { return !s.active() })
}

func byAge(a, b *set) int {
	return cmp.Or(a.want.CreationTimestamp.Compare(b.want.CreationTimestamp.Time), cmp.Compare(a.want.Name, b.want.Name))
}

// split finds the set of template, the oldest where there are several, and the others,
// oldest first.
func split(template *corev1.PodTemplateSpec, all []*appsv1.ReplicaSet) (current *set, old []*set) {
	sets := make([]*set, len(all))
	for i, rs := range all {
		want := *rs
		want.Annotations = maps.Clone(rs.Annotations)
		sets[i] = &set{have: rs, want: &want}
	}
	slices.SortFunc(sets, byAge)
	at := slices.IndexFunc(sets, func(s *set) bool { return sameTemplate(template, &s.want.Spec.Template) })
	if at < 0 {
		return nil, sets
	}
	return sets[at], slices.Delete(slices.Clone(sets), at, at+1)
}

// sameTemplate compares two templates but for the hash, which only those of ReplicaSets
// have.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(template *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	if _, ok := template.Labels[hashLabel]; !ok {
		return template
	}
	bare := template.DeepCopy()
	delete(bare.Labels, hashLabel)
	return bare
}

// newSet is the ReplicaSet of d's template, of size 0.
func newSet(d *appsv1.Deployment) *set {
	hash := hashOf(&d.Spec.Template, d.Status.CollisionCount)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = labels.Merge(template.Labels, labels.Set{hashLabel: hash})
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = labels.Merge(selector.MatchLabels, labels.Set{hashLabel: hash})
	return &set{want: &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			// The same template has the same name: a second attempt finds the first.
			Name:            setName(d.Name, hash),
			Namespace:       d.Namespace,
			Labels:          template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kind)},
		},
		Spec: upstreamappsv1.ReplicaSetSpec{
			Replicas:        new(int32(0)),
			MinReadySeconds: d.Spec.MinReadySeconds,
			Selector:        selector,
			Template:        template,
		},
	}}
}

func setName(deployment, hash string) string {
	room := validation.DNS1123SubdomainMaxLength - len(hash) - 1
	return deployment[:min(len(deployment), room)] + "-" + hash
}
