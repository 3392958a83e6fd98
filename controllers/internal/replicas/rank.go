package replicas

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// planVictims returns the count Pods that are missed least. The order is upstream's
// (ActivePodsWithRanks in pkg/controller/controller_utils.go, KEP-2255 and KEP-2185).
func planVictims(active, related []*keelsonv1.Pod, count int, now time.Time) []*keelsonv1.Pod {
	if count >= len(active) {
		return slices.Clone(active)
	}
	perNode := countPerNode(active, related)
	candidates := make([]candidate, len(active))
	for i, pod := range active {
		candidates[i] = newCandidate(pod, perNode[pod.Spec.NodeName])
	}
	// A total first order makes the choice independent of the order of the input.
	slices.SortFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.pod.UID, b.pod.UID) })
	slices.SortStableFunc(candidates, func(a, b candidate) int { return compareVictims(a, b, now) })

	victims := make([]*keelsonv1.Pod, count)
	for i := range victims {
		victims[i] = candidates[i].pod
	}
	return victims
}

func countPerNode(active, related []*keelsonv1.Pod) map[string]int {
	seen := make(map[types.UID]bool, len(active))
	perNode := map[string]int{}
	for _, pod := range slices.Concat(active, related) {
		if !seen[pod.UID] && podstatus.IsActive(pod) {
			seen[pod.UID] = true
			perNode[pod.Spec.NodeName]++
		}
	}
	return perNode
}

// candidate is a Pod with what the comparison needs of it, read once.
type candidate struct {
	pod             *keelsonv1.Pod
	phase           int
	ready           bool
	readySince      time.Time
	deletionCost    int32
	colocated       int
	restarts        int32
	sidecarRestarts int32
}

func newCandidate(pod *keelsonv1.Pod, colocated int) candidate {
	c := candidate{pod: pod, phase: phaseOrder(pod.Status.Phase), colocated: colocated}
	c.readySince, c.ready = podstatus.ReadySince(pod)
	c.deletionCost = deletionCost(pod)
	c.restarts, c.sidecarRestarts = podstatus.MaxRestarts(pod)
	return c
}

// compareVictims is negative when a should go before b.
func compareVictims(a, b candidate, now time.Time) int {
	return cmp.Or(
		compareBool(a.pod.Spec.NodeName != "", b.pod.Spec.NodeName != ""),
		cmp.Compare(a.phase, b.phase),
		compareBool(a.ready, b.ready),
		cmp.Compare(a.deletionCost, b.deletionCost),
		-cmp.Compare(a.colocated, b.colocated),
		compareReadyAge(a, b, now),
		-cmp.Compare(a.restarts, b.restarts),
		-cmp.Compare(a.sidecarRestarts, b.sidecarRestarts),
		compareAge(a, b, a.pod.CreationTimestamp.Time, b.pod.CreationTimestamp.Time, now),
	)
}

func compareReadyAge(a, b candidate, now time.Time) int {
	if !a.ready || !b.ready {
		return 0
	}
	return compareAge(a, b, a.readySince, b.readySince, now)
}

// compareAge puts the younger first. Ages are compared by their order of magnitude
// (powers of two), and the UID decides between alike ones, so that scaling down does
// not always hit the Pods that were placed last.
func compareAge(a, b candidate, at, bt, now time.Time) int {
	switch {
	case at.Equal(bt):
		return 0
	case at.IsZero():
		return -1
	case bt.IsZero():
		return 1
	case now.IsZero():
		return bt.Compare(at)
	}
	return cmp.Or(
		cmp.Compare(magnitude(now.Sub(at)), magnitude(now.Sub(bt))),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

func magnitude(age time.Duration) int {
	if age <= 0 {
		return -1
	}
	return int(math.Log2(float64(age)))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// phaseOrder: a Pod that was never reported on counts as pending.
func phaseOrder(phase corev1.PodPhase) int {
	switch phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	default:
		return 0
	}
}

// deletionCost reads the annotation controller.kubernetes.io/pod-deletion-cost; a
// value that upstream's validation would refuse counts as 0, as upstream does.
func deletionCost(pod *keelsonv1.Pod) int32 {
	text, ok := pod.Annotations[corev1.PodDeletionCost]
	if !ok || text == "" {
		return 0
	}
	if text[0] == '+' || (text[0] == '0' && len(text) > 1) {
		return 0
	}
	cost, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}
