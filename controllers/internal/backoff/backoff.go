// Package backoff holds the retry policy of every controller that writes objects.
package backoff

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	first = 5 * time.Millisecond
	// longest is much shorter than client-go's 1000 s: what a controller waits for
	// (an API server, a quota, a free address) comes back without an event.
	longest = time.Minute
)

// RateLimiter returns a limiter that doubles the wait of one object from 5 ms to one
// minute and never gives up.
func RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](first, longest)
}
