package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/internal/process"
)

// Phase is where a component stands.
type Phase string

const (
	// Waiting for another component to be ready.
	Waiting Phase = "Waiting"
	// Starting: the program runs, or the task is under way; not ready yet.
	Starting Phase = "Starting"
	// Ready at the latest look.
	Ready Phase = "Ready"
	// BackingOff: it ended or failed, and starts again after a delay.
	BackingOff Phase = "BackingOff"
	// Stopped because the supervisor stops.
	Stopped Phase = "Stopped"
)

// State is what the supervisor tells others, through a file.
type State struct {
	Supervisor process.Identity `json:"supervisor"`
	// Version is that of the programs, as whoever runs the supervisor names it.
	Version    string           `json:"version,omitempty"`
	StartedAt  time.Time        `json:"startedAt"`
	Components []ComponentState `json:"components"`
}

// ComponentState is the state of one component.
type ComponentState struct {
	Name  string `json:"name"`
	Phase Phase  `json:"phase"`
	PID   int    `json:"pid,omitempty"`
	// Starts counts how often it was started.
	Starts int `json:"starts"`
	// Since is when it entered the phase.
	Since time.Time `json:"since"`
	// FirstReady is when it was ready for the first time.
	FirstReady *time.Time `json:"firstReady,omitempty"`
	// Message says what it waits for, or why it ended.
	Message string `json:"message,omitempty"`
}

// AllReady says whether every component is ready.
func (s State) AllReady() bool {
	return len(s.Components) > 0 && !slices.ContainsFunc(s.Components, func(c ComponentState) bool { return c.Phase != Ready })
}

// ReadState reads the file of a supervisor. ok is false when there is none, or
// when the supervisor that wrote it does not run any more.
func ReadState(path string) (state State, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, fmt.Errorf("read the supervisor's state: %w", err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return State{}, false, fmt.Errorf("decode the supervisor's state in %s: %w", path, err)
	}
	return state, state.Supervisor.Alive(), nil
}

// board collects the states of all components and writes the file whenever one
// changes.
type board struct {
	path    string
	now     func() time.Time
	onError func(error)

	mu    sync.Mutex
	state State
}

func (b *board) update(name string, change func(*ComponentState)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.state.Components, func(c ComponentState) bool { return c.Name == name })
	if i < 0 { // forgotten meanwhile
		return
	}
	before := b.state.Components[i]
	after := before
	change(&after)
	if after == before {
		return
	}
	now := b.now()
	if after.Phase != before.Phase {
		after.Since = now
	}
	if after.Phase == Ready && after.FirstReady == nil {
		after.FirstReady = &now
	}
	b.state.Components[i] = after
	if err := b.write(); err != nil {
		b.onError(err)
	}
}

// change takes components off the board and puts others on it.
func (b *board) change(remove []string, add []Component) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Components = slices.DeleteFunc(b.state.Components, func(c ComponentState) bool { return slices.Contains(remove, c.Name) })
	for _, c := range add {
		b.state.Components = append(b.state.Components, ComponentState{Name: c.Name, Phase: Waiting, Since: b.now()})
	}
	return b.write()
}

func (b *board) write() error {
	data, err := json.MarshalIndent(b.state, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the supervisor's state: %w", err)
	}
	return files.Replace(b.path, append(data, '\n'), 0o644)
}
