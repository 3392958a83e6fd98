package statefulset

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Verbs of events; reasons are made of them, as upstream's.
const (
	verbCreate = "Create"
	verbDelete = "Delete"
	verbUpdate = "Update"

	// reasonInvalid is for what upstream refuses at admission.
	reasonInvalid = "InvalidSpec"

	// maxError keeps the note below the limit of events.k8s.io/v1 (1024 bytes): names
	// take up to 253 bytes for the set and 63 for the Pod.
	maxError = 600
)

func recordDone(r events.EventRecorder, set *appsv1.StatefulSet, pod *keelsonv1.Pod, verb string) {
	r.Eventf(set, related(pod), corev1.EventTypeNormal, "Successful"+verb, verb+"Pod",
		"%s Pod %s in StatefulSet %s successful", verb, pod.Name, set.Name)
}

func recordFailed(r events.EventRecorder, set *appsv1.StatefulSet, pod *keelsonv1.Pod, verb string, err error) {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "..."
	}
	r.Eventf(set, nil, corev1.EventTypeWarning, "Failed"+verb, verb+"Pod",
		"%s Pod %s in StatefulSet %s failed error: %s", verb, pod.Name, set.Name, text)
}

func recordInvalid(r events.EventRecorder, set *appsv1.StatefulSet, err error) {
	r.Eventf(set, nil, corev1.EventTypeWarning, reasonInvalid, "SyncPods", "%s", err.Error())
}

// related leaves out a Pod that the API has not named yet.
func related(pod *keelsonv1.Pod) runtime.Object {
	if pod.UID == "" {
		return nil
	}
	return pod
}

// silent is the recorder of podcontrol.Control, whose words are not a StatefulSet's.
type silent struct{}

// Eventf implements events.EventRecorder.
func (silent) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}
