// Package downward answers what a Pod asks about itself: the fields and resources that
// a variable (fieldRef, resourceFieldRef) or a file of a downwardAPI volume names.
//
// It is pure: an answer follows from the Pod and from Facts, so variables and files
// cannot disagree.
package downward

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Facts are what a Pod's spec does not say.
type Facts struct {
	// PodIPs are the Pod's addresses; those of the node on its network.
	PodIPs []string
	// HostIPs are the node's addresses.
	HostIPs []string
}

// Field returns what path names of pod, as upstream in a container's environment.
func Field(pod *keelsonv1.Pod, path string, facts Facts) (string, error) {
	switch path {
	case "spec.nodeName", "spec.host":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(facts.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(facts.HostIPs, ","), nil
	case "status.podIP":
		return first(facts.PodIPs), nil
	case "status.podIPs":
		return strings.Join(facts.PodIPs, ","), nil
	}
	return Metadata(pod, path)
}

func first(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// Metadata returns what path names of an object's metadata, as upstream in a downwardAPI
// volume: name, namespace, uid, all labels or annotations (one line each), or one of
// them as metadata.labels['NAME']; one that is not there is empty.
func Metadata(object metav1.Object, path string) (string, error) {
	switch path {
	case "metadata.name":
		return object.GetName(), nil
	case "metadata.namespace":
		return object.GetNamespace(), nil
	case "metadata.uid":
		return string(object.GetUID()), nil
	case "metadata.labels":
		return lines(object.GetLabels()), nil
	case "metadata.annotations":
		return lines(others(object.GetAnnotations())), nil
	}
	list, key, ok := subscript(path)
	if !ok {
		return "", fmt.Errorf("unsupported fieldPath: %v", path)
	}
	switch list {
	case "metadata.labels":
		return object.GetLabels()[key], checkKey(path, key)
	case "metadata.annotations":
		return object.GetAnnotations()[key], checkKey(path, strings.ToLower(key))
	}
	return "", fmt.Errorf("fieldPath %q does not support subscript", path)
}

// others are the annotations without those that Keelson keeps for itself, which nobody
// wrote and no program in a Pod should have to know.
func others(annotations map[string]string) map[string]string {
	rest := maps.Clone(annotations)
	delete(rest, keelsonv1.DeletionGracePeriodAnnotation)
	delete(rest, keelsonv1.GenerationBeforeBindingAnnotation)
	return rest
}

func checkKey(path, key string) error {
	if problems := validation.IsQualifiedName(key); len(problems) > 0 {
		return fmt.Errorf("invalid key subscript in %s: %s", path, strings.Join(problems, ";"))
	}
	return nil
}

// subscript splits "list['key']".
func subscript(path string) (list, key string, ok bool) {
	inner, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	list, key, ok = strings.Cut(inner, "['")
	return list, key, ok && list != ""
}

// lines renders a map as key="value" lines in the order of the keys.
func lines(m map[string]string) string {
	rendered := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		rendered = append(rendered, key+"="+strconv.Quote(m[key]))
	}
	return strings.Join(rendered, "\n")
}
