package supervisor

import "time"

// Delays between restarts. The first is short because the usual end is a single
// kill or crash, after which service should be back within a second.
const (
	firstDelay = 200 * time.Millisecond
	maxDelay   = 30 * time.Second
	// steadyAfter is how long a program must have run for its earlier ends to be
	// forgotten.
	steadyAfter = 30 * time.Second
)

// backoff is the delay that preceded the latest start; zero before the first end.
type backoff time.Duration

// next returns the delay before the next start of a program that ran for ran.
func (b backoff) next(ran time.Duration) backoff {
	switch {
	case b == 0 || ran >= steadyAfter:
		return backoff(firstDelay)
	default:
		return min(2*b, backoff(maxDelay))
	}
}
