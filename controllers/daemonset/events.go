package daemonset

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// Reasons of events; the first three and their texts are upstream's.
const (
	reasonSelectingAll = "SelectingAll"
	reasonFailed       = "FailedDaemonPod"
	reasonSucceeded    = "SucceededDaemonPod"
	// reasonInvalid is for what upstream refuses at admission.
	reasonInvalid = "InvalidSpec"

	actionDelete = "DeletePod"
	actionSync   = "SyncPods"
)

func recordInvalid(r events.EventRecorder, ds *appsv1.DaemonSet, p *problem) {
	r.Eventf(ds, nil, corev1.EventTypeWarning, p.reason, actionSync, "%s", p.message)
}

func recordFailed(r events.EventRecorder, ds *appsv1.DaemonSet, f failure) {
	r.Eventf(ds, f.pod, corev1.EventTypeWarning, reasonFailed, actionDelete,
		"Found failed daemon pod %s/%s on node %s, will try to kill it", f.pod.Namespace, f.pod.Name, f.node)
}

func recordSucceeded(r events.EventRecorder, ds *appsv1.DaemonSet, f failure) {
	r.Eventf(ds, f.pod, corev1.EventTypeNormal, reasonSucceeded, actionDelete,
		"Found succeeded daemon pod %s/%s on node %s, will try to delete it", f.pod.Namespace, f.pod.Name, f.node)
}
