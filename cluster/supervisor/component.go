// Package supervisor keeps a set of programs running: it starts them in the order
// of their dependencies, waits until each is ready, starts again what ended, and
// keeps their logs small.
//
// It knows nothing of what the programs are. It never ends a process it did not
// start, except through Leftovers, which recognises children of a supervisor
// that was killed. Recovery after a crash: children write to their log files
// themselves and survive; the next supervisor ends them and starts afresh.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Component is one thing to keep up: a program, a task that is done once, or a
// condition that is waited for.
type Component struct {
	Name string
	// DependsOn names components that must have been ready once before this one
	// starts, and that stop after it.
	DependsOn []string
	// Command starts a program that runs until it is told to stop.
	Command *Command
	// Task is done once, again and again until it succeeds. A component has
	// either a Command or a Task, or Ready alone.
	Task func(ctx context.Context) error
	// Ready returns nil when a started program does its work, else what is
	// missing. It is asked often and must honour ctx. Alone it is asked until it
	// holds for the first time.
	Ready func(ctx context.Context) error
	// StopTimeout is how long the program may take to end before it is killed.
	StopTimeout time.Duration
	// Leave lets the program run when the supervisor stops.
	Leave bool
}

// Command is a program and how to start it.
type Command struct {
	Path string
	Args []string
	// ArgsNow, unless nil, is asked for the arguments at each start, in place of Args.
	ArgsNow func() []string
	// Env is added to the supervisor's own environment.
	Env []string
	// Within runs start in the namespaces in which the program is to be; nil is the
	// supervisor's own.
	Within func(start func() error) error
}

// Change is one of the set of components of a running supervisor.
type Change struct {
	// Remove names components to forget. Their programs are left as they are: whoever
	// sends the change ends them. Unknown names are fine.
	Remove []string
	// Add are components that come behind those that are there.
	Add []Component
	// Done is told when the change was made; the programs need not run yet.
	Done chan<- error
}

// checkComponents returns every mistake in the set: it comes from code, so it is
// a bug, but a dependency cycle would otherwise show as a silent wait.
func checkComponents(components []Component) error {
	var errs []error
	names := map[string]bool{}
	for _, c := range components {
		if names[c.Name] {
			errs = append(errs, fmt.Errorf("component %s is there twice", c.Name))
		}
		if c.Command != nil && c.Task != nil || c.Command == nil && c.Task == nil && c.Ready == nil {
			errs = append(errs, fmt.Errorf("component %s needs a command, a task or a condition", c.Name))
		}
		for _, d := range c.DependsOn {
			// Dependencies come first in the list, which rules out cycles.
			if !names[d] {
				errs = append(errs, fmt.Errorf("component %s depends on %s, which does not come before it", c.Name, d))
			}
		}
		names[c.Name] = true
	}
	return errors.Join(errs...)
}
