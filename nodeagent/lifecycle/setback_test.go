package lifecycle

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// A machine's clock that jumps holds a crashing container no longer than its pause.
func TestPauseWhenTheClockJumps(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, jump := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour, "not at all": 0} {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakeClock(start)
			m := New(Options{Clock: clock})
			pod := makePod("p", "main")
			pod.UID = "uid"
			c := &pod.Spec.Containers[0]
			m.backoff.Next(backoffKey(pod, c), clock.Now())
			ended := &runtime.Container{ID: "1", Name: "main", State: runtime.Exited, FinishedAt: clock.Now()}
			clock.SetTime(clock.Now().Add(jump))

			hold := m.holdOff(pod)
			until, _ := hold(c, ended)
			if jump > 0 {
				if !until.IsZero() {
					t.Errorf("held until %v although its pause is over", until)
				}
				return
			}
			if want := clock.Now().Add(crashBackoffFirst); !until.Equal(want) {
				t.Errorf("held until %v, want %v", until, want)
			}
			clock.Step(crashBackoffFirst - time.Second)
			if again, _ := hold(c, ended); !again.Equal(until) {
				t.Errorf("held until %v a moment later, before until %v", again, until)
			}
			clock.Step(time.Second)
			if until, _ := hold(c, ended); !until.IsZero() {
				t.Errorf("held until %v after its pause", until)
			}
		})
	}
}
