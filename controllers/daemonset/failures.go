package daemonset

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// A Pod that fails at once would be replaced for ever, as fast as the API allows. Each
// replacement on a node doubles the wait for the next, as upstream.
const (
	firstFailureWait   = time.Second
	longestFailureWait = 15 * time.Minute
	failureSweep       = time.Minute
)

func newFailures(c clock.Clock) *flowcontrol.Backoff {
	b := flowcontrol.NewBackOff(firstFailureWait, longestFailureWait)
	b.Clock = c
	return b
}

// failureKey begins a new count with every change of the spec.
func failureKey(ds *appsv1.DaemonSet, node string) string {
	return fmt.Sprintf("%s/%d/%s", ds.UID, ds.Status.ObservedGeneration, node)
}

func (r *Reconciler) held(ds *appsv1.DaemonSet, node string) bool {
	return r.failures.IsInBackOffSinceUpdate(failureKey(ds, node), r.clock.Now())
}

// forgetOldFailures runs until ctx is done.
func (r *Reconciler) forgetOldFailures(ctx context.Context) error {
	ticker := r.clock.NewTicker(failureSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			r.failures.GC()
		}
	}
}
