package supervisor

import (
	"context"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

// send makes one change and returns what became of it.
func send(t *testing.T, changes chan<- Change, c Change) error {
	t.Helper()
	done := make(chan error, 1)
	c.Done = done
	changes <- c
	return <-done
}

func TestComponentsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	changes := make(chan Change)
	o := optionsIn(dir, program("base", "steady", dir))
	o.Changes = changes
	r := run(t, o)
	r.until("ready", State.AllReady)

	if err := send(t, changes, Change{Add: []Component{program("x", "steady", dir, "base"), program("y", "steady", dir, "x")}}); err != nil {
		t.Fatal(err)
	}
	s := r.until("three are ready", func(s State) bool { return len(s.Components) == 3 && s.AllReady() })
	left, err := process.Of(s.get("y").PID)
	if err != nil {
		t.Fatal(err)
	}

	// What is forgotten is neither told to end nor started again when somebody ends it.
	if err := send(t, changes, Change{Remove: []string{"x", "y", "nobody"}}); err != nil {
		t.Fatal(err)
	}
	r.until("only the first is known", func(s State) bool { return len(s.Components) == 1 && s.get("base").Phase == Ready })
	if !left.Alive() {
		t.Error("the program was ended")
	}
	if err := send(t, changes, Change{Add: []Component{program("y", "steady", dir, "base")}}); err != nil {
		t.Fatal(err)
	}
	s = r.until("it is there again, as another", func(s State) bool { return len(s.Components) == 2 && s.AllReady() })
	if s.get("y").PID == left.PID || s.get("y").Starts != 1 {
		t.Errorf("the new component is %+v, the earlier had the pid %d", s.get("y"), left.PID)
	}
	if err := process.End(context.Background(), left, 0); err != nil {
		t.Error(err)
	}
}

func TestChangesThatCannotBeAreRefused(t *testing.T) {
	dir := t.TempDir()
	changes := make(chan Change)
	o := optionsIn(dir, program("a", "steady", dir), program("b", "steady", dir, "a"))
	o.Changes = changes
	r := run(t, o)
	r.until("ready", State.AllReady)
	for want, c := range map[string]Change{
		"component a is there twice":                    {Add: []Component{program("a", "steady", dir)}},
		"c depends on d, which does not come before it": {Add: []Component{program("c", "steady", dir, "d")}},
		"b depends on a, which does not come before it": {Remove: []string{"a"}},
	} {
		if err := send(t, changes, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if s := r.until("as before", State.AllReady); len(s.Components) != 2 {
		t.Errorf("components %+v", s.Components)
	}
}

func TestAForgottenBackOffEnds(t *testing.T) {
	dir := t.TempDir()
	changes := make(chan Change)
	o := optionsIn(dir, program("a", "crash", dir))
	o.Changes = changes
	r := run(t, o)
	r.until("in its third start", func(s State) bool { return s.get("a").Starts >= 3 })
	if err := send(t, changes, Change{Remove: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	r.until("nothing is left", func(s State) bool { return len(s.Components) == 0 })
}
