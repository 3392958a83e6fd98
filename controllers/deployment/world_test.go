package deployment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// world is a Deployment with everything around it: ReplicaSets, whose controller acts
// when it is told to, and Pods, which become ready when they are told to.
type world struct {
	d    *appsv1.Deployment
	sets []*worldSet
	now  time.Time
	log  []string
	made int
}

// worldSet is a ReplicaSet with its Pods.
type worldSet struct {
	rs             *appsv1.ReplicaSet
	name           string
	ready, unready int32
	terminating    int32
}

func (s *worldSet) pods() int32 { return s.ready + s.unready }

func newWorld(replicas int32, surge, unavailable intstr.IntOrString) *world {
	w := &world{now: time.Unix(1000, 0)}
	w.d = &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "web", Generation: 1}}
	w.d.Spec.Replicas = new(replicas)
	w.d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	w.d.Spec.Template.Labels = map[string]string{"app": "web"}
	w.d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "main:1"}}
	w.d.Spec.Strategy.RollingUpdate = &upstreamappsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}
	return w
}

func (w *world) logf(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// edit is what a user does to the Deployment.
func (w *world) edit(what string, change func(*upstreamappsv1.DeploymentSpec)) {
	w.logf("> %s", what)
	change(&w.d.Spec)
	w.d.Generation++
}

func (w *world) image(image string) {
	w.edit("image "+image, func(s *upstreamappsv1.DeploymentSpec) { s.Template.Spec.Containers[0].Image = image })
}

func (w *world) scale(n int32) {
	w.edit(fmt.Sprintf("scale %d", n), func(s *upstreamappsv1.DeploymentSpec) { s.Replicas = new(n) })
}

func (w *world) pause(paused bool) {
	w.edit(fmt.Sprintf("paused %t", paused), func(s *upstreamappsv1.DeploymentSpec) { s.Paused = paused })
}

func (w *world) settings() *settings {
	s, err := settingsOf(w.d)
	if err != nil {
		panic(err)
	}
	return &s
}

// step is one reconciliation of the Deployment, and says whether it wrote anything.
func (w *world) step() bool {
	spec := w.settings()
	var sets []*appsv1.ReplicaSet
	for _, s := range w.sets {
		sets = append(sets, s.rs.DeepCopy())
	}
	p := planStep(w.d.DeepCopy(), spec, sets)
	created, changed := p.creates(), p.creates() || p.changesSets() || len(p.remove) > 0
	if created {
		w.create(p.current)
	}
	for _, s := range p.all() {
		if s.changed() {
			w.change(s)
		}
	}
	for _, rs := range p.remove {
		at := slices.IndexFunc(w.sets, func(s *worldSet) bool { return s.rs.UID == rs.UID })
		w.logf("forget %s", w.sets[at].name)
		w.sets = slices.Delete(w.sets, at, at+1)
	}
	if p.current != nil {
		w.annotate(annotationRevision, p.current.want.Annotations[annotationRevision])
	}
	status := computeStatus(statusInput{deployment: w.d, spec: spec, plan: &p, created: created, now: w.now})
	if !sameStatus(&w.d.Status, &status) {
		w.logConditions(status)
		w.d.Status, changed = status, true
	}
	return changed
}

func (w *world) annotate(key, value string) {
	if w.d.Annotations == nil {
		w.d.Annotations = map[string]string{}
	}
	w.d.Annotations[key] = value
}

func (w *world) logConditions(status appsv1.DeploymentStatus) {
	before := conditions{list: w.d.Status.Conditions}
	for _, c := range status.Conditions {
		if had := before.get(c.Type); had == nil || had.Reason != c.Reason || had.Status != c.Status {
			w.logf("%s=%s %s", c.Type, c.Status, c.Reason)
		}
	}
}

func (w *world) create(s *set) {
	w.made++
	rs := s.want.DeepCopy()
	rs.UID, rs.Generation = types.UID(rs.Name), 1
	rs.CreationTimestamp = metav1.NewTime(w.now.Add(time.Duration(w.made) * time.Second))
	made := &worldSet{rs: rs, name: fmt.Sprintf("v%d", w.made)}
	w.sets = append(w.sets, made)
	w.logf("create %s with %d", made.name, s.size())
}

func (w *world) change(s *set) {
	at := slices.IndexFunc(w.sets, func(x *worldSet) bool { return x.rs.UID == s.have.UID })
	x := w.sets[at]
	if s.sizeBefore() != s.size() {
		w.logf("scale %s %d -> %d", x.name, s.sizeBefore(), s.size())
	}
	x.rs.Annotations = s.want.Annotations
	if s.sizeBefore() != s.size() || x.rs.Spec.MinReadySeconds != s.want.Spec.MinReadySeconds {
		x.rs.Generation++
	}
	x.rs.Spec = *s.want.Spec.DeepCopy()
}

// sync is one reconciliation of a ReplicaSet: it creates or deletes Pods, unready ones
// first, and reports what it found before.
func (s *worldSet) sync() (changed bool) {
	status := &s.rs.Status
	before := *status.DeepCopy()
	status.Replicas, status.ReadyReplicas, status.AvailableReplicas = s.pods(), s.ready, s.ready
	status.TerminatingReplicas = new(s.terminating)
	status.ObservedGeneration = s.rs.Generation
	switch diff := *s.rs.Spec.Replicas - s.pods(); {
	case diff > 0:
		s.unready += diff
		changed = true
	case diff < 0:
		fromUnready := min(-diff, s.unready)
		s.unready -= fromUnready
		s.ready -= -diff - fromUnready
		s.terminating += -diff
		changed = true
	}
	return changed || before.Replicas != status.Replicas || before.AvailableReplicas != status.AvailableReplicas ||
		before.ObservedGeneration != status.ObservedGeneration || *status.TerminatingReplicas != valueOr(before.TerminatingReplicas, -1)
}

// works says whether the Pods of s become ready.
func (s *worldSet) works() bool {
	return !strings.HasPrefix(s.rs.Spec.Template.Spec.Containers[0].Image, "broken")
}

// makeReady lets n Pods of s become ready.
func (s *worldSet) makeReady(n int32) bool {
	n = min(n, s.unready)
	s.unready, s.ready = s.unready-n, s.ready+n
	return n > 0
}

// settle runs everything until nothing happens any more.
func (w *world) settle() {
	for range 1000 {
		changed := w.step()
		for _, s := range w.sets {
			changed = s.sync() || changed
		}
		for _, s := range w.sets {
			if s.works() {
				changed = s.makeReady(s.unready) || changed
			}
			if s.terminating > 0 {
				s.terminating, changed = 0, true
			}
		}
		if !changed {
			w.logState()
			return
		}
	}
	panic("the rollout never settles:\n" + strings.Join(w.log, "\n"))
}

func (w *world) logState() {
	var parts []string
	for _, s := range w.sets {
		parts = append(parts, fmt.Sprintf("%s %d/%d rev %s", s.name, s.ready, *s.rs.Spec.Replicas, s.rs.Annotations[annotationRevision]))
	}
	w.logf("= %s; columns %s %d %d", strings.Join(parts, ", "), w.d.Status.Summary.Ready, w.d.Status.Summary.UpToDate, w.d.Status.Summary.Available)
}

func (w *world) live() (total, ready int32) {
	for _, s := range w.sets {
		total += s.pods()
		ready += s.ready
	}
	return total, ready
}
