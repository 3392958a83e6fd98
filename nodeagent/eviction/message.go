package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reason is that of an evicted Pod and of its event, as upstream.
const Reason = "Evicted"

// Annotations of the event, as upstream.
const (
	annotationContainers      = "offending_containers"
	annotationContainersUsage = "offending_containers_usage"
	annotationPod             = "offending_pod"
	annotationPodUsage        = "offending_pod_usage"
	annotationResource        = "starved_resource"
)

// explain says why a Pod is ended for what is short, in upstream's words.
func explain(c Candidate, short corev1.ResourceName, active []Threshold, seen Observations) (message string, annotations map[string]string) {
	annotations = map[string]string{}
	message = fmt.Sprintf("The node was low on resource: %v. ", short)
	if quantity, available, ok := thresholdMet(short, active, seen); ok {
		message += fmt.Sprintf("Threshold quantity: %v, available: %v. ", quantity, available)
	}
	if c.Usage == nil {
		return message, annotations
	}
	if request, ok := podLevelRequest(c.Pod, short); ok {
		usage := bytes(c.Usage.Memory)
		message += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %v. ", c.Pod.Name, usage, request.String(), short)
		annotations[annotationPod], annotations[annotationPodUsage] = c.Pod.Name, usage
	}
	var names, usages []string
	for _, used := range c.Usage.Containers {
		container := containerOf(c.Pod, used.Name)
		amount, counted := used.of(short)
		if container == nil || !counted {
			continue
		}
		request := container.Resources.Requests[short]
		if amount <= request.Value() {
			continue
		}
		message += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", used.Name, bytes(amount), request.String(), short)
		names, usages = append(names, used.Name), append(usages, bytes(amount))
	}
	annotations[annotationContainers] = strings.Join(names, ",")
	annotations[annotationContainersUsage] = strings.Join(usages, ",")
	annotations[annotationResource] = string(short)
	return message, annotations
}

// of is what the container uses of something that messages tell per container.
func (u ContainerUsage) of(name corev1.ResourceName) (int64, bool) {
	switch name {
	case corev1.ResourceMemory:
		return u.Memory, true
	case corev1.ResourceEphemeralStorage:
		return u.Rootfs.Bytes + u.Logs.Bytes, true
	default:
		return 0, false
	}
}

// podLevelRequest is what the Pod as a whole asked for, of memory.
func podLevelRequest(pod *keelsonv1.Pod, name corev1.ResourceName) (resource.Quantity, bool) {
	if name != corev1.ResourceMemory || pod.Spec.Resources == nil {
		return resource.Quantity{}, false
	}
	request, ok := pod.Spec.Resources.Requests[name]
	return request, ok
}

func containerOf(pod *keelsonv1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// thresholdMet is the first threshold of what is short that acts, and what there is.
func thresholdMet(short corev1.ResourceName, active []Threshold, seen Observations) (quantity, available string, ok bool) {
	for _, t := range active {
		o, observed := seen[t.Signal]
		if resourceOf(t.Signal) != short || !observed {
			continue
		}
		text := bytes(t.Value.of(o.Capacity))
		if t.Value.Quantity != nil {
			text = t.Value.Quantity.String()
		}
		format := resource.BinarySI
		if short == resourceInodes || short == resourcePids {
			format = resource.DecimalSI
		}
		return text, resource.NewQuantity(o.Available, format).String(), true
	}
	return "", "", false
}

func bytes(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
