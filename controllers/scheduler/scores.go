package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// maxScore is the best that one Score gives; 0 is the worst.
const maxScore = 100

// Score ranks a Node that passed every filter, 0 to 100. It must be pure.
type Score struct {
	Name   string
	Weight int64
	Score  func(*PodInfo, *NodeInfo) int64
}

// scores are added up with their weights. The weights are upstream's.
func scores() []Score {
	return []Score{
		{Name: "LeastAllocated", Weight: 1, Score: scoreLeastAllocated},
		{Name: "BalancedAllocation", Weight: 1, Score: scoreBalanced},
		{Name: "TaintToleration", Weight: 3, Score: scoreTaints},
	}
}

// scoreLeastAllocated is the mean over CPU and memory of the share that stays free.
func scoreLeastAllocated(pod *PodInfo, node *NodeInfo) int64 {
	want := node.scored.plus(pod.scored, 1)
	var sum, counted int64
	for _, r := range [][2]int64{
		{want.milliCPU, node.allocatable.milliCPU},
		{want.memory, node.allocatable.memory},
	} {
		requested, capacity := r[0], r[1]
		if capacity == 0 {
			continue
		}
		counted++
		if requested <= capacity {
			sum += (capacity - requested) * maxScore / capacity
		}
	}
	if counted == 0 {
		return 0
	}
	return sum / counted
}

// scoreBalanced prefers Nodes whose CPU and memory would be used alike, by how much
// the Pod improves the balance: about 75 is no change, 100 the best improvement.
// A Pod without requests gets no opinion.
func scoreBalanced(pod *PodInfo, node *NodeInfo) int64 {
	if pod.requests.milliCPU == 0 && pod.requests.memory == 0 {
		return 0
	}
	with := balance(node.requested.plus(pod.requests, 1), node.allocatable)
	without := balance(node.requested, node.allocatable)
	return maxScore/2 + (maxScore/2+with-without)/2
}

// balance is 100 when CPU and memory are used to the same share, 50 at worst.
func balance(used, capacity amounts) int64 {
	if capacity.milliCPU == 0 || capacity.memory == 0 {
		return maxScore
	}
	cpu := min(1, float64(used.milliCPU)/float64(capacity.milliCPU))
	memory := min(1, float64(used.memory)/float64(capacity.memory))
	return int64((1 - math.Abs(cpu-memory)/2) * maxScore)
}

// scoreTaints prefers Nodes without PreferNoSchedule taints that the Pod does not
// tolerate: 100 without any, less with each.
func scoreTaints(pod *PodInfo, node *NodeInfo) int64 {
	var repelling int64
	for i := range node.Node.Spec.Taints {
		taint := &node.Node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(pod, taint) {
			repelling++
		}
	}
	return maxScore / (1 + repelling)
}
