package node

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// pressure is a condition about something that may run short, in upstream's words.
type pressure struct {
	kind                                                   corev1.NodeConditionType
	shortReason, shortMessage, enoughReason, enoughMessage string
}

func pressures() []pressure {
	return []pressure{
		{
			corev1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available",
		},
		{
			corev1.NodeDiskPressure, "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure",
		},
		{
			corev1.NodePIDPressure, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available",
		},
	}
}

// setPressures says what the node is short of. As long as that is not known (nil), what
// an earlier process said holds.
func setPressures(status *keelsonv1.NodeStatus, short []corev1.NodeConditionType, now time.Time) {
	for _, p := range pressures() {
		c := corev1.NodeCondition{Type: p.kind, Status: corev1.ConditionFalse, Reason: p.enoughReason, Message: p.enoughMessage}
		holds := short == nil && slices.ContainsFunc(status.Conditions, func(old corev1.NodeCondition) bool {
			return old.Type == p.kind && old.Status == corev1.ConditionTrue
		})
		if holds || slices.Contains(short, p.kind) {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, p.shortReason, p.shortMessage
		}
		setCondition(status, c, now)
	}
}

// setCondition puts a condition of this agent in its place, with its times.
func setCondition(status *keelsonv1.NodeStatus, c corev1.NodeCondition, now time.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy(), metav1.NewTime(now).Rfc3339Copy()
	i := slices.IndexFunc(status.Conditions, func(old corev1.NodeCondition) bool { return old.Type == c.Type })
	if i < 0 {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if status.Conditions[i].Status == c.Status {
		c.LastTransitionTime = status.Conditions[i].LastTransitionTime
	}
	status.Conditions[i] = c
}

// isOwnCondition says that this agent writes conditions of the kind.
func isOwnCondition(kind corev1.NodeConditionType) bool {
	return kind == corev1.NodeReady || kind == corev1.NodeNetworkUnavailable || slices.ContainsFunc(pressures(), func(p pressure) bool { return p.kind == kind })
}

const (
	// maxImages is how many images a Node names, maxNames how many names of each, as
	// upstream.
	maxImages = 50
	maxNames  = 5
)

// ImageList is what a Node says of its images: the largest ones, the largest first. It is
// nil when stored is: the images are not known.
func ImageList(stored []runtime.StoredImage) []corev1.ContainerImage {
	if stored == nil {
		return nil
	}
	stored = slices.Clone(stored)
	slices.SortStableFunc(stored, func(a, b runtime.StoredImage) int {
		switch {
		case a.Size > b.Size:
			return -1
		case a.Size < b.Size:
			return 1
		default:
			return strings.Compare(a.ID, b.ID)
		}
	})
	list := []corev1.ContainerImage{}
	for _, image := range stored[:min(len(stored), maxImages)] {
		names := slices.Concat(image.Digests, image.Names)
		if len(names) == 0 {
			continue // nobody could ask for it
		}
		list = append(list, corev1.ContainerImage{Names: names[:min(len(names), maxNames)], SizeBytes: image.Size})
	}
	return list
}
