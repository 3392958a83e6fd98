package plugins

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// weighted is a resource that counts in a score, and how much.
type weighted struct {
	name   corev1.ResourceName
	weight int64
}

// strategy ranks a Node by the use of its resources.
type strategy func(resources []weighted, use func(corev1.ResourceName) (used, capacity int64)) int64

// leastAllocated is the weighted mean of the shares that stay free.
func leastAllocated(resources []weighted, use func(corev1.ResourceName) (int64, int64)) int64 {
	return mean(resources, use, func(used, capacity int64) int64 {
		if used > capacity {
			return 0
		}
		return (capacity - used) * MaxScore / capacity
	})
}

// mostAllocated is the weighted mean of the shares that would be used.
func mostAllocated(resources []weighted, use func(corev1.ResourceName) (int64, int64)) int64 {
	return mean(resources, use, func(used, capacity int64) int64 {
		return min(used, capacity) * MaxScore / capacity
	})
}

func mean(resources []weighted, use func(corev1.ResourceName) (int64, int64), score func(used, capacity int64) int64) int64 {
	var sum, weights int64
	for _, r := range resources {
		used, capacity := use(r.name)
		if capacity == 0 {
			continue
		}
		sum += score(used, capacity) * r.weight
		weights += r.weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// point is a corner of the line that requestedToCapacityRatio scores by: the use in
// percent and the score for it, 0 to MaxScore.
type point struct{ utilization, score int64 }

// requestedToCapacityRatio is the weighted mean of what a line says about the use in
// percent; resources that it gives 0 do not count.
func requestedToCapacityRatio(line []point) strategy {
	return func(resources []weighted, use func(corev1.ResourceName) (int64, int64)) int64 {
		var sum, weights int64
		for _, r := range resources {
			used, capacity := use(r.name)
			if capacity == 0 {
				continue
			}
			utilization := int64(100)
			if used <= capacity {
				utilization = used * 100 / capacity
			}
			if score := onLine(line, utilization); score > 0 {
				sum += score * r.weight
				weights += r.weight
			}
		}
		if weights == 0 {
			return 0
		}
		return int64(math.Round(float64(sum) / float64(weights)))
	}
}

func onLine(line []point, utilization int64) int64 {
	next := slices.IndexFunc(line, func(p point) bool { return utilization <= p.utilization })
	switch {
	case next < 0:
		return line[len(line)-1].score
	case next == 0:
		return line[0].score
	}
	from, to := line[next-1], line[next]
	return from.score + (to.score-from.score)*(utilization-from.utilization)/(to.utilization-from.utilization)
}

// balancedAllocation prefers Nodes where the shares of resources in use become more
// alike: about 75 is no change, 100 the best improvement. It has no opinion about Pods
// that ask for none of them.
type balancedAllocation struct{ resources []weighted }

func (*balancedAllocation) Name() string { return NameBalancedAllocation }

func (p *balancedAllocation) PrepareScore(pod *state.PodInfo, _ *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	asks := func(r weighted) bool { return pod.Requests.Get(r.name) != 0 }
	if !slices.ContainsFunc(p.resources, asks) {
		return nil
	}
	return &Scorer{Node: func(node *state.NodeInfo) int64 {
		// Two resources are the rule: no allocation for them.
		var with, without [8]float64
		w, o := with[:0], without[:0]
		for _, r := range p.resources {
			capacity, need := node.Allocatable.Get(r.name), pod.Requests.Get(r.name)
			if capacity == 0 || need == 0 && isScalar(r.name) {
				continue
			}
			used := node.Requested.Get(r.name)
			w = append(w, min(1, float64(used+need)/float64(capacity)))
			o = append(o, min(1, float64(used)/float64(capacity)))
		}
		return MaxScore/2 + (MaxScore/2+balance(w)-balance(o))/2
	}}
}

func isScalar(name corev1.ResourceName) bool {
	return name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage
}

// balance is 100 when all shares are equal, less the further they are apart.
func balance(shares []float64) int64 {
	var deviation float64
	switch n := float64(len(shares)); {
	case n == 2:
		deviation = math.Abs((shares[0] - shares[1]) / 2)
	case n > 2:
		var total, squares float64
		for _, share := range shares {
			total += share
		}
		for _, share := range shares {
			squares += (share - total/n) * (share - total/n)
		}
		deviation = math.Sqrt(squares / n)
	}
	return int64((1 - deviation) * MaxScore)
}
