package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/node"
)

// scriptedNetwork notes when it was configured, and fails as told.
type scriptedNetwork struct {
	*fakeNetwork
	start    time.Time
	calls    []time.Duration
	failures []error
}

func (n *scriptedNetwork) Configure(context.Context, ranges.List) error {
	n.calls = append(n.calls, time.Since(n.start))
	if len(n.failures) == 0 {
		return nil
	}
	err := n.failures[0]
	n.failures = n.failures[1:]
	return err
}

func TestKeepNetwork(t *testing.T) {
	boom := errors.New("boom")
	const second, minute = time.Second, time.Minute
	tests := map[string]struct {
		failures []error
		watch    time.Duration
		want     []time.Duration
		// wantProblem is what the Node shows in the end.
		wantProblem string
	}{
		"checked every minute":        {watch: 2*minute + second, want: []time.Duration{0, minute, 2 * minute}},
		"tried again soon":            {failures: []error{boom, boom}, watch: 30 * second, want: []time.Duration{0, second, 3 * second}},
		"a later failure is shown":    {failures: []error{nil, boom}, watch: minute, want: []time.Duration{0, minute}, wantProblem: "container runtime network not ready: boom"},
		"a later failure is overcome": {failures: []error{nil, boom}, watch: minute + second, want: []time.Duration{0, minute, minute + second}},
		"pauses after failures are capped": {failures: []error{boom, boom, boom, boom, boom, boom, boom}, watch: 91 * second,
			want: []time.Duration{0, second, 3 * second, 7 * second, 15 * second, 31 * second, 61 * second, 91 * second}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &scriptedNetwork{fakeNetwork: &fakeNetwork{}, start: time.Now(), failures: tt.failures}
				a := &agent{dependencies: dependencies{network: network, clock: clock.RealClock{}},
					configure: make(chan struct{}, 1), sweepNow: make(chan struct{}, 1)}
				a.condition.networkProblem = "no Pod range yet"
				a.reporter = node.NewReporter(nil, clock.RealClock{}, "n", a.facts, func(node.Note) {})
				ctx, cancel := context.WithCancel(t.Context())
				go a.keepNetwork(ctx)
				synctest.Wait()

				n := &keelsonv1.Node{}
				n.Spec.PodCIDR = "10.244.0.0/24"
				a.reporter.Observe(n)
				for range 3 { // only the first says something new
					poke(a.configure)
					synctest.Wait()
				}
				time.Sleep(tt.watch)
				synctest.Wait()
				if diff := cmp.Diff(tt.want, network.calls); diff != "" {
					t.Errorf("configured at (-want +got):\n%s", diff)
				}
				if got := a.condition.networkProblem; got != tt.wantProblem {
					t.Errorf("problem is %q, want %q", got, tt.wantProblem)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
