package rollingupdate

import "fmt"

// Side is one of the two ReplicationControllers.
type Side struct {
	Name string
	// Replicas is the wanted size, Available how many Pods are ready for long enough.
	Replicas, Available int32
	// Unsettled says that its controller has not seen the last change of the size, so that
	// Available may be about another one.
	Unsettled bool
}

// State is what a step depends on.
type State struct {
	// From loses its Pods, To gets them.
	From, To Side
	// Original is the size of From when the update began, Desired the final size of To.
	Original, Desired int32
}

// minAvailable is how many Pods stay available all the time.
func (s State) minAvailable() int32 { return min(s.Original, s.Desired) }

// maxTotal is how many Pods there may be while From has any.
func (s State) maxTotal() int32 { return s.Original + 1 }

// Plan says in one line what the update will do.
func (s State) Plan() string {
	return fmt.Sprintf("Scaling up %s from %d to %d, scaling down %s from %d to 0 (keep %d pods available, don't exceed %d pods)",
		s.To.Name, s.To.Replicas, s.Desired, s.From.Name, s.From.Replicas, s.minAvailable(), s.maxTotal())
}

// Action is the kind of a step.
type Action string

// The actions.
const (
	// ScaleTo and ScaleFrom change the size of one side.
	ScaleTo   Action = "ScaleTo"
	ScaleFrom Action = "ScaleFrom"
	// Wait is for Pods to become available.
	Wait Action = "Wait"
	// Done means that only the clean-up is left.
	Done Action = "Done"
)

// Step is what to do next.
type Step struct {
	Action Action
	// Replicas is the new size.
	Replicas int32
	// Reason says what is waited for.
	Reason string
}

// Next decides. It grows To as far as the bound allows, then shrinks From as far as To's
// Pods are available; Pods of From that are not available go first, since that costs
// nothing.
func Next(s State) Step {
	if size := s.sizeOfTo(); size != s.To.Replicas {
		return Step{Action: ScaleTo, Replicas: size}
	}
	for _, side := range []Side{s.To, s.From} {
		if side.Unsettled {
			return Step{Action: Wait, Reason: fmt.Sprintf("the controller has not seen the last change of %s", side.Name)}
		}
	}
	if size := s.sizeOfFrom(); size < s.From.Replicas {
		return Step{Action: ScaleFrom, Replicas: size}
	}
	if s.From.Replicas == 0 && s.To.Available >= s.Desired {
		return Step{Action: Done}
	}
	return Step{Action: Wait, Reason: fmt.Sprintf("%d of %d Pods of %s are available", s.To.Available, s.To.Replicas, s.To.Name)}
}

func (s State) sizeOfTo() int32 {
	if s.To.Replicas >= s.Desired || s.From.Replicas == 0 {
		return s.Desired
	}
	room := s.maxTotal() - s.From.Replicas - s.To.Replicas
	return min(s.Desired, s.To.Replicas+max(0, room))
}

func (s State) sizeOfFrom() int32 {
	return max(0, min(s.minAvailable()-s.To.Available, s.From.Available))
}
