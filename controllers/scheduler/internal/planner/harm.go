package planner

import (
	"cmp"
	"math"
	"time"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// compareImportance orders Pods: a higher priority first, then an earlier start. Equal
// ones are ordered by UID, so that the result does not depend on the order of the input.
func compareImportance(a, b *state.PodInfo) int {
	return cmp.Or(
		cmp.Compare(b.Priority(), a.Priority()),
		startOf(a).Compare(startOf(b)),
		cmp.Compare(a.Pod.UID, b.Pod.UID),
	)
}

// startOf is when the Node began to run the Pod; a Pod that has not been begun is the
// youngest.
func startOf(pod *state.PodInfo) time.Time {
	if pod.Pod.Status.StartTime == nil {
		return time.Unix(math.MaxInt32, 0)
	}
	return pod.Pod.Status.StartTime.Time
}

// splitByBudgets parts Pods, in order, into those whose going would violate a budget and
// the others.
func splitByBudgets(pods []*state.PodInfo, budgets []Budget) (violating, harmless []*state.PodInfo) {
	allowed := make([]int32, len(budgets))
	for i := range budgets {
		allowed[i] = budgets[i].Allowed
	}
	for _, pod := range pods {
		if takeFromBudgets(pod, budgets, allowed) {
			violating = append(violating, pod)
		} else {
			harmless = append(harmless, pod)
		}
	}
	return violating, harmless
}

// takeFromBudgets counts the Pod against its budgets and tells whether one is overdrawn.
func takeFromBudgets(pod *state.PodInfo, budgets []Budget, allowed []int32) bool {
	if len(pod.Labels()) == 0 {
		return false
	}
	for i := range budgets {
		budget := &budgets[i]
		if budget.Namespace != pod.Pod.Namespace || budget.Selector.Empty() || !budget.Selector.Matches(pod.Labels()) {
			continue
		}
		if budget.Disrupted(pod.Pod.Name) {
			continue // the budget has counted it
		}
		if allowed[i]--; allowed[i] < 0 {
			return true
		}
	}
	return false
}

// leastHarm picks by upstream's order: the fewest violated budgets, the lowest highest
// priority, the lowest sum of priorities, the fewest victims, the latest start of the
// most important victims; then the first.
func leastHarm(candidates []*Preemption) *Preemption {
	best := candidates[0]
	for _, candidate := range candidates[1:] {
		if compareHarm(candidate, best) < 0 {
			best = candidate
		}
	}
	return best
}

func compareHarm(a, b *Preemption) int {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(a.Victims[0].Priority(), b.Victims[0].Priority()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		b.earliestStart().Compare(a.earliestStart()),
	)
}

// sum adds up priorities made positive, so that few Pods of a negative priority are
// less than many.
func (p *Preemption) sum() int64 {
	var sum int64
	for _, victim := range p.Victims {
		sum += int64(victim.Priority()) + math.MaxInt32 + 1
	}
	return sum
}

// earliestStart is that of the victims of the highest priority.
func (p *Preemption) earliestStart() time.Time {
	earliest := startOf(p.Victims[0])
	for _, victim := range p.Victims[1:] {
		if victim.Priority() != p.Victims[0].Priority() {
			break
		}
		if start := startOf(victim); start.Before(earliest) {
			earliest = start
		}
	}
	return earliest
}
