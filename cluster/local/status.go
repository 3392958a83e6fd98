package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// ErrNotUp is returned by Status unless every component is ready.
var ErrNotUp = errors.New("the cluster is not up")

// Status prints where each component stands.
func Status(o Options, out io.Writer) error {
	if _, err := os.Stat(o.DataDir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s", ErrNotUp, o.DataDir)
	}
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	state, alive, err := supervisor.ReadState(l.stateFile())
	if err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("%w: no supervisor is running for %s", ErrNotUp, l.Data)
	}
	if err := printState(out, state, time.Now()); err != nil {
		return err
	}
	s, known, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if known && s.several() {
		fmt.Fprintln(out)
		if err := printNodes(out, s, state); err != nil {
			return err
		}
	}
	if !state.AllReady() {
		return ErrNotUp
	}
	return nil
}

func printState(out io.Writer, state supervisor.State, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tSTATUS\tPID\tRESTARTS\tSINCE\tMESSAGE")
	fmt.Fprintf(w, "%s\t%s\t%d\t0\t%s\t\n", nameSupervisor, supervisor.Ready, state.Supervisor.PID, duration.HumanDuration(now.Sub(state.StartedAt)))
	for _, c := range state.Components {
		pid := "-"
		if c.PID != 0 {
			pid = fmt.Sprint(c.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", c.Name, c.Phase, pid, max(0, c.Starts-1), duration.HumanDuration(now.Sub(c.Since)), c.Message)
	}
	return w.Flush()
}
