package local

import (
	"context"
	"fmt"
	"slices"
)

// cleanSeveral takes several nodes away as a power cut does, and then what connected
// them. Nothing of a node is outside of its namespaces, its cgroups and its folder, so
// nobody in it has to help.
func (d *downer) cleanSeveral(ctx context.Context) error {
	// What bears our mark is found even if somebody unmounted the pins of its node.
	if _, err := d.endLeftovers(ctx, d.programs.executables()); err != nil {
		return err
	}
	m := newMachine(d.layout, d.settings)
	names, err := m.Present()
	if err != nil {
		return err
	}
	for _, n := range d.settings.Nodes { // cgroups stay when the run directory is emptied
		if !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
	}
	for _, name := range names {
		if err := m.Remove(ctx, name); err != nil {
			return err
		}
	}
	p := plan{layout: d.layout, settings: d.settings, programs: d.programs}
	if err := d.runCleanup(ctx, p.hostProxyArgs()); err != nil {
		return err
	}
	if err := m.RemoveNetwork(ctx); err != nil {
		return fmt.Errorf("remove the network of nodes: %w", err)
	}
	d.say("  nodes, their containers, interfaces and rules are removed")
	return nil
}
