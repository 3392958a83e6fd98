package podcontrol

import (
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on the owner, and of its condition ReplicaFailure; they are
// upstream's.
const (
	ReasonSuccessfulCreate = "SuccessfulCreate"
	ReasonFailedCreate     = "FailedCreate"
	ReasonSuccessfulDelete = "SuccessfulDelete"
	ReasonFailedDelete     = "FailedDelete"

	actionCreate = "CreatePod"
	actionDelete = "DeletePod"

	// maxNote is below the limit of events.k8s.io/v1 (1024 bytes).
	maxNote = 1000
)

func recordCreated(r events.EventRecorder, owner client.Object, pod *keelsonv1.Pod) {
	r.Eventf(owner, pod, corev1.EventTypeNormal, ReasonSuccessfulCreate, actionCreate, "Created pod: %s", pod.Name)
}

func recordCreateFailed(r events.EventRecorder, owner client.Object, err error) {
	r.Eventf(owner, nil, corev1.EventTypeWarning, ReasonFailedCreate, actionCreate, "Error creating: %s", truncate(err.Error()))
}

func recordDeleted(r events.EventRecorder, owner client.Object, pod *keelsonv1.Pod) {
	r.Eventf(owner, pod, corev1.EventTypeNormal, ReasonSuccessfulDelete, actionDelete, "Deleted pod: %s", pod.Name)
}

func recordDeleteFailed(r events.EventRecorder, owner client.Object, pod *keelsonv1.Pod, err error) {
	r.Eventf(owner, pod, corev1.EventTypeWarning, ReasonFailedDelete, actionDelete, "Error deleting: %s", truncate(err.Error()))
}

// truncate cuts text so that the note stays acceptable, never inside a character.
func truncate(text string) string {
	text = strings.ToValidUTF8(text, "?")
	const room = maxNote - len("Error creating: ")
	if len(text) <= room {
		return text
	}
	end := room - len("...")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
