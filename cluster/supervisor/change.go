package supervisor

import (
	"context"
	"slices"
)

// unit is a component that this supervisor keeps up.
type unit struct {
	Component
	dependsOn []*unit
	// ready and stopped are closed when the component was ready for the first time,
	// and when it will not run any more.
	ready, stopped chan struct{}
	// forgot is closed to end the care for it.
	forgot chan struct{}
}

func newUnit(c Component) *unit {
	return &unit{Component: c, ready: make(chan struct{}), stopped: make(chan struct{}), forgot: make(chan struct{})}
}

func (u *unit) forgotten() bool {
	select {
	case <-u.forgot:
		return true
	default:
		return false
	}
}

// followChanges makes changes until ctx ends.
func (s *supervisor) followChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.options.Changes:
			err := s.change(ctx, c)
			if c.Done != nil {
				c.Done <- err
			}
		}
	}
}

// change forgets components and begins with others. When it returns, nothing starts or
// watches the programs of those it forgot any more.
func (s *supervisor) change(ctx context.Context, c Change) error {
	s.mu.Lock()
	removed := func(u *unit) bool { return slices.Contains(c.Remove, u.Name) }
	var left []Component
	var gone []*unit
	for _, u := range s.units {
		if removed(u) {
			gone = append(gone, u)
		} else {
			left = append(left, u.Component)
		}
	}
	if err := checkComponents(slices.Concat(left, c.Add)); err != nil {
		s.mu.Unlock()
		return err
	}
	s.units = slices.DeleteFunc(s.units, removed)
	var added []*unit
	for _, component := range c.Add {
		u := newUnit(component)
		for _, name := range component.DependsOn { // checked: it comes before this one
			i := slices.IndexFunc(s.units, func(u *unit) bool { return u.Name == name })
			u.dependsOn = append(u.dependsOn, s.units[i])
		}
		s.units, added = append(s.units, u), append(added, u)
	}
	s.mu.Unlock()

	for _, u := range gone {
		close(u.forgot)
	}
	for _, u := range gone {
		<-u.stopped
	}
	err := s.board.change(c.Remove, c.Add)
	for _, u := range added {
		s.running.Go(func() { s.care(ctx, u) })
	}
	return err
}

// care keeps the unit up until ctx ends or it is forgotten.
func (s *supervisor) care(ctx context.Context, u *unit) {
	defer close(u.stopped)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-u.forgot:
			cancel()
		case <-ended:
		}
	}()
	s.keepUp(ctx, u)
}

// current are the units that there are now.
func (s *supervisor) current() []*unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.units)
}

// dependents are the units that depend on name now.
func (s *supervisor) dependents(name string) []*unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*unit
	for _, u := range s.units {
		if slices.Contains(u.DependsOn, name) {
			list = append(list, u)
		}
	}
	return list
}
