package streams

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// chooseContainer returns the container that a request means: the named one, or the
// only one. The errors are an API server's.
func chooseContainer(pod *corev1.Pod, named string) (string, error) {
	var names []string
	for i := range pod.Spec.InitContainers {
		names = append(names, pod.Spec.InitContainers[i].Name)
	}
	for i := range pod.Spec.Containers {
		names = append(names, pod.Spec.Containers[i].Name)
	}
	for i := range pod.Spec.EphemeralContainers {
		names = append(names, pod.Spec.EphemeralContainers[i].Name)
	}
	if named != "" {
		for _, name := range names {
			if name == named {
				return name, nil
			}
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", named, pod.Name))
	}
	switch len(pod.Spec.Containers) {
	case 0:
		return "", apierrors.NewBadRequest("a container name must be specified for pod " + pod.Name)
	case 1:
		return pod.Spec.Containers[0].Name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names))
}

// notScheduled is the answer to streams of a Pod that has no node yet.
func notScheduled(pod string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod))
}
