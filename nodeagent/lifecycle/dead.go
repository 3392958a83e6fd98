package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// DeadPolicy says which containers that have ended stay. The newest of each name in a Pod
// stays whatever it says: the Pod's status and log follow from it. Those of a Pod that
// leaves the node go with it.
type DeadPolicy struct {
	// MinAge is how long one stays after its end.
	MinAge time.Duration
	// PerContainer is how many older ones stay of each name, Total how many in all; a
	// negative number is no limit. `logs --previous` needs one.
	PerContainer, Total int
}

// dead is a container that has ended, and is not the newest of its name.
type dead struct {
	pod       runtime.PodIdentity
	container runtime.Container
}

// planDead chooses what to remove, the longest dead first.
func planDead(pods []runtime.PodState, p DeadPolicy, now time.Time) []dead {
	var remove, keep []dead
	for _, pod := range pods {
		some, rest := planDeadOf(pod, p, now, func(string) bool { return false })
		remove, keep = append(remove, some...), append(keep, rest...)
	}
	byEnd := func(a, b dead) int {
		return cmp.Or(a.container.FinishedAt.Compare(b.container.FinishedAt), cmp.Compare(a.container.ID, b.container.ID))
	}
	slices.SortFunc(keep, byEnd)
	if p.Total >= 0 && len(keep) > p.Total {
		remove = append(remove, keep[:len(keep)-p.Total]...)
	}
	slices.SortFunc(remove, byEnd)
	return remove
}

// planDeadOf chooses among the containers of one Pod, as if no other were there. starting
// says of a name that another attempt is about to be the newest.
func planDeadOf(pod runtime.PodState, p DeadPolicy, now time.Time, starting func(name string) bool) (remove, keep []dead) {
	newer := map[string]int{}
	for _, c := range pod.Containers { // newest first
		if c.State == runtime.Created {
			continue // it never ran, and is made again
		}
		older := newer[c.Name]
		newer[c.Name]++
		if starting(c.Name) {
			older++
		}
		if older == 0 || c.State == runtime.Running || now.Sub(c.FinishedAt) < p.MinAge {
			continue
		}
		d := dead{pod.PodIdentity, c}
		if p.PerContainer >= 0 && older > p.PerContainer {
			remove = append(remove, d)
		} else {
			keep = append(keep, d)
		}
	}
	return remove, keep
}

// RemoveDead removes containers that have ended. Nothing that runs, and nothing that
// another program made, is touched.
func (m *Manager) RemoveDead(ctx context.Context, p DeadPolicy) error {
	pods, err := m.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}
	var errs []error
	for _, d := range planDead(pods, p, m.Clock.Now()) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := m.removeContainer(ctx, d.pod, d.container); err != nil {
			errs = append(errs, fmt.Errorf("Pod %s/%s: %w", d.pod.Namespace, d.pod.Name, err))
			continue
		}
		klog.FromContext(ctx).V(2).Info("Removed a dead container", "pod", klog.KRef(d.pod.Namespace, d.pod.Name),
			"container", d.container.Name, "attempt", d.container.Attempt)
	}
	return errors.Join(errs...)
}
