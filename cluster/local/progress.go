package local

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// patience is how long a component may take before the person is told what it
// waits for, and how long until they are told again.
const patience = 5 * time.Second

// progress turns the supervisor's states into lines for a person: one when a
// component is ready, and one now and then for each that takes long.
type progress struct {
	told     map[string]bool
	nextHint time.Time
}

func (p *progress) lines(state supervisor.State, alive bool, now time.Time) []string {
	if p.told == nil {
		p.told = map[string]bool{}
		p.nextHint = now.Add(patience)
	}
	var lines []string
	if alive {
		for _, c := range state.Components {
			if c.FirstReady != nil && !p.told[c.Name] {
				p.told[c.Name] = true
				lines = append(lines, fmt.Sprintf("  %-16s ready after %.1fs", c.Name, c.FirstReady.Sub(state.StartedAt).Seconds()))
				p.nextHint = now.Add(patience)
			}
		}
	}
	if now.Before(p.nextHint) {
		return lines
	}
	p.nextHint = now.Add(patience)
	if !alive {
		return append(lines, "  waiting for the supervisor to start")
	}
	for _, c := range state.Components {
		if c.Phase != supervisor.Ready && c.Phase != supervisor.Waiting {
			line := fmt.Sprintf("  waiting for %s: %s", c.Name, describe(c))
			if c.Phase == supervisor.Starting && !c.Since.IsZero() { // the line may be the same again and again
				line += fmt.Sprintf(" (for %s)", duration.HumanDuration(now.Sub(c.Since)))
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// describe says in words where a component stands.
func describe(c supervisor.ComponentState) string {
	switch {
	case c.Phase == supervisor.BackingOff:
		return fmt.Sprintf("%s; starts again soon (started %d times)", c.Message, c.Starts)
	case c.Phase == supervisor.Starting && c.Message != "":
		return "not ready: " + c.Message
	case c.Message != "":
		return c.Message
	case c.Phase == supervisor.Starting:
		return "starting"
	default:
		return string(c.Phase)
	}
}
