package translate

import (
	"encoding/json"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/internal/qos"
)

// appendQOSClass appends the class of a Pod with this spec, as a member of a status
// that does not say it. Upstream's says it from the Pod's creation; here the Pod's node
// writes it. A spec that cannot be read has no class.
func appendQOSClass(w *writer, spec []byte) {
	if spec == nil {
		return // metadata alone
	}
	class, ok := qosClass(spec)
	if !ok {
		return
	}
	w.next([]byte(`"` + qosClassMember + `":`))
	w.value(strconv.AppendQuote(nil, string(class)))
}

const qosClassMember = "qosClass"

func qosClass(spec []byte) (corev1.PodQOSClass, bool) {
	// Only what counts is decoded: the specs of thousands of Pods may wait in a list.
	type sized []struct {
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	var asked struct {
		Resources      *corev1.ResourceRequirements `json:"resources"`
		InitContainers sized                        `json:"initContainers"`
		Containers     sized                        `json:"containers"`
	}
	if err := json.Unmarshal(spec, &asked); err != nil {
		return "", false
	}
	containers := func(all sized) []corev1.Container {
		typed := make([]corev1.Container, len(all))
		for i := range all {
			typed[i].Resources = all[i].Resources
		}
		return typed
	}
	return qos.Class(&corev1.PodSpec{Resources: asked.Resources, InitContainers: containers(asked.InitContainers), Containers: containers(asked.Containers)}), true
}
