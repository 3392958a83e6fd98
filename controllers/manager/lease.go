package manager

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// electionLock is the Lease under a name that survives the process: one that was
// killed while it led leads again as soon as it is back, because the Lease is its own.
// Without a name the lock is nil, and every process gets a name of its own.
func electionLock(cfg *rest.Config, l LeaderElection) (resourcelock.Interface, error) {
	if !l.Enabled || l.Identity == "" {
		return nil, nil
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = l.RenewDeadline.Duration / 2
	leases, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make the client of leader election: %w", err)
	}
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
		Client:     leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
	}, nil
}
