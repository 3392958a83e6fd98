package statefulset

import (
	"regexp"
	"strconv"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// numbered are names that a StatefulSet could give; 007 is none.
var numbered = regexp.MustCompile(`^(.+)-(0|[1-9][0-9]*)$`)

// splitName returns the StatefulSet that a Pod's name belongs to, and its number.
func splitName(pod string) (set string, ordinal int, ok bool) {
	parts := numbered.FindStringSubmatch(pod)
	if parts == nil {
		return "", 0, false
	}
	n, err := strconv.ParseInt(parts[2], 10, 32)
	return parts[1], int(n), err == nil
}

func podName(set string, ordinal int) string { return set + "-" + strconv.Itoa(ordinal) }

// ordinalOf returns the number of a Pod of the StatefulSet named set; ok is false for
// one whose name is not of this StatefulSet.
func ordinalOf(set, pod string) (ordinal int, ok bool) {
	owner, ordinal, ok := splitName(pod)
	return ordinal, ok && owner == set
}

// planClaims is podcontrol.PlanClaims for names that mean something: a Pod without a
// number of this StatefulSet is not adopted, and released if it was.
func planClaims(owner podcontrol.Owner, selector labels.Selector, pods []*keelsonv1.Pod) podcontrol.Claims {
	var members, strangers []*keelsonv1.Pod
	for _, pod := range pods {
		if _, ok := ordinalOf(owner.Object.GetName(), pod.Name); ok {
			members = append(members, pod)
		} else {
			strangers = append(strangers, pod)
		}
	}
	claims := podcontrol.PlanClaims(owner, selector, members)
	for _, pod := range strangers {
		if metav1.IsControlledBy(pod, owner.Object) && !owner.Deleting() {
			claims.Release = append(claims.Release, pod)
		}
	}
	return claims
}

// renderPod makes the Pod of one number from the template of one revision.
func renderPod(owner podcontrol.Owner, template *corev1.PodTemplateSpec, service, revision string, ordinal int) *keelsonv1.Pod {
	pod := podcontrol.Render(owner, template)
	pod.GenerateName, pod.Name = "", podName(owner.Object.GetName(), ordinal)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, service
	identify(pod, ordinal)
	pod.Labels[upstreamappsv1.StatefulSetRevisionLabel] = revision
	return pod
}

// identify sets the labels that tell Pods of one StatefulSet apart.
func identify(pod *keelsonv1.Pod, ordinal int) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[upstreamappsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[upstreamappsv1.PodIndexLabel] = strconv.Itoa(ordinal)
}

// isIdentified says whether pod has these labels. As upstream, the index alone is no
// reason to write.
func isIdentified(pod *keelsonv1.Pod) bool {
	return pod.Labels[upstreamappsv1.StatefulSetPodNameLabel] == pod.Name
}

func revisionOf(pod *keelsonv1.Pod) string {
	return pod.Labels[upstreamappsv1.StatefulSetRevisionLabel]
}
