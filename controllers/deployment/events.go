package deployment

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// Reasons of the events; they are upstream's, as are the texts.
const (
	reasonScaling        = "ScalingReplicaSet"
	reasonSetCreateError = "ReplicaSetCreateError"
	reasonSelectingAll   = "SelectingAll"

	actionScale  = "ScaleReplicaSet"
	actionCreate = "CreateReplicaSet"
	actionSelect = "SelectReplicaSets"

	// maxNote is below the limit of events.k8s.io/v1 (1024 bytes).
	maxNote = 1000
)

var errSelectingAll = errors.New("This deployment is selecting all pods. A non-empty selector is required.")

func createFailedMessage(name string, err error) string {
	return fmt.Sprintf("Failed to create new replica set %q: %v", name, err)
}

func recordScaled(r events.EventRecorder, d *appsv1.Deployment, rs *appsv1.ReplicaSet, from, to int32) {
	direction := "up"
	if to < from {
		direction = "down"
	}
	r.Eventf(d, rs, corev1.EventTypeNormal, reasonScaling, actionScale, "Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to)
}

func recordCreateFailed(r events.EventRecorder, d *appsv1.Deployment, name string, err error) {
	note := createFailedMessage(name, err)
	r.Eventf(d, nil, corev1.EventTypeWarning, reasonSetCreateError, actionCreate, "%s", note[:min(len(note), maxNote)])
}

func recordSelectingAll(r events.EventRecorder, d *appsv1.Deployment) {
	r.Eventf(d, nil, corev1.EventTypeWarning, reasonSelectingAll, actionSelect, "%s", errSelectingAll)
}
