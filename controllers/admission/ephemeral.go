package admission

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
)

// Upstream takes ephemeral containers in a subresource of a Pod that it has, so a dry
// run that creates a Pod cannot judge them as what they are. They have the fields and
// the defaults of other containers, so they stand behind those in the probe.

// lendEphemeral makes the ephemeral containers of an update ordinary ones.
func lendEphemeral(spec tree) {
	lent, ok := spec["ephemeralContainers"].([]any)
	if !ok {
		return // absent, or of a type that upstream refuses
	}
	containers, _ := spec["containers"].([]any)
	all := append([]any{}, containers...)
	for _, e := range lent {
		if object, ok := e.(map[string]any); ok {
			delete(object, "targetContainerName")
		}
		all = append(all, e)
	}
	spec["containers"] = all
	delete(spec, "ephemeralContainers")
}

// returnEphemeral takes them back out of upstream's answer, with its defaults.
func returnEphemeral(answer, user *corev1.PodSpec) {
	first := len(user.Containers)
	if len(answer.Containers) < first+len(user.EphemeralContainers) {
		return // not an answer to this probe; the update will be refused
	}
	answer.EphemeralContainers = nil
	for i := range user.EphemeralContainers {
		e := user.EphemeralContainers[i].DeepCopy()
		resources := e.Resources // what a LimitRange adds is not for them
		e.EphemeralContainerCommon = corev1.EphemeralContainerCommon(answer.Containers[first+i])
		e.Resources = resources
		answer.EphemeralContainers = append(answer.EphemeralContainers, *e)
	}
	answer.Containers = answer.Containers[:first]
}

var containerPath = regexp.MustCompile(`^spec\.containers\[(\d+)\]`)

// renameEphemeral gives upstream's errors about lent containers their real paths.
func renameEphemeral(c change, causes []metav1.StatusCause) ([]metav1.StatusCause, error) {
	if c.isCreate() {
		return causes, nil
	}
	user, err := decodeTree(c.user)
	if err != nil {
		return nil, err
	}
	first := len(user.child("spec").children("containers"))
	renamed := make([]metav1.StatusCause, len(causes))
	for i, cause := range causes {
		if match := containerPath.FindStringSubmatch(cause.Field); match != nil {
			if index, err := strconv.Atoi(match[1]); err == nil && index >= first {
				cause.Field = fmt.Sprintf("spec.ephemeralContainers[%d]%s", index-first, cause.Field[len(match[0]):])
			}
		}
		renamed[i] = cause
	}
	return renamed, nil
}

var ephemeralPath = specPath.Child("ephemeralContainers")

// checkEphemeralFields applies upstream's rules for each ephemeral container as it was
// sent.
func checkEphemeralFields(spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	targets := map[string]bool{}
	for _, c := range append(append([]corev1.Container{}, spec.Containers...), spec.InitContainers...) {
		targets[c.Name] = true
	}
	for i := range spec.EphemeralContainers {
		e, path := &spec.EphemeralContainers[i], ephemeralPath.Index(i)
		if e.TargetContainerName != "" && !targets[e.TargetContainerName] {
			errs = append(errs, field.NotFound(path.Child("targetContainerName"), e.TargetContainerName))
		}
		for _, name := range support.NotInEphemeralContainers() {
			if value := fieldByJSON(reflect.ValueOf(e.EphemeralContainerCommon), name); !value.IsZero() {
				errs = append(errs, field.Forbidden(path.Child(name), "cannot be set for an Ephemeral Container"))
			}
		}
	}
	return errs
}

func fieldByJSON(v reflect.Value, name string) reflect.Value {
	return v.FieldByNameFunc(func(goName string) bool {
		f, _ := v.Type().FieldByName(goName)
		tag := f.Tag.Get("json")
		return tag == name || len(tag) > len(name) && tag[:len(name)+1] == name+","
	})
}

// checkEphemeralKept allows new ephemeral containers and no other change of them.
func checkEphemeralKept(pod, old *keelsonv1.Pod) field.ErrorList {
	if equality.Semantic.DeepEqual(pod.Spec.EphemeralContainers, old.Spec.EphemeralContainers) {
		return nil
	}
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	now := map[string]*corev1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	var errs field.ErrorList
	for _, before := range old.Spec.EphemeralContainers {
		after := now[before.Name]
		switch {
		case after == nil:
			errs = append(errs, field.Forbidden(ephemeralPath, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		case !equality.Semantic.DeepEqual(before, *after):
			errs = append(errs, field.Forbidden(ephemeralPath, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", before.Name, diff.Diff(before, *after))))
		}
	}
	return errs
}
