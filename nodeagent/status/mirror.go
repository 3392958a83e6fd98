package status

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ObserveStatic takes note of a Pod that is no object of the API. Its status is kept,
// and written to its mirror as soon as it has one.
func (w *Writer) ObserveStatic(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entries[uid] == nil {
		w.entries[uid] = &entry{static: true}
	}
}

// ObserveMirror says which object of the API shows the static Pod of this UID; nil says
// that none does. What an earlier agent wrote there goes on.
func (w *Writer) ObserveMirror(uid types.UID, mirror *keelsonv1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[uid]
	switch {
	case e == nil:
		return // nothing of the Pod runs any more
	case mirror == nil:
		e.inAPI = nil
		return
	case e.inAPI != nil && e.inAPI.UID == mirror.UID && !newer(e.inAPI, mirror):
		return
	}
	e.inAPI = mirror
	if e.wanted != nil {
		wanted := adopt(*e.wanted, &mirror.Status.PodStatus)
		e.wanted = &wanted
		w.queue.Add(uid)
	}
}

// adopt returns s with what only an earlier agent knew: when things began, and the
// address of a Pod whose network cannot be asked yet.
func adopt(s corev1.PodStatus, before *corev1.PodStatus) corev1.PodStatus {
	s = *s.DeepCopy()
	if t := before.StartTime; !t.IsZero() && (s.StartTime.IsZero() || t.Before(s.StartTime)) {
		s.StartTime = t.DeepCopy()
	}
	ready := findCondition(s.Conditions, corev1.PodReadyToStartContainers)
	if s.PodIP == "" && ready != nil && ready.Status == corev1.ConditionTrue {
		s.PodIP, s.PodIPs = before.PodIP, slices.Clone(before.PodIPs)
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		old := findCondition(before.Conditions, c.Type)
		if old != nil && old.Status == c.Status && earlier(old.LastTransitionTime, c.LastTransitionTime) {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return s
}

func earlier(a, b metav1.Time) bool { return !a.IsZero() && a.Before(&b) }
