package local

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// NodeList prints the nodes of a cluster and where each stands on this machine; what
// the cluster thinks of them is in their Node objects.
func NodeList(o Options, out io.Writer) error {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return err
	}
	s, known, err := readSettings(l.settingsFile())
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%w: %s holds no cluster", ErrNotUp, l.Data)
	}
	state, alive, err := supervisor.ReadState(l.stateFile())
	if err != nil {
		return err
	}
	if !alive {
		state = supervisor.State{}
	}
	return printNodes(out, s, state)
}

func printNodes(out io.Writer, s Settings, state supervisor.State) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tSTATUS\tNETWORK")
	if !s.several() {
		fmt.Fprintf(w, "%s\t%s\t%s\tthis machine itself\n", s.NodeName, joinAddresses(s.NodeIP, s.NodeIP6), phaseOf(state, nameNode))
	}
	for _, n := range s.Nodes {
		network := n.Cut.String()
		if network == "" {
			network = "connected"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, joinAddresses(n.Address, s.second(n.Address)), statusOf(n, state), network)
	}
	return w.Flush()
}

// statusOf is a node's status in one word.
func statusOf(n NodeSettings, state supervisor.State) string {
	switch {
	case n.Deleting:
		return "Deleting"
	case n.Stopped:
		return "Stopped"
	case nodeReadyIn(state, n.Name):
		return string(supervisor.Ready)
	}
	for _, component := range nodeComponents(n.Name) {
		if phase := phaseOf(state, component); phase != string(supervisor.Ready) {
			return phase
		}
	}
	return string(supervisor.Starting)
}

func phaseOf(state supervisor.State, component string) string {
	for _, c := range state.Components {
		if c.Name == component {
			return string(c.Phase)
		}
	}
	return string(supervisor.Stopped)
}
