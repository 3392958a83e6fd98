package rollingupdate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNext(t *testing.T) {
	state := func(from, fromAvailable, to, toAvailable int32) State {
		return State{
			From: Side{Name: "v1", Replicas: from, Available: fromAvailable}, To: Side{Name: "v2", Replicas: to, Available: toAvailable},
			Original: 4, Desired: 4,
		}
	}
	tests := map[string]struct {
		state State
		want  Step
	}{
		"it begins with one more":                      {state(4, 4, 0, 0), Step{Action: ScaleTo, Replicas: 1}},
		"the new Pod is awaited":                       {state(4, 4, 1, 0), Step{Action: Wait, Reason: "0 of 1 Pods of v2 are available"}},
		"an old one goes":                              {state(4, 4, 1, 1), Step{Action: ScaleFrom, Replicas: 3}},
		"the next one":                                 {state(3, 3, 1, 1), Step{Action: ScaleTo, Replicas: 2}},
		"the last one goes":                            {state(1, 1, 4, 4), Step{Action: ScaleFrom, Replicas: 0}},
		"all is done":                                  {state(0, 0, 4, 4), Step{Action: Done}},
		"empty, but a new one fails":                   {state(0, 0, 4, 3), Step{Action: Wait, Reason: "3 of 4 Pods of v2 are available"}},
		"old Pods that are not ready go at once":       {state(4, 2, 1, 0), Step{Action: ScaleFrom, Replicas: 2}},
		"none of the old ones was ready":               {state(4, 0, 1, 0), Step{Action: ScaleFrom, Replicas: 0}},
		"somebody has scaled the new one up too far":   {state(2, 2, 6, 2), Step{Action: ScaleTo, Replicas: 4}},
		"no old one is left: the new ones all at once": {state(0, 0, 1, 1), Step{Action: ScaleTo, Replicas: 4}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Next(tc.state)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	unsettled := state(4, 0, 1, 1)
	unsettled.From.Unsettled = true
	if got := Next(unsettled); got.Action != Wait {
		t.Errorf("%+v decided from a status about another size", got)
	}
}

// The limits of a rollback are those of the side that goes (RU-12).
func TestPlanLine(t *testing.T) {
	back := State{From: Side{Name: "my-web-v2", Replicas: 2}, To: Side{Name: "my-web-v1", Replicas: 3}, Original: 2, Desired: 4}
	want := "Scaling up my-web-v1 from 3 to 4, scaling down my-web-v2 from 2 to 0 (keep 2 pods available, don't exceed 3 pods)"
	if got := back.Plan(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestUpdatesKeepTheirBounds: whatever Pods do and when, no step takes the available ones
// below the minimum or adds Pods above the maximum, and when all work it ends.
func TestUpdatesKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := State{From: Side{Name: "a"}, To: Side{Name: "b"}}
		s.Original, s.Desired = rapid.Int32Range(0, 9).Draw(t, "original"), rapid.Int32Range(0, 9).Draw(t, "desired")
		s.From.Replicas = s.Original
		s.From.Available = rapid.Int32Range(0, s.Original).Draw(t, "available")
		for range 100 {
			step := Next(s)
			switch step.Action {
			case Done:
				return
			case ScaleTo:
				if s.From.Replicas > 0 && step.Replicas > s.To.Replicas && step.Replicas+s.From.Replicas > s.maxTotal() {
					t.Fatalf("%+v in %+v: more than %d", step, s, s.maxTotal())
				}
				s.To.Replicas = step.Replicas
				s.To.Available = min(s.To.Available, s.To.Replicas)
			case ScaleFrom:
				before := s.From.Available + s.To.Available
				s.From.Replicas = step.Replicas
				s.From.Available = min(s.From.Available, s.From.Replicas)
				if after := s.From.Available + s.To.Available; after < s.minAvailable() && after < before {
					t.Fatalf("%+v in %+v: %d available, were %d", step, s, after, before)
				}
			case Wait:
				if s.To.Available == s.To.Replicas {
					t.Fatalf("%+v waits for nothing", s)
				}
				s.To.Available++
			}
		}
		t.Fatalf("it does not end: %+v", s)
	})
}
