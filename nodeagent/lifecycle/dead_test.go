package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestPlanDead(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// attempts of container name, newest first; the newest ended so many minutes ago, each
	// older one a minute before.
	attempts := func(name string, count int, newest runtime.State, minutes int) []runtime.Container {
		var list []runtime.Container
		for i := range count {
			c := runtime.Container{ID: fmt.Sprintf("%s-%d", name, count-1-i), Name: name, State: runtime.Exited,
				FinishedAt: now.Add(-time.Duration(minutes+i) * time.Minute)}
			if i == 0 {
				c.State = newest
			}
			list = append(list, c)
		}
		return list
	}
	pod := func(lists ...[]runtime.Container) runtime.PodState {
		var p runtime.PodState
		for _, list := range lists {
			p.Containers = append(p.Containers, list...)
		}
		return p
	}
	byDefault := DeadPolicy{PerContainer: 1, Total: -1}
	for name, test := range map[string]struct {
		pods   []runtime.PodState
		policy DeadPolicy
		want   []string
	}{
		"one that runs and one before it stay":         {[]runtime.PodState{pod(attempts("a", 2, runtime.Running, 0))}, byDefault, nil},
		"older ones go, the oldest first":              {[]runtime.PodState{pod(attempts("a", 4, runtime.Running, 0))}, byDefault, []string{"a-0", "a-1"}},
		"the newest stays although it has ended":       {[]runtime.PodState{pod(attempts("a", 1, runtime.Exited, 60))}, DeadPolicy{}, nil},
		"one that was not started yet does not count":  {[]runtime.PodState{pod(attempts("a", 3, runtime.Created, 0))}, byDefault, nil},
		"each container counts for itself":             {[]runtime.PodState{pod(attempts("a", 2, runtime.Running, 0), attempts("b", 2, runtime.Exited, 0))}, byDefault, nil},
		"each Pod counts for itself":                   {[]runtime.PodState{pod(attempts("a", 2, runtime.Running, 0)), pod(attempts("a", 2, runtime.Running, 0))}, byDefault, nil},
		"without a limit all stay":                     {[]runtime.PodState{pod(attempts("a", 9, runtime.Running, 0))}, DeadPolicy{PerContainer: -1, Total: -1}, nil},
		"what has just ended stays":                    {[]runtime.PodState{pod(attempts("a", 5, runtime.Running, 0))}, DeadPolicy{PerContainer: 0, Total: -1, MinAge: 3 * time.Minute}, []string{"a-0", "a-1"}},
		"in all so many stay, the oldest of all go":    {[]runtime.PodState{pod(attempts("a", 3, runtime.Running, 0)), pod(attempts("b", 3, runtime.Running, 10))}, DeadPolicy{PerContainer: -1, Total: 2}, []string{"b-0", "b-1"}},
		"a limit of all never takes the newest of any": {[]runtime.PodState{pod(attempts("a", 2, runtime.Exited, 0)), pod(attempts("b", 1, runtime.Exited, 99))}, DeadPolicy{PerContainer: -1, Total: 0}, []string{"a-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, d := range planDead(test.pods, test.policy, now) {
				got = append(got, d.container.ID)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
